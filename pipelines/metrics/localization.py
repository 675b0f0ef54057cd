"""How local an edit is: the localization score of LELSD (Pajouheshgar et al. 2022, eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-12  # a change this small has no place


def combined(before: Tensor, after: Tensor, how: str) -> Tensor:
    """Return one mask (B, H, W) in [0, 1] of those of a part before and after the edit.

    Raises:
        ValueError: `how` is not "average", "union" or "intersection".
    """
    if how == "average":
        return (before + after) / 2
    if how == "union":
        return torch.maximum(before, after)
    if how == "intersection":
        return torch.minimum(before, after)
    raise ValueError(f'how must be "average", "union" or "intersection", got {how!r}')


def localization_scores(
    features: Sequence[Tensor], edited: Sequence[Tensor], masks: Tensor
) -> Tensor:
    """Return what part of the change of every layer lies inside the masks, (layers, B) in [0, 1].

    sum_ij s |r - r_edit|^2 / sum_ij |r - r_edit|^2, with the mask s averaged over the cells of
    each layer. The release samples it at points instead (bilinear, align_corners), which on 4 x 4
    cells passes over an earring.

    Args:
        features: (B, C, h, w) of each layer before the edit.
        edited: the same after it; the score is differentiable in these.
        masks: (B, H, W) in [0, 1].
    """
    scores = []
    for before, after in zip(features, edited, strict=True):
        change = (after - before).square().sum(1)  # (B, h, w)
        inside = F.adaptive_avg_pool2d(masks[:, None], change.shape[-2:]).squeeze(1)
        total = change.sum((1, 2)).clamp(min=SMALLEST)
        scores.append((change * inside).sum((1, 2)) / total)
    return torch.stack(scores)


def leakage(images: Tensor, edited: Tensor, masks: Tensor) -> Tensor:
    """Return what part of the squared change of the pixels lies outside the masks, (B,)."""
    return 1 - localization_scores([images], [edited], masks)[0]
