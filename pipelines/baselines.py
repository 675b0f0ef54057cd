"""The two baselines that edit nothing: Copy and Encode (FlexIT, sec. 4; DiffEdit, sec. 5.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.edits import Edits, encoded_images
from pipelines.memo import Memo
from pipelines.method_params import CopyParams, EncodeParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.results import OnStep


def copy(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: CopyParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Return the input: no distance, no success."""
    return Edits(images)


@torch.no_grad()
def encode(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: EncodeParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Return the input after the autoencoder: the distance no latent method can go below."""
    return Edits(model.decode_latents(encoded_images(model, images, memo)))
