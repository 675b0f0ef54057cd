"""Mean intersection over union of segmentations, as the papers on layouts count it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class MeanIoU:
    """Sums intersections and unions over pictures; a class counts where it occurs in the truth."""

    def __init__(self, classes: int) -> None:
        """`classes` with the background, which is class 0 and never counted."""
        self.classes = classes
        self.added: list[Tensor] = []  # (3, classes) each: intersection, union, area of the truth

    def add(self, predicted: Tensor, wanted: Tensor, counted: Tensor | None = None) -> None:
        """Add class maps (B, H, W) int64, over the pixels `counted` (B, H, W) bool, or all."""
        counted = torch.ones_like(wanted, dtype=torch.bool) if counted is None else counted
        size = self.classes
        joint = torch.bincount(wanted[counted] * size + predicted[counted], minlength=size**2)
        joint = joint.view(size, size).double().cpu()
        both, truth = joint.diagonal(), joint.sum(1)
        self.added.append(torch.stack([both, joint.sum(0) + truth - both, truth]))

    def by_class(self) -> dict[int, float]:
        """Return the IoU of every class of the truth."""
        if not self.added:
            return {}
        both, either, truth = torch.stack(self.added).sum(0)
        seen = [k for k in range(1, self.classes) if truth[k] > 0]
        return {k: float(both[k] / either[k]) for k in seen}

    def value(self) -> float:
        """Return the mean over classes; nan where none occurred."""
        ious = list(self.by_class().values())
        return sum(ious) / len(ious) if ious else float("nan")

    def standard_error(self, seed: int, draws: int = 500) -> float:
        """Return the bootstrap's standard error of `value` over what was added."""
        n = len(self.added)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)  # (draws, n)
        counts = torch.stack(self.added)[..., 1:]  # (n, 3, classes - 1)
        both, either, truth = torch.einsum(
            "dn,nac->adc", torch.from_numpy(drawn).double(), counts
        )  # (draws, classes - 1) each
        ious = torch.where(truth > 0, both / either, torch.nan)
        return float(ious.nanmean(1).std())
