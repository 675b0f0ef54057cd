"""The autoencoder FlexIT optimises in: VQGAN (Esser, Rombach, Ommer 2021, arXiv 2012.09841).

Opens a diffusers folder (VQModel) or the checkpoint of the original release, a Lightning file whose
tensors are renamed by `renamed`. Nothing is quantised on the way in or out: FlexIT's latents are
continuous, and diffusers' decode quantises unless told otherwise (PAPERS 1.1).

    release                         diffusers
    encoder.down.{i}                encoder.down_blocks.{i}
    decoder.up.{i}                  decoder.up_blocks.{levels - 1 - i}: its list starts at the top
    *.block.{j}, *.mid.block_1      *.resnets.{j}, *.mid_block.resnets.0
    *.attn.{j}, *.mid.attn_1        *.attentions.{j}, *.mid_block.attentions.0
    q, k, v, proj_out (1x1 conv)    to_q, to_k, to_v, to_out.0 (linear)
    norm, nin_shortcut, norm_out    group_norm, conv_shortcut, conv_norm_out
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import VQModel
from torch import Tensor

from pipelines import hub, weights
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models.parts import DIFFUSERS, open_part

RESOLUTION_PX = 288
"""FlexIT's; latents are then 18 x 18."""
CHECKPOINTS = ("last.ckpt", "model.ckpt", "pytorch_model.bin")
"""Names under which the release and its copies lie."""
_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
_NAMES = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.downsample\.conv\.", ".downsamplers.0.conv."),
    (r"\.upsample\.conv\.", ".upsamplers.0.conv."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
)
_UP = re.compile(r"^decoder\.up\.(\d+)\.")


class VQGAN:
    """A VQModel in evaluation mode and float32, never modified.

    Shapes: images (B, 3, H, W) in [-1, 1]; latents0 (B, C, h, w), where (C, h, w) is `latent_shape`
    for pictures of `resolution`.
    """

    def __init__(
        self, vqmodel: VQModel, *, fingerprint: str, origin: str = "",
        resolution_px: int = RESOLUTION_PX,
    ) -> None:  # fmt: skip
        self.vqmodel = vqmodel.eval().requires_grad_(False)
        self.fingerprint, self.origin = fingerprint, origin
        self.resolution = resolution_px
        side = resolution_px // 2 ** (len(vqmodel.config.block_out_channels) - 1)
        self.latent_shape = (int(vqmodel.quant_conv.out_channels), side, side)

    @classmethod
    def from_folder(
        cls, folder: Path, device: Device, *, resolution_px: int = RESOLUTION_PX
    ) -> VQGAN:
        """Load a diffusers folder or the release's checkpoint; nothing in it is run.

        Raises:
            InputError: there is neither, or it is damaged or of another architecture.
        """
        checkpoint = next((folder / one for one in CHECKPOINTS if (folder / one).is_file()), None)
        if checkpoint is None:
            vqmodel = open_part(VQModel, folder, torch.float32)
            used = hub.weights_in(folder, DIFFUSERS)
        else:
            vqmodel, used = from_checkpoint(checkpoint), checkpoint
        return cls(
            vqmodel.to(device.torch_device),
            fingerprint=weights.fingerprint(folder, [used]),
            origin=hub.origin(folder),
            resolution_px=resolution_px,
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.vqmodel.device

    @property
    def dtype(self) -> torch.dtype:
        """In what it computes: float32, which FlexIT's gradients need."""
        return self.vqmodel.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.vqmodel.parameters())

    def encode_images(self, images: Tensor) -> Tensor:
        """Return latents0 (B, C, h, w) of images in [-1, 1], not quantised."""
        latents: Tensor = self.vqmodel.encode(images.to(self.device)).latents
        return latents

    def decode_latents(self, latents0: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1] of latents0; differentiable."""
        decoded: Tensor = self.vqmodel.decode(latents0, force_not_quantize=True).sample
        return decoded.clamp(-1, 1)


def from_checkpoint(path: Path) -> VQModel:
    """Return the network of a checkpoint in either layout; its architecture is read off it.

    Raises:
        InputError: the file is damaged, would run code, or holds no VQGAN.
    """
    tensors = weights.read_tensors(path)
    kept = {name: value for name, value in tensors.items() if name.startswith(_PARTS)}
    config = path.with_name("config.json")
    known = json.loads(config.read_text()) if config.is_file() else {}
    if any(name.startswith("encoder.down.") for name in kept):
        kept = renamed(kept)
    if "encoder.down_blocks.0.resnets.0.conv1.weight" not in kept:
        raise InputError(f"{path} holds no VQGAN: it has no encoder with levels of blocks.")
    is_config = known.get("_class_name") == "VQModel"
    vqmodel = VQModel.from_config(known) if is_config else VQModel(**architecture(kept))
    weights.load_tensors(vqmodel, kept, path)
    return vqmodel


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the release's tensors under diffusers' names (the table above)."""
    levels = 1 + max(int(found[1]) for found in map(_UP.match, tensors) if found)
    result = {}
    for name, value in tensors.items():
        name = _UP.sub(lambda found: f"decoder.up_blocks.{levels - 1 - int(found[1])}.", name)
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        is_linear = "attentions" in name and value.ndim == 4
        result[name] = value.flatten(1) if is_linear else value  # (out, in, 1, 1) -> (out, in)
    return result


def architecture(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of the VQModel that such tensors (in diffusers' names) belong to."""
    widths = []
    while (key := f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight") in tensors:
        widths.append(len(tensors[key]))
    attended = [
        f"encoder.down_blocks.{i}.attentions.0.to_q.weight" in tensors for i in range(len(widths))
    ]
    layers = 0
    while f"encoder.down_blocks.0.resnets.{layers}.conv1.weight" in tensors:
        layers += 1
    down, up = "DownEncoderBlock2D", "UpDecoderBlock2D"
    return {
        "block_out_channels": tuple(widths),
        "down_block_types": tuple(f"Attn{down}" if has else down for has in attended),
        "up_block_types": tuple(f"Attn{up}" if has else up for has in attended[::-1]),
        "layers_per_block": layers,
        "latent_channels": len(tensors["encoder.conv_out.weight"]),
        "vq_embed_dim": len(tensors["quant_conv.weight"]),
        "num_vq_embeddings": len(tensors["quantize.embedding.weight"]),
    }
