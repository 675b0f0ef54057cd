"""What trainings around a finished face generator share: frozen networks, losses, sheets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.devices import Device
from pipelines.images import to_pil
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.perceptual import Perceptual
from pipelines.models.published_faces import any_generator, any_perceptual
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.noise import seeded_noise
from pipelines.training.common import TOYBOX
from pipelines.training.face_codes import codes
from pipelines.training.face_data import FaceSet


def add_folders(options: argparse.ArgumentParser) -> None:
    """Add the options that name the frozen networks of the losses."""
    options.add_argument("--generator", type=Path, default=TOYBOX / "face_stylegan2")
    options.add_argument("--perceptual", type=Path, default=TOYBOX / "lpips_loss")
    options.add_argument("--identity", type=Path, default=TOYBOX / "face_identity")
    options.add_argument(
        "--drawn", type=int, default=0, help="faces that the generator draws, in place of renders"
    )
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
            any_perceptual(args.perceptual, device),
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


class DrawnFaces:
    """Pictures that a generator makes of codes it drew, for one whose photographs are not at hand.

    Picture i depends on i alone. Their codes `w` (N, w_dim) are known.
    """

    def __init__(self, generator: StyleGAN2, count: int) -> None:
        self.generator = generator
        z = seeded_noise((generator.config.z_dim,), range(count), generator.w_avg)
        self.w = mapped(generator, z, generator.config.truncation_psi)

    def __len__(self) -> int:
        return len(self.w)

    @torch.no_grad()
    def batch(self, rows: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_]) -> Tensor:
        """Return pictures (B, 3, S, S) in [-1, 1], some of them mirrored."""
        w = self.w[torch.from_numpy(rows).to(self.w.device)]
        images = self.generator.synthesis(self.generator.w_plus(w)).clamp(-1, 1)
        mirrored = torch.from_numpy(flips).to(images.device)[:, None, None, None]
        return torch.where(mirrored, images.flip(-1), images)


def faces_of(args: argparse.Namespace, generator: StyleGAN2) -> FaceSet | DrawnFaces:
    """Return what to train on: `--drawn` faces of the generator, or the renders in `--work`."""
    return DrawnFaces(generator, args.drawn) if args.drawn else FaceSet(args.work / "faces")


def known_codes(folder: Path, generator: StyleGAN2, faces: FaceSet | DrawnFaces) -> Tensor:
    """Return w (N, w_dim) of faces: of drawn ones, or where the generator started from renders.

    Raises:
        ValueError: it did not; `folder` says so.
    """
    if isinstance(faces, DrawnFaces):
        return faces.w
    require_warm_start(folder)
    return mapped(generator, codes(faces.faces, 0).to(generator.w_avg))


def require_warm_start(folder: Path) -> None:
    """Check that the generator in a folder started from renders.

    Raises:
        ValueError: it did not, or nothing tells.
    """
    log = folder / "training.json"
    if not log.is_file() or not json.loads(log.read_text())["warm_start"]:
        raise ValueError(f"{folder} knows no code of a rendered face: it had no warm start")


@torch.no_grad()
def mapped(generator: StyleGAN2, z: Tensor, psi: float = 1.0) -> Tensor:
    """Return w (N, w_dim) of codes z (N, z_dim)."""
    return torch.cat([generator.mapping(part, psi=psi) for part in z.split(1000)])


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
