"""Teach a text-to-image UNet where its words look: a loss on the cross-attention maps.

The noun of every thing should draw its attention from the pixels that show the thing (TokenCompose,
Wang et al. 2024, arXiv 2312.03626, eq. 3 and 4; there with masks of a segmentation network, here
with the label maps of the renderer).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from pipelines.data.spec import CLASSES, Scene
from pipelines.diffusion.attention import AttentionStore
from pipelines.training.scene_data import class_indices, thing_parts


def class_tokens(tokenizer: CLIPTokenizer, scenes: Sequence[Scene]) -> Tensor:
    """Return the token id of the class of every thing, (N, MOST_THINGS); -1 where there is none."""
    ids = tokenizer.convert_tokens_to_ids([f"{name}</w>" for name in CLASSES])
    return torch.tensor([*ids, -1])[class_indices(scenes)]  # index -1 is the last


def noun_masks(token_ids: Tensor, things: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which tokens are nouns, (B, L) bool, and what part of each pixel shows their thing.

    Args:
        token_ids: captions, (B, L).
        things: `class_tokens` of their scenes, (B, MOST_THINGS).
        labels: label maps, (B, H, W), 0 = background, i = the scene's thing i - 1.

    The second result is (B, L, H / 8, W / 8) in [0, 1], zero for other tokens. Where two things
    share a class, each of the two nouns stands for both.
    """
    names = (token_ids[:, :, None] == things[:, None, :]).float()  # (B, L, things)
    masks = torch.einsum("blt,bthw->blhw", names, thing_parts(labels)).clamp_(max=1)
    return names.any(-1), masks


def grounding_loss(store: AttentionStore, nouns: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over layers of token loss (eq. 3) plus pixel loss (eq. 4).

    Args:
        store: maps of the call to be judged.
        nouns: (B, L) bool.
        masks: (B, L, H, W) in [0, 1], of any size.
    """
    losses = []
    for name, per_head in store.maps.items():
        size = store.sizes[name]
        attention = per_head.float().mean(1).transpose(1, 2)  # (B, L, pixels)
        target = F.interpolate(masks, size, mode="area").flatten(2)  # (B, L, pixels)
        large_enough = nouns & (target.sum(-1) > 0.5)  # half a pixel of this layer
        attention, target = attention[large_enough], target[large_enough]  # (nouns, pixels)
        inside = (attention * target).sum(-1) / attention.sum(-1).clamp(min=1e-6)
        token = (1 - inside).square()
        pixel = F.binary_cross_entropy(attention.clamp(1e-5, 1 - 1e-5), target, reduction="none")
        losses.append((token + pixel.mean(-1)).sum() / max(len(token), 1))
    return torch.stack(losses).mean()
