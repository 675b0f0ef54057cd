"""The judges of CLIP2GAN's protocol: networks that took no part in any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from pipelines.benchmarks.face_judges import BATCH, held_out_faces, rendered
from pipelines.devices import Device
from pipelines.metrics.frechet import JudgeFeatures
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.face_judge import FaceJudge, FaceVerdict
from pipelines.models.perceptual import Perceptual


@dataclass(frozen=True)
class Judges:
    """Networks that took no part in any training, and what they are told of real faces."""

    judge: FaceJudge
    identity: FaceIdentity
    perceptual: Perceptual
    frechet: FrechetInceptionDistance

    def distance(self, images: Tensor) -> float:
        """Return the Frechet distance of a set of pictures to real ones."""
        self.frechet.reset()
        self.frechet.update(images, real=False)
        return float(self.frechet.compute())


def load_judges(folder: Path, device: Device, real: int) -> Judges:
    """Return the judges, the Frechet distance told `real` held-out renders."""
    judge = FaceJudge.from_folder(folder / "face_judge", device)
    frechet = FrechetInceptionDistance(JudgeFeatures(judge), reset_real_features=False)
    frechet = frechet.to(device.torch_device)
    for faces in held_out_faces(3_000_000, real):
        frechet.update(rendered(faces).to(device.torch_device), real=True)
    return Judges(
        judge,
        FaceIdentity.from_folder(folder / "face_identity_eval", device),
        Perceptual.from_folder(folder / "lpips_eval", device),
        frechet,
    )


def judged(judge: FaceJudge, images: Tensor) -> FaceVerdict:
    """Return the verdict on pictures, on the CPU."""
    verdict = judge(images)
    return FaceVerdict(
        {name: value.cpu() for name, value in verdict.numbers.items()},
        {name: value.cpu() for name, value in verdict.choices.items()},
    )


def apart(perceptual: Perceptual, images: Tensor, others: Tensor) -> list[float]:
    """Return the LPIPS of pairs of pictures."""
    pairs = zip(images.split(BATCH), others.split(BATCH), strict=True)
    return torch.cat([perceptual.distance(*pair) for pair in pairs]).tolist()
