"""What trainings around a finished face generator share: frozen networks, losses, sheets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.faces import Face
from pipelines.devices import Device
from pipelines.images import to_pil
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.perceptual import Perceptual
from pipelines.models.published_faces import any_generator
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.training.common import TOYBOX
from pipelines.training.face_codes import codes


def add_folders(options: argparse.ArgumentParser) -> None:
    """Add the options that name the frozen networks of the losses."""
    options.add_argument("--generator", type=Path, default=TOYBOX / "face_stylegan2")
    options.add_argument("--perceptual", type=Path, default=TOYBOX / "lpips_loss")
    options.add_argument("--identity", type=Path, default=TOYBOX / "face_identity")
    options.add_argument("--warm-start-minutes", type=float, default=0.0, help="codes first")


def device_of(args: argparse.Namespace) -> Device:
    """Return where a script trains, in float32."""
    return Device(args.device, torch.device(args.device), torch.float32)


@dataclass(frozen=True)
class Likeness:
    """A frozen generator, and how alike its pictures and others are."""

    generator: StyleGAN2
    perceptual: Perceptual
    identity: FaceIdentity

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Likeness:
        """Load the networks that `add_folders` names."""
        device = device_of(args)
        return cls(
            any_generator(args.generator, device),
            Perceptual.from_folder(args.perceptual, device),
            FaceIdentity.from_folder(args.identity, device),
        )

    def sized(self, images: Tensor) -> Tensor:
        """Return pictures at the generator's size."""
        size_px = self.generator.config.size_px
        return images if images.shape[-1] == size_px else F.adaptive_avg_pool2d(images, size_px)

    def losses(self, images: Tensor, made: Tensor) -> dict[str, Tensor]:
        """Return "rec", mean squares, "lpips", and "id", 1 - cosine of identities; batch means."""
        alike = (self.identity(images) * self.identity(made)).sum(1)
        return {
            "rec": (images - made).square().mean(),
            "lpips": self.perceptual.distance(images, made).mean(),
            "id": (1 - alike).mean(),
        }


@torch.no_grad()
def known_codes(folder: Path, generator: StyleGAN2, faces: Sequence[Face]) -> Tensor:
    """Return w (N, w_dim) of rendered faces, known where the generator had a warm start from them.

    Raises:
        ValueError: it had none; `folder` says so.
    """
    if not json.loads((folder / "training.json").read_text())["warm_start"]:
        raise ValueError(f"{folder} knows no code of a rendered face: it had no warm start")
    z = codes(faces, 0).to(generator.w_avg)
    return torch.cat([generator.mapping(part) for part in z.split(1000)])


def weighted(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return the sum of losses, each times its weight."""
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def numbers_of(losses: dict[str, Tensor]) -> dict[str, float]:
    """Return losses as the log takes them."""
    return {name: loss.item() for name, loss in losses.items()}


def write_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Write rows of pictures, each (B, 3, S, S), as one picture."""
    grid = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil(grid[None])[0].save(path)
