"""ZestGuide: zero-shot segmentation guidance from the cross-attention of a diffusion model.

Couairon, Careil, Cord, Lathuiliere, Verbeek. Zero-shot spatial layout conditioning for
text-to-image diffusion models. ICCV 2023, arXiv 2306.13754; equation numbers are those of the
thesis, chapter 6.

    paper           here
    T, T_i          words.texts, words.tokens: the text, the tokens of segment i in it
    S_i             words.masks
    S_hat_i         segmentation(...)[:, i], eq. 6.3
    L_Zest          zest_loss, eq. 6.4
    eta, tau        params.eta, params.tau
    lambda(t)       sqrt(1 - abar_t), from one to zero as eq. 6.1 has it
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.classifier_guidance import SMALLEST, classifier_guidance, cross_entropy
from pipelines.diffusion.attention import AttentionStore, capture
from pipelines.layouts import Layout
from pipelines.method_params import ZestGuideParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.painting import Paintings, Words, painted_eps, words_of
from pipelines.results import OnStep


def zestguide(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: ZestGuideParams,
    *,
    seeds: Sequence[int],
    initial: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each layout, led by the gradient of a loss on attention maps.

    `seeds` (one per layout) decides the starting noise, the only randomness. With `initial`, only
    the painted segments change (see `classifier_guidance`).

    Raises:
        PhraseError: the words of a segment are beyond the model's last token.
        ValueError: more layouts than one call of the UNet takes.
    """
    words = words_of(model, layouts)
    text = model.embed_text(words.texts)
    if params.paint_with_words == 0:
        watched, store = model.watched()
        eps = watched.eps
    else:
        unet, store = capture(model.unet)  # its maps are those without paint-with-words
        eps = painted_eps(model, unet, words, params.paint_with_words)

    def criterion(latents: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        eps_text = eps(latents, t, text)
        shown = [segmentation(maps, words) for maps in maps_of(store, params)]
        store.clear()
        return eps_text, zest_loss(shown, words, params), shown[0]

    return classifier_guidance(
        model, words, params, criterion, seeds=seeds, paint_with_words=params.paint_with_words,
        initial=initial, on_step=on_step,
    )  # fmt: skip


def zest_loss(segmentations: Sequence[Tensor], words: Words, params: ZestGuideParams) -> Tensor:
    """Return L_Zest (eq. 6.4) of every image, (B,); averaged over segmentations (B, K, h, w)."""
    losses = []
    for shown in segmentations:
        wanted = words.wanted_at(shown.shape[-2:])
        peaks = shown.amax((2, 3), keepdim=True).clamp(min=SMALLEST)
        terms = {"plain": cross_entropy(shown, wanted)}
        terms["normalised"] = cross_entropy(shown / peaks, wanted)
        terms["both"] = terms["plain"] + terms["normalised"]
        losses.append((terms[params.loss] * words.strengths).sum(1))  # sum over segments
    return torch.stack(losses).mean(0)


def segmentation(maps: Tensor, words: Words) -> Tensor:
    """Return S_hat (B, K, h, w): attention maps (B, h, w, L) summed over each segment's tokens.

    In float32, whatever the network computes in: the loss takes its logarithm.
    """
    return torch.einsum("bhwl,bkl->bkhw", maps.float(), words.tokens)


def maps_of(store: AttentionStore, params: ZestGuideParams) -> list[Tensor]:
    """Return the maps (B, h, w, L) that the loss reads: their mean, or those of layers or heads.

    Means are taken at the finest grid of the chosen layers (eq. 6.3; averaging as in Table 6.2,
    layers as in Table 6.4). A model without such layers gives all it has.
    """
    sizes = {"16 and 32": (16, 32), "16": (16,), "32": (32,)}.get(params.layers, ())
    half = {"encoder": "down_blocks", "decoder": "up_blocks"}.get(params.layers)
    layers = [
        name
        for name, size in store.sizes.items()
        if max(size) in sizes or (half and name.startswith(half))
    ] or list(store.sizes)
    finest = max(store.sizes[name] for name in layers)
    if params.averaging == "global":
        return [store.average(finest, layers)]
    if params.averaging == "layers":
        return [store.average(finest, [name]) for name in layers]
    return [
        store.maps[name][:, head].float().unflatten(1, store.sizes[name])
        for name in layers
        for head in range(store.maps[name].shape[1])
    ]
