"""Two versions of a picture of which one is nearer to it by construction.

Stands in for human judgements of similarity, which this world has none of: the same distortion of
the same picture, once at a known smaller and once at a known larger strength; and a moved picture
beside the same one spoilt in another way as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Rng = np.random.Generator
LEAST, GAP = 0.1, 0.15  # of the smaller strength, and between the two

Distortion = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(images (B, 3, H, W), label maps (B, H, W), strengths (B,) in [0, 1], seed) -> images."""


def draw(rng: Rng, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return uniform numbers."""
    return torch.from_numpy(rng.uniform(low, high, shape)).float()


def per_image(values: Tensor) -> Tensor:
    """Return (B,) as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def blur(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Blur with a Gaussian of up to 3 pixels."""
    x = torch.arange(-8.0, 9.0)
    kernel = (-x.square() / (2 * (3 * strengths[:, None]).clamp(min=0.1).square())).softmax(1)
    kernel = kernel.repeat_interleave(3, 0)[:, None]  # (3 B, 1, 17)
    flat = F.pad(images, (8, 8, 8, 8), mode="replicate").flatten(0, 1)[None]
    rows = F.conv2d(flat, kernel[:, :, None], groups=len(kernel))
    return F.conv2d(rows, kernel[..., None], groups=len(kernel)).view_as(images)


def noise(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Add white noise of a standard deviation up to 0.4."""
    rng = np.random.default_rng(seed)
    white = torch.from_numpy(rng.standard_normal(images.shape)).float()
    return images + 0.4 * per_image(strengths) * white


def moved(images: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return images turned by `angle` radians and moved by (x, y) halves of their side."""
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([cos, -sin, x, sin, cos, y], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def shift(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Move by up to 12 pixels of 128 in a direction of the seed's."""
    angle = draw(np.random.default_rng(seed), (len(images),), 0, 2 * math.pi)
    far = 24 / 128 * strengths
    return moved(images, torch.zeros_like(far), far * angle.cos(), far * angle.sin())


def turn(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Turn by up to 15 degrees."""
    side = draw(np.random.default_rng(seed), (len(images),)).sub(0.5).sign()
    still = torch.zeros_like(side)
    return moved(images, side * strengths * math.radians(15), still, still)


def tint(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Blend towards one colour, at most half."""
    colour = draw(np.random.default_rng(seed), (len(images), 3, 1, 1), -1, 1)
    return images.lerp(colour.expand_as(images), 0.5 * per_image(strengths))


def brightness(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Lighten or darken by up to 0.6."""
    side = draw(np.random.default_rng(seed), (len(images),)).sub(0.5).sign()
    return (images + 0.6 * per_image(strengths * side)).clamp(-1, 1)


def occlude(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Cover up to a quarter of the picture with a square of one colour around one spot."""
    rng = np.random.default_rng(seed)
    spot, colour = draw(rng, (len(images), 2), 0.25, 0.75), draw(rng, (len(images), 3), -1, 1)
    y, x = (torch.arange(n) / n for n in images.shape[-2:])
    away = torch.maximum(
        (y[:, None] - spot[:, 0, None, None]).abs(), (x - spot[:, 1, None, None]).abs()
    )  # (B, H, W)
    inside = (away < 0.25 * strengths.sqrt()[:, None, None])[:, None]
    return torch.where(inside, colour[..., None, None], images)


def coarsen(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Round the picture's 8-pixel cosine coefficients to steps of up to 2.5, as a JPEG does."""
    u, x = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = ((2 * x + 1) * u * math.pi / 16).cos() / 2
    basis[0] /= math.sqrt(2)  # orthonormal
    blocks = images.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, H / 8, W / 8, 8, 8)
    step = (2.5 * strengths).clamp(min=0.01).view(-1, 1, 1, 1, 1, 1)
    rounded = (basis @ blocks @ basis.T / step).round() * step
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(images.shape)


def recolour(images: Tensor, labels: Tensor, strengths: Tensor, seed: int) -> Tensor:
    """Swap colour channels in one thing where the strength is below a half, else everywhere."""
    one_thing = labels == labels.flatten(1).amax(1)[:, None, None]
    everywhere = (strengths >= 0.5)[:, None, None]
    return torch.where((one_thing | everywhere)[:, None], images.roll(1, 1), images)


DISTORTIONS: dict[str, Distortion] = {
    "blur": blur,
    "noise": noise,
    "shift": shift,
    "turn": turn,
    "tint": tint,
    "brightness": brightness,
    "occlude": occlude,
    "coarsen": coarsen,
    "recolour": recolour,
}


GEOMETRIC = ("shift", "turn")
SPOILT = "moved and spoilt"
KINDS = (*DISTORTIONS, SPOILT)


def triplets(images: Tensor, labels: Tensor, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the nearer and the farther version of every image, by one of KINDS.

    Both take all but the strength from the seed: the noise, the direction, the spot.
    """
    if kind == SPOILT:
        return moved_and_spoilt(images, labels, seed)
    rng = np.random.default_rng((seed, 1))
    if kind == "recolour":
        low, high = torch.zeros(len(images)), torch.ones(len(images))
    else:
        low = draw(rng, (len(images),), LEAST, 1 - GAP)
        high = low + GAP + (1 - GAP - low) * draw(rng, (len(images),))
    distort = DISTORTIONS[kind]
    return distort(images, labels, low, seed), distort(images, labels, high, seed)


def moved_and_spoilt(images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return images moved, and the same moved images distorted in another way besides.

    Nothing of the second undoes the first, but a blur or a tint of what has moved lowers the
    squared error: here pixels and eyes disagree.
    """
    rng = np.random.default_rng((seed, 2))
    others = [name for name in DISTORTIONS if name not in GEOMETRIC]
    first, second = str(rng.choice(GEOMETRIC)), str(rng.choice(others))
    strengths = draw(rng, (2, len(images)), 0.3, 1)
    near = DISTORTIONS[first](images, labels, strengths[0], seed)
    return near, DISTORTIONS[second](near, labels, strengths[1], seed + 1)
