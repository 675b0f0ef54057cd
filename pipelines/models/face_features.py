"""The convolutions from which every network that reads clay faces is built, each with its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.judge import block

LEVELS = 3
POOLED_PX = 4  # side to which `flattened` pools: coarse, but it keeps where things are


class _Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            block(width, width, 1), nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.path(x))


class FaceFeatures(nn.Module):
    """Features of pictures (B, 3, H, H) in [-1, 1] at an eighth, a sixteenth and a 32nd of H."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        early = nn.Sequential(
            nn.PixelUnshuffle(2), block(12, width // 2, 1), block(width // 2, width, 2),
            block(width, width, 2), _Residual(width),
        )  # fmt: skip
        later = [nn.Sequential(block(width, width, 2), _Residual(width)) for _ in range(LEVELS - 1)]
        self.stages = nn.ModuleList([early, *later])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return LEVELS features (B, width, h, h), fine to coarse."""
        levels, x = [], images
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


def flattened(features: Tensor) -> Tensor:
    """Return features (B, C, h, h) averaged to POOLED_PX cells a side, (B, C * POOLED_PX^2)."""
    return F.adaptive_avg_pool2d(features, POOLED_PX).flatten(1)


class FaceReader(nn.Module):
    """Features, where in the picture they are, and two layers that answer."""

    def __init__(self, outputs: int, *, width: int, hidden: int) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.features = FaceFeatures(width)
        self.first = nn.Linear(LEVELS * width * POOLED_PX**2, hidden)
        self.second = nn.Linear(hidden, outputs)

    def describe(self, images: Tensor) -> Tensor:
        """Return what the last layer sees, (B, hidden), of images (B, 3, H, H) in [-1, 1]."""
        levels = [flattened(level) for level in self.features(images)]
        return F.relu(self.first(torch.cat(levels, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the answers (B, outputs)."""
        return self.second(self.describe(images))
