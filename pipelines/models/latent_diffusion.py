"""A latent diffusion model: autoencoder, text encoder, UNet and noise schedule in one bundle.

Opens a diffusers folder (Stable Diffusion 1 and 2 layout, the toybox's scene model included).
Latent scaling and the conversion of v-prediction to epsilon happen here and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.devices import Device
from pipelines.diffusion.schedule import EpsModel, NoiseSchedule, epsilon_from_v

logger = logging.getLogger(__name__)

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
FROZEN_BYTES = 2**28
"""Weights of a UNet up to which `frozen` may keep them a second time."""
MAX_BATCH = 64
"""Samples in one UNet call; larger batches are split, which bounds memory and changes nothing."""


class LatentDiffusion:
    """Networks of one diffusers folder, in evaluation mode and never modified.

    Shapes: images (B, 3, H, W) in [-1, 1]; latents0 (B, C, h, w) of about unit scale, where
    (C, h, w) is `latent_shape`; text_embeds (B, L, D).
    """

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler_config: dict[str, object],
        *,
        fingerprint: str,
    ) -> None:
        self.vae = vae.eval().requires_grad_(False)
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.unet = unet.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.schedule = NoiseSchedule.from_config(scheduler_config)
        self.fingerprint = fingerprint
        levels = len(vae.config.block_out_channels)
        self.latent_shape = (
            int(unet.config.in_channels),
            int(unet.config.sample_size),
            int(unet.config.sample_size),
        )
        self.resolution = int(unet.config.sample_size) * 2 ** (levels - 1)
        self._eps_model: EpsModel = epsilon_from_v(self._network, self.schedule)

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> LatentDiffusion:
        """Load a diffusers folder in `device`'s dtype; safetensors only, nothing downloaded."""
        options = {"torch_dtype": device.dtype, "use_safetensors": True, "local_files_only": True}
        vae_name = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
        if vae_name not in AUTOENCODERS:
            raise ValueError(f"{folder}/vae is a {vae_name}, expected one of {list(AUTOENCODERS)}")
        text_options = {"dtype": device.dtype, "use_safetensors": True, "local_files_only": True}
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", **options)
        vae = AUTOENCODERS[vae_name].from_pretrained(folder / "vae", **options)
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", **text_options)
        target = device.torch_device
        return cls(
            vae.to(target, memory_format=torch.channels_last),
            text_encoder.to(target),
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            unet.to(target, memory_format=torch.channels_last),
            json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
            fingerprint=weights_fingerprint(folder),
        )

    def with_unet(self, unet: UNet2DConditionModel) -> LatentDiffusion:
        """Return the same bundle around another UNet: a copy from `diffusion.attention`."""
        if unet is self.unet:
            return self
        other = copy.copy(self)
        other.unet, other._frozen = unet, None
        other._eps_model = epsilon_from_v(other._network, other.schedule)
        return other

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """In what the networks compute; latents themselves stay float32."""
        return self.unet.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, those that will be laid out again included."""
        parts = [self.vae, self.text_encoder, self.unet]
        parts += [self.unet] if pays_to_freeze(self.unet) else []
        return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())

    def warm_up(self) -> None:
        """Do now what the first prediction would wait for; `unet` may not change from then on."""
        _ = self._frozen

    @functools.cached_property
    def _frozen(self) -> Callable[..., Tensor] | None:
        return frozen(self.unet, self.tokenizer.model_max_length)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return latents0 (B, C, h, w) float32 of images in [-1, 1]: the posterior's mode."""
        encoded = self.vae.encode(images.to(self.device, self.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def decode_latents(self, latents0: Tensor) -> Tensor:
        """Return images (B, 3, H, W) float32 in [-1, 1] of latents0."""
        latents = (latents0 / self.vae.config.scaling_factor).to(self.dtype)
        return self.vae.decode(latents).sample.float().clamp(-1, 1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return text_embeds (B, L, D); the part of a text beyond L tokens is cut."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(self.device)).last_hidden_state

    def truncated_text(self, text: str) -> str:
        """Return the end of `text` that does not fit the text encoder ("" where all fits)."""
        ids = self.tokenizer(text, truncation=False, verbose=False).input_ids[1:-1]
        room = self.tokenizer.model_max_length - 2
        return self.tokenizer.decode(ids[room:]).strip() if len(ids) > room else ""

    def eps(self, latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        """Return the noise predicted in `latents` (B, C, h, w) at timestep t (int or (B,))."""
        return self._eps_model(latents, t, text_embeds)

    def _network(self, latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        size = len(latents)
        times = torch.as_tensor(t, device=latents.device).expand(size)
        text = text_embeds.expand(size, -1, -1)
        fits = latents.shape[1:] == self.latent_shape and not torch.is_grad_enabled()
        unet = self._frozen if self._frozen is not None and fits else Sampled(self.unet)
        outputs = [
            unet(
                latents[i : i + MAX_BATCH].to(self.dtype),
                times[i : i + MAX_BATCH],
                text[i : i + MAX_BATCH].to(self.dtype),
            ).to(latents.dtype)
            for i in range(0, size, MAX_BATCH)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class Sampled(nn.Module):
    """A UNet that returns its sample alone."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, times: Tensor, text_embeds: Tensor) -> Tensor:
        """Return the prediction (B, C, h, w)."""
        sample: Tensor = self.unet(latents, times, text_embeds, return_dict=False)[0]
        return sample


def pays_to_freeze(unet: UNet2DConditionModel) -> bool:
    """Return whether `frozen` helps: in float32 on a CPU, where the weights fit twice."""
    is_small = sum(p.numel() * p.element_size() for p in unet.parameters()) <= FROZEN_BYTES
    return is_small and unet.device.type == "cpu" and unet.dtype == torch.float32


@torch.no_grad()
def frozen(unet: UNet2DConditionModel, text_tokens: int) -> Callable[..., Tensor] | None:
    """Return `unet` traced and frozen, for calls without gradients; None where that does not pay.

    A CPU's convolutions want their weights in a layout of their own. Frozen weights are laid out
    once, others at every call; the result is the same to float tolerance.
    """
    if not pays_to_freeze(unet):
        return None
    size, width = int(unet.config.sample_size), int(unet.config.cross_attention_dim)
    latents = torch.zeros(2, int(unet.config.in_channels), size, size)
    text = torch.zeros(2, text_tokens, width)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every branch on a shape
            traced = torch.jit.trace(
                Sampled(unet).eval(), (latents, torch.zeros(2, dtype=torch.long), text),
                check_trace=False,
            )  # fmt: skip
            network: Callable[..., Tensor] = torch.jit.freeze(traced)
    except (RuntimeError, AttributeError) as error:  # TorchScript is on its way out of PyTorch
        logger.warning("the UNet runs as it is, since it cannot be frozen: %s", error)
        return None
    return network


def weights_fingerprint(folder: Path) -> str:
    """Return a short hash over the names and bytes of all weight files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
