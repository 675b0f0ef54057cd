"""Randomness from a visitor's seed: one generator per image, one stream per use."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def seeded_noise(shape: Sequence[int], seeds: Sequence[int], like: Tensor) -> Tensor:
    """Return standard normal noise of which image i depends on `seeds[i]` only.

    Drawn on the CPU in float32, then moved, so that a seed means the same picture on every
    device and in every batch (the per-image generators of NVlabs/edm `StackedRandomGenerator`).

    Args:
        shape: (C, h, w) of one image.
        seeds: one integer for each image of the batch, 0 <= seed < 2**64.
        like: a tensor whose device and dtype the result takes.

    Returns:
        (B, C, h, w) with B = len(seeds).
    """
    return _seeded(torch.randn, shape, seeds, like)


def seeded_uniform(shape: Sequence[int], seeds: Sequence[int], like: Tensor) -> Tensor:
    """Return uniform numbers in [0, 1), (B, *shape), drawn as `seeded_noise` draws."""
    return _seeded(torch.rand, shape, seeds, like)


def _seeded(
    draw: Callable[..., Tensor], shape: Sequence[int], seeds: Sequence[int], like: Tensor
) -> Tensor:
    if not seeds:
        raise ValueError("seeds must hold one integer for each image, got none")
    draws = [draw(tuple(shape), generator=_generator(seed)) for seed in seeds]
    return torch.stack(draws).to(device=like.device, dtype=like.dtype)


def sub_seed(seed: int, *path: int | str) -> int:
    """Return the seed of the independent stream named `path` under a visitor's seed.

    `sub_seed(7, "mask", 0)` and `sub_seed(7, "mask", 1)` have nothing in common, and each is the
    same in every process (SHA-256, not Python's salted `hash`). 0 <= result < 2**63.
    """
    if not path:
        raise ValueError("a sub-seed needs a path, such as ('mask', 0)")
    key = (operator.index(seed), *(p if isinstance(p, str) else operator.index(p) for p in path))
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def _generator(seed: int) -> torch.Generator:
    seed = operator.index(seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed must lie in [0, 2**64), got {seed}")
    return torch.Generator(device="cpu").manual_seed(seed)
