"""The SIMAT score (Couairon et al. 2022; thesis, sec. 3.2.4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def inverse_sqrt_weights(words: Sequence[str]) -> list[float]:
    """Return 1 / sqrt(number of queries that replace the same word) for every query.

    The release stores that number as norm2, counted over both halves.
    """
    counts = Counter(words)
    return [1 / math.sqrt(counts[word]) for word in words]


def simat_score(successes: Sequence[bool], weights: Sequence[float]) -> float:
    """Return the weighted accuracy in [0, 1] (eq. 3.1)."""
    total = math.fsum(weights)
    return math.fsum(w for w, hit in zip(weights, successes, strict=True) if hit) / total


def standard_error(successes: Sequence[bool], weights: Sequence[float]) -> float:
    """Return the standard error of `simat_score`, queries taken as independent."""
    score, total = simat_score(successes, weights), math.fsum(weights)
    squares = ((w * (hit - score)) ** 2 for w, hit in zip(weights, successes, strict=True))
    return math.sqrt(math.fsum(squares)) / total
