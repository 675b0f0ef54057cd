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
from torch.nn import functional as F

from pipelines.diffusion import ddim
from pipelines.diffusion.attention import AttentionStore, capture
from pipelines.diffusion.guidance import classifier_free
from pipelines.edits import Counter, report
from pipelines.layouts import Layout
from pipelines.method_params import ZestGuideParams
from pipelines.models.latent_diffusion import MAX_BATCH, LatentDiffusion
from pipelines.painting import Paintings, Words, painted_eps, starting_noise, words_of
from pipelines.results import OnStep

SMALLEST = 1e-6


@torch.no_grad()
def zestguide(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: ZestGuideParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each layout, led by the gradient of a loss on attention maps.

    `seeds` (one per layout) decides the starting noise, the only randomness.

    Raises:
        PhraseError: the words of a segment are beyond the model's last token.
        ValueError: more layouts than one call of the UNet takes.
    """
    if len(layouts) > MAX_BATCH:
        raise ValueError(f"at most {MAX_BATCH} layouts at once, got {len(layouts)}")
    words = words_of(model, layouts)
    text, empty = model.embed_text(words.texts), model.embed_text([""])
    captured, store = capture(model.unet)  # its maps are those without paint-with-words
    watched = Counter(painted_eps(model, captured, words, params.paint_with_words))
    eps_model = Counter(painted_eps(model, model.unet, words, params.paint_with_words))
    plain = Counter(model.eps)
    unguided = classifier_free(eps_model, text, empty, params.guidance_scale)
    tell = report(on_step, "painting", model)

    grid = model.schedule.grid(params.num_steps, 1.0)
    moves = len(grid) - 1
    latents = starting_noise(model, seeds)
    losses, attention = [], None
    for i in reversed(range(moves)):
        t, s = grid[i + 1], grid[i]
        if params.eta == 0 or moves - 1 - i >= params.tau * moves:
            latents = ddim.step(latents, unguided(latents, t), t, s, model.schedule)
        else:
            with torch.enable_grad():
                leaf = latents.requires_grad_()
                eps_text = watched(leaf, t, text)
                loss = zest_loss(store, words, params)  # (B,)
                (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            attention = segmentation(maps_of(store, params)[0], words).detach()
            store.clear()
            latents, eps_text = latents.detach(), eps_text.detach()
            eps_empty = plain(latents, t, empty)
            eps = eps_empty + params.guidance_scale * (eps_text - eps_empty)
            latents = ddim.step(latents, eps, t, s, model.schedule)
            if params.normalise_gradient:
                gradient = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
            _, sigma = model.schedule.alpha_sigma(t, latents)
            latents = latents - params.eta * sigma * gradient  # eq. 6.5
            losses.append(tuple(loss.tolist()))
        if tell is not None:
            tell(moves - 1 - i, moves, latents)
    return Paintings(
        model.decode_latents(latents),
        attention,
        tuple(losses),
        watched.samples + plain.samples + eps_model.samples,
        watched.samples,
    )


def zest_loss(store: AttentionStore, words: Words, params: ZestGuideParams) -> Tensor:
    """Return L_Zest (eq. 6.4) of every image, (B,); averaged over maps where these are several."""
    losses = []
    for maps in maps_of(store, params):
        shown = segmentation(maps, words)  # (B, K, h, w)
        wanted = words.masks_at(shown.shape[-2:])
        peaks = shown.amax((2, 3), keepdim=True).clamp(min=SMALLEST)
        terms = {"plain": cross_entropy(shown, wanted)}
        terms["normalised"] = cross_entropy(shown / peaks, wanted)
        terms["both"] = terms["plain"] + terms["normalised"]
        losses.append((terms[params.loss] * words.strengths).sum(1))  # sum over segments
    return torch.stack(losses).mean(0)


def segmentation(maps: Tensor, words: Words) -> Tensor:
    """Return S_hat (B, K, h, w): attention maps (B, h, w, L) summed over each segment's tokens."""
    return torch.einsum("bhwl,bkl->bkhw", maps, words.tokens)


def maps_of(store: AttentionStore, params: ZestGuideParams) -> list[Tensor]:
    """Return the maps (B, h, w, L) that the loss reads: their mean, or those of layers or heads.

    Means are taken at the finest grid of the chosen layers (eq. 6.3; averaging as in Table 6.2).
    A model without layers of the chosen size gives all it has.
    """
    sizes = {"16 and 32": (16, 32), "16": (16,), "32": (32,), "all": ()}[params.layers]
    layers = [name for name, size in store.sizes.items() if max(size) in sizes] or list(store.sizes)
    finest = max(store.sizes[name] for name in layers)
    if params.averaging == "global":
        return [store.average(finest, layers)]
    if params.averaging == "layers":
        return [store.average(finest, [name]) for name in layers]
    return [
        store.maps[name][:, head].unflatten(1, store.sizes[name])
        for name in layers
        for head in range(store.maps[name].shape[1])
    ]


def cross_entropy(shown: Tensor, wanted: Tensor) -> Tensor:
    """Return the binary cross-entropy of maps (B, K, h, w) in [0, 1], (B, K)."""
    clamped = shown.clamp(SMALLEST, 1 - SMALLEST)
    return F.binary_cross_entropy(clamped, wanted, reduction="none").mean((2, 3))
