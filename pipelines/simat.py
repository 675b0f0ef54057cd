"""SIMAT: move a picture's embedding by the difference of two words, and see what lies there.

Couairon, Douze, Cord, Schwenk. Embedding arithmetic of multimodal queries for image retrieval.
CVPR workshops 2022, https://arxiv.org/abs/2112.03162 (thesis, chapter 3).

    E_img(I), E_txt(w)   -> image_embeds, text_embeds, as an encoder gives them
    h_img, h_txt, n      -> `adapt`: the head if there is one, then unit length
    lambda               -> scale
    x (eq. 3.2)          -> `transform`

All embeddings below `adapt` are adapted ones, float32 (B, D) unit vectors, and so are those in the
index. The words' embeddings of the release are not of unit length when they enter the heads; ours
are, in training and in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Searchable(Protocol):
    """Vectors of which the nearest to a query are found, `models.retrieval_index.VectorIndex`."""

    def __len__(self) -> int:
        """Return how many vectors there are."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return inner products and row numbers (B, k), the largest first."""


@dataclass(frozen=True, eq=False)
class Retrieved:
    """scores (B, k) inner products, the largest first; rows (B, k) of the index."""

    scores: Tensor
    rows: Tensor


def simat(
    index: Searchable,
    image_embeds: Tensor,
    deltas: Tensor,
    *,
    scale: float,
    k: int,
    itself: Sequence[int] | None = None,
) -> Retrieved:
    """Return what lies closest to each picture moved along its delta (sec. 3.3.2).

    Args:
        index: n(h_img(E_img(.))) of the pictures to choose from.
        deltas: (B, D) of `word_delta` or `sentence_delta`.
        itself: rows of the query pictures in the index, which are no answer.
    """
    return nearest(index, transform(image_embeds, deltas, scale), k, itself=itself)


def adapt(embeds: Tensor, head: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return n(h(embeds)), or n(embeds) without a head."""
    return F.normalize(embeds if head is None else head(embeds), dim=-1)


def word_delta(source_embeds: Tensor, target_embeds: Tensor) -> Tensor:
    """Return the delta vectors of single words."""
    return target_embeds - source_embeds


def sentence_delta(caption_embeds: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return the mean of E(s2) - E(s1) over pairs of captions, (D,) (sec. 3.4.4).

    Args:
        caption_embeds: (N, D).
        pairs: (row of s1, row of s2) wherever s2 is s1 with the word changed; at least one.
    """
    before, after = torch.tensor(pairs).T
    return (caption_embeds[after] - caption_embeds[before]).mean(0)


def transform(image_embeds: Tensor, deltas: Tensor, scale: float) -> Tensor:
    """Return x (eq. 3.2), not normalised again."""
    return image_embeds + scale * deltas


def nearest(
    index: Searchable, queries: Tensor, k: int, *, itself: Sequence[int] | None = None
) -> Retrieved:
    """Return the k nearest of each query other than `itself`; fewer where the index has fewer."""
    if itself is None:
        return Retrieved(*index.search(queries, min(k, len(index))))
    scores, rows = index.search(queries, min(k + 1, len(index)))
    is_own = rows == torch.tensor(itself).unsqueeze(1)
    # own rows to the end; where there are none, the last one of k + 1 is cut instead
    order = is_own.to(torch.uint8).argsort(dim=1, stable=True)[:, : rows.shape[1] - 1]
    return Retrieved(scores.gather(1, order), rows.gather(1, order))


# ---------------------------------------------------------------- baselines (sec. 3.4.1)


def text_to_image(
    index: Searchable, caption_embeds: Tensor, k: int, *, itself: Sequence[int] | None = None
) -> Retrieved:
    """Return what lies closest to the wanted caption, which the method itself is not given."""
    return nearest(index, caption_embeds, k, itself=itself)


def image_to_text_to_image(
    index: Searchable,
    image_embeds: Tensor,
    caption_embeds: Tensor,
    deltas: Tensor,
    *,
    scale: float,
    k: int,
    itself: Sequence[int] | None = None,
) -> Retrieved:
    """Move the caption (of N, D) that lies closest to each picture instead of the picture."""
    closest = (image_embeds @ caption_embeds.T).argmax(1)
    return simat(index, caption_embeds[closest], deltas, scale=scale, k=k, itself=itself)


def image_only(
    index: Searchable, image_embeds: Tensor, k: int, *, itself: Sequence[int] | None = None
) -> Retrieved:
    """Return what lies closest to the picture unchanged."""
    return nearest(index, image_embeds, k, itself=itself)
