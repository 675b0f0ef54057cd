"""Features for a Frechet distance between sets of toy scenes, or of clay faces."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Describer(Protocol):
    """A judge: `describe` returns features (B, width) of images (B, 3, 128, 128) in [-1, 1]."""

    width: int

    def describe(self, images: Tensor) -> Tensor:
        """Return the features."""


class JudgeFeatures(nn.Module):
    """A judge's last features.

    For torchmetrics' FrechetInceptionDistance, which then is no *Inception* distance: its values
    compare with each other only.
    """

    def __init__(self, judge: Describer) -> None:
        """Read from `judge`, whose weights stay its own."""
        super().__init__()
        self.judge = judge
        self.num_features = judge.width

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, width) of images (B, 3, 128, 128) in [-1, 1]."""
        return self.judge.describe(images)
