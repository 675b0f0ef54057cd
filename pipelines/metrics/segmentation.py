"""Mean intersection over union of segmentations, as the papers on layouts count it."""

from __future__ import annotations

import torch
from torch import Tensor


class MeanIoU:
    """Sums intersections and unions over pictures; a class counts where it occurs in the truth."""

    def __init__(self, classes: int) -> None:
        """`classes` with the background, which is class 0 and never counted."""
        self.both = torch.zeros(classes, dtype=torch.float64)
        self.either = torch.zeros(classes, dtype=torch.float64)
        self.wanted = torch.zeros(classes, dtype=torch.float64)

    def add(self, predicted: Tensor, wanted: Tensor, counted: Tensor | None = None) -> None:
        """Add class maps (B, H, W) int64, over the pixels `counted` (B, H, W) bool, or all."""
        counted = torch.ones_like(wanted, dtype=torch.bool) if counted is None else counted
        size = len(self.both)
        joint = torch.bincount(wanted[counted] * size + predicted[counted], minlength=size**2)
        joint = joint.view(size, size).double().cpu()
        self.both += joint.diagonal()
        self.wanted += joint.sum(1)
        self.either += joint.sum(0) + joint.sum(1) - joint.diagonal()

    def by_class(self) -> dict[int, float]:
        """Return the IoU of every class of the truth."""
        seen = [k for k in range(1, len(self.both)) if self.wanted[k] > 0]
        return {k: float(self.both[k] / self.either[k]) for k in seen}

    def value(self) -> float:
        """Return the mean over classes; nan where none occurred."""
        ious = list(self.by_class().values())
        return sum(ious) / len(ious) if ious else float("nan")
