"""From DiffEdit's difference map to a mask, without any network call.

The paper says "remove extreme values [...] rescale to [0, 1], binarise" (sec. 5.3.2) and its
difference map has the coarse grid of the latents. `thesis` is that and no more; `refined` smooths
the map and then follows the edges of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

THESIS_QUANTILE = 0.98


@dataclass(frozen=True)
class Refinement:
    """Settings of the refined recipe; the defaults are the best of `benchmarks masks`.

    Attributes:
        blur_cells: standard deviation of the Gaussian on the grid of the map.
        quantile: what lies above counts as extreme.
        radius_px, epsilon: window and flatness of the guided filter.
    """

    blur_cells: float = 0.7
    quantile: float = 0.95
    radius_px: int = 8
    epsilon: float = 1e-3


REFINED = Refinement()


def binarise(difference: Tensor, images: Tensor, recipe: str, threshold: float) -> Tensor:
    """Return masks (B, S, S) in {0, 1}, 1 = edit, of difference maps (B, h, w).

    Args:
        difference: any non-negative scale.
        images: (B, 3, S, S) in [-1, 1], whose edges the refined recipe follows.
        recipe: "thesis" or "refined".
        threshold: in (0, 1), on the rescaled map; 0.5 in the paper.
    """
    return (rescaled(difference, images, recipe) > threshold).float()


def rescaled(difference: Tensor, images: Tensor, recipe: str) -> Tensor:
    """Return the maps (B, S, S), about [0, 1], that a threshold makes masks of; see `binarise`."""
    if recipe == "thesis":
        maps = rescale(difference).unsqueeze(1)
        return F.interpolate(maps, size=images.shape[-2:], mode="nearest").squeeze(1)
    if recipe == "refined":
        return refine(difference, images, REFINED)
    raise ValueError(f"recipe must be thesis or refined, got {recipe!r}")


def refine(difference: Tensor, images: Tensor, refinement: Refinement) -> Tensor:
    """Return maps (B, S, S), about [0, 1], smooth but for the edges of images (B, 3, S, S)."""
    blurred = gaussian_blur(difference, refinement.blur_cells)
    maps = rescale(blurred, refinement.quantile).unsqueeze(1)
    maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear")
    guide = (images + 1) / 2
    return guided_filter(maps, guide, refinement.radius_px, refinement.epsilon).squeeze(1)


def rescale(difference: Tensor, quantile: float = THESIS_QUANTILE) -> Tensor:
    """Return maps (B, h, w) clipped at a quantile of their own and stretched to [0, 1]."""
    flat = difference.flatten(1)
    low = flat.amin(1).view(-1, 1, 1)
    high = flat.quantile(quantile, dim=1).view(-1, 1, 1)
    return ((difference - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Return maps (B, h, w) blurred with a Gaussian of `sigma` cells, edges repeated."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = (-0.5 * (offsets / sigma).square()).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(maps.unsqueeze(1), (reach,) * 4, mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return blurred.squeeze(1)


def guided_filter(maps: Tensor, guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """Return maps (B, 1, S, S) that follow the edges of guide (B, 3, S, S) in [0, 1].

    The colour guided filter (He, Sun, Tang 2010, eq. 19 and 20): in every window the map is taken
    for a linear function of the guide's colours. `epsilon` is the colour variance below which a
    window counts as flat.
    """

    def mean(values: Tensor) -> Tensor:
        padded = F.pad(values, (radius,) * 4, mode="reflect")
        across = F.avg_pool2d(padded, (1, 2 * radius + 1), stride=1)
        return F.avg_pool2d(across, (2 * radius + 1, 1), stride=1)

    guide_mean, map_mean = mean(guide), mean(maps)
    covariance = mean(guide * maps) - guide_mean * map_mean  # (B, 3, S, S)
    products = (guide.unsqueeze(1) * guide.unsqueeze(2)).flatten(1, 2)
    means = (guide_mean.unsqueeze(1) * guide_mean.unsqueeze(2)).flatten(1, 2)
    variance = (mean(products) - means).unflatten(1, (3, 3))  # (B, 3, 3, S, S)
    variance = variance.permute(0, 3, 4, 1, 2) + epsilon * torch.eye(3, device=guide.device)
    slope = torch.linalg.solve(variance, covariance.permute(0, 2, 3, 1).unsqueeze(-1))
    slope = slope.squeeze(-1).permute(0, 3, 1, 2)  # (B, 3, S, S)
    offset = map_mean - (slope * guide_mean).sum(1, keepdim=True)
    return (mean(slope) * guide).sum(1, keepdim=True) + mean(offset)


def feather(masks: Tensor, width_px: int) -> Tensor:
    """Return masks (B, S, S) whose border ramps from 0 to 1 over `width_px` inside the mask.

    What was 0 stays exactly 0, so the border never spreads; width 0 changes nothing.
    """
    if width_px == 0:
        return masks
    inside = masks
    ramp = torch.zeros_like(masks)
    for _ in range(width_px):
        ramp = ramp + inside / (width_px + 1)
        padded = F.pad(-inside.unsqueeze(1), (1,) * 4, value=0.0)
        inside = -F.max_pool2d(padded, 3, stride=1).squeeze(1)  # one erosion
    return ramp + inside / (width_px + 1)


def intersection_over_union(masks: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU (B,) of masks with the truth, both (B, S, S); 1 where both are empty."""
    masks, truth = masks > 0.5, truth > 0.5
    union = (masks | truth).flatten(1).sum(1)
    both = (masks & truth).flatten(1).sum(1)
    return torch.where(union > 0, both / union.clamp(min=1), 1.0)
