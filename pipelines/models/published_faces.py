"""Published models of photographed faces: StyleGAN2 and a parser, opened without running anything.

The generator comes in the layout of rosinality/stylegan2-pytorch ("stylegan2-ffhq-config-f.pt", a
dict of g_ema and latent_avg); the parser is a SegFormer that names its labels, as
jonathandinu/face-parsing does, or the BiSeNet of zllrunning/face-parsing.PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import SegformerForSemanticSegmentation

from pipelines import weights
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models import bisenet
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.face_parser import FaceParser
from pipelines.models.parts import open_part
from pipelines.models.perceptual import Perceptual
from pipelines.models.stylegan2 import StyleGAN2, config_of, rosinality_state
from pipelines.repositories import OPENAI_CLIPS, role_of

PARSED_PX = 512
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]
NEEDED = {"skin", "hair", "nose", "eyes"}
"""Parts without which a network is no parser of faces."""


def any_generator(folder: Path, device: Device) -> StyleGAN2:
    """Load the generator of a folder: what `StyleGAN2.save` wrote, else the published layout.

    Raises:
        InputError: there is neither, or the checkpoint is refused.
    """
    is_ours = (folder / "config.json").is_file()
    return (StyleGAN2.from_folder if is_ours else open_generator)(folder, device)


def any_parser(folder: Path, device: Device) -> FaceParser:
    """Load the parser of a folder: one of CelebAMask-HQ's parts, else of the clay faces'.

    Raises:
        InputError: a published one is refused.
    """
    config = folder / "config.json"
    is_published = not config.is_file() or '"l_eye"' in config.read_text()
    return (PublishedFaceParser.from_published if is_published else FaceParser.from_folder)(
        folder, device
    )


def any_perceptual(folder: Path, device: Device) -> Perceptual:
    """Load the distance of a folder: one that was trained here, else LPIPS over a published VGG-16.

    Raises:
        InputError: the published weights are refused.
    """
    config = folder / "config.json"
    is_ours = config.is_file() and "net" in json.loads(config.read_text())
    return (Perceptual.from_folder if is_ours else Perceptual.from_published)(folder, device)


def any_clip(folder: Path, device: Device) -> DualEncoder:
    """Load the CLIP of a folder: ours, else OpenAI's that the folder is called after.

    Raises:
        InputError: it is neither.
    """
    if (folder / "open_clip_config.json").is_file():
        return DualEncoder.from_folder(folder, device)
    for name, repository in OPENAI_CLIPS.items():
        if folder.name in (repository.ids[0].rpartition("/")[2], role_of(name)):
            return DualEncoder.from_pretrained(folder, device, name)
    raise InputError(f"{folder} is called after none of OpenAI's CLIPs and has no configuration.")


def open_generator(folder: Path, device: Device) -> StyleGAN2:
    """Load the checkpoint in a folder; it always computes in float32.

    Raises:
        InputError: there is none, it would run code, or it is damaged, incomplete or of another
            layout.
    """
    files = sorted(folder.rglob("*.pt"))
    if not files:
        raise InputError(f"{folder} has no checkpoint of StyleGAN2 (*.pt).")
    file = files[0]
    checkpoint = weights.read_checkpoint(file)
    for name in ("g_ema", "latent_avg"):
        if name not in checkpoint:
            raise InputError(
                f"{file} has no “{name}”: it is no generator in the layout of "
                "rosinality/stylegan2-pytorch. Choose the file that belongs to this model."
            )
    try:
        state = rosinality_state(checkpoint["g_ema"], checkpoint["latent_avg"])
        model = StyleGAN2(config_of(state))
    except (ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"{file} has no whole generator in the layout of rosinality/stylegan2-pytorch "
            f"({error}). Choose the file that belongs to this model."
        ) from error
    weights.load_tensors(model, state, file)
    return model.float().eval().requires_grad_(False).to(device.torch_device)


class PublishedFaceParser(FaceParser):
    """A parser that looks at PARSED_PX pixels in ImageNet's range, whatever it is given."""

    size_px = PARSED_PX

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 1 + K, H, W) of images (B, 3, H, W) in [-1, 1]."""
        mean, std = (images.new_tensor(one).view(1, 3, 1, 1) for one in (MEAN, STD))
        small = F.interpolate(images, (PARSED_PX, PARSED_PX), mode="bilinear", antialias=True)
        logits = super().forward(((small + 1) / 2 - mean) / std)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")

    @classmethod
    def from_published(cls, folder: Path, device: Device) -> PublishedFaceParser:
        """Load a BiSeNet, or a SegFormer whose config names parts of faces; always in float32.

        Raises:
            InputError: the weights are missing, damaged or of another architecture, or the labels
                are none of faces.
        """
        file = folder / bisenet.FILE
        parser = cls(
            bisenet.open_bisenet(file)
            if file.is_file()
            else open_part(SegformerForSemanticSegmentation, folder, torch.float32)
        )
        if absent := sorted(NEEDED - set(parser.parts)):
            raise InputError(
                f"{folder / 'config.json'} names no “{absent[0]}” among its labels: it is no "
                "parser of faces. Choose the files that belong to this model."
            )
        return parser.float().eval().requires_grad_(False).to(device.torch_device)
