"""The judge of clay faces: reads every attribute. For evaluation only, never in a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.devices import Device
from pipelines.models.face_features import FaceReader
from pipelines.models.storage import load_module, nbytes_of, save_module


@dataclass(frozen=True, eq=False)
class FaceVerdict:
    """What is read of B pictures: numbers in the attributes' own units, and logits of choices.

    Attributes:
        numbers: continuous attribute -> (B,).
        choices: discrete attribute -> (B, values), in the order of `FaceJudge.choices`.
    """

    numbers: dict[str, Tensor]
    choices: dict[str, Tensor]


class FaceJudge(nn.Module):
    """One number for each continuous attribute, one logit for each value of the discrete ones."""

    def __init__(
        self,
        ranges: Mapping[str, Sequence[float]],
        choices: Mapping[str, Sequence[str]],
        *,
        width: int = 64,
        hidden: int = 256,
    ) -> None:
        """Take what `data.faces` calls RANGES, and the values of its CHOICES."""
        super().__init__()
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        self.choices = {name: tuple(values) for name, values in choices.items()}
        self.sizes = [len(ranges), *(len(values) for values in self.choices.values())]
        self.reader = FaceReader(sum(self.sizes), width=width, hidden=hidden)

    def fractions(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the numbers (B, R), 0 and 1 the ends of their ranges, and logits (B, values)."""
        numbers, *logits = self.reader(images).split(self.sizes, 1)
        return numbers, logits

    def forward(self, images: Tensor) -> FaceVerdict:
        """Return what is read of images (B, 3, 128, 128) in [-1, 1]."""
        fractions, logits = self.fractions(images)
        low, high = torch.tensor(list(self.ranges.values()), device=images.device).T
        numbers = (low + fractions * (high - low)).T
        return FaceVerdict(
            dict(zip(self.ranges, numbers, strict=True)),
            dict(zip(self.choices, logits, strict=True)),
        )

    @property
    def width(self) -> int:
        """Length of a description."""
        return self.reader.hidden

    def describe(self, images: Tensor) -> Tensor:
        """Return features (B, width) for a Frechet distance."""
        return self.reader.describe(images)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors in float16."""
        sizes = {"width": self.reader.width, "hidden": self.reader.hidden}
        save_module(self, folder, {"ranges": self.ranges, "choices": self.choices, **sizes})

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> FaceJudge:
        """Load what `save` wrote; it always computes in float32."""
        return load_module(cls, folder, device)
