"""DiffEdit: a diffusion model finds where to edit, DDIM inversion keeps the rest.

Couairon, Verbeek, Schwenk, Cord. DiffEdit: Diffusion-based semantic image editing with mask
guidance. ICLR 2023, arXiv 2210.11427; section numbers are those of the thesis, chapter 5.

    paper           here
    x_0             latents0, of the input image
    Q, R            target, source (the reference text; or the empty text)
    M               masks; 1 = edit
    r               strength, the encoding ratio
    x_t             trajectory[i], the input encoded to level grid[i]
    y_t             latents, the edit on its way back
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipelines import masks as mask_recipes
from pipelines.diffusion.guidance import classifier_free, condition
from pipelines.diffusion.schedule import Denoiser, EpsModel
from pipelines.diffusion.solvers import SOLVERS
from pipelines.edits import (
    Counter,
    Edits,
    content_key,
    encoded_images,
    inversion,
    latent_mask,
    nbytes_of,
    report,
)
from pipelines.memo import Memo
from pipelines.method_params import DiffEditParams, EncodeDecodeParams, MaskParams, SamplingParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.results import OnStep, Step


@torch.no_grad()
def diffedit(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: DiffEditParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit images (B, 3, S, S) in [-1, 1] so that they fit `target` (DiffEdit, sec. 5.3.2).

    `masks` (B, S, S) in [0, 1], given by a painter, replaces step 1. `seeds` (one per image)
    decides the noise of the difference maps, the only randomness.
    """
    eps = Counter(model.eps)
    latents0 = encoded_images(model, images, memo)
    shared = {"on_step": on_step, "memo": memo}

    # Step 1: where do the two texts disagree?
    difference = None
    if masks is None:
        difference = difference_map(
            model, eps, latents0, source, target, params, seeds=seeds, **shared
        )
        masks = mask_recipes.binarise(difference, images, params.recipe, params.threshold)

    # Step 2: encode the input, unconditionally, to the ratio r.
    trajectory = inversion(model, eps, latents0, params, **shared)

    # Step 3: decode with the target text; outside the mask, the encoded input of the same level.
    edited = masked_decode(model, eps, trajectory.__getitem__, target, params, masks, on_step)

    reconstruct = functools.partial(
        reconstruction, model, latents0, trajectory[-1], params, **shared
    )  # fmt: skip
    return Edits(model.decode_latents(edited), masks, difference, reconstruct, eps.samples)


@torch.no_grad()
def reconstruction(
    model: LatentDiffusion,
    latents0: Tensor,
    encoded: Tensor,
    params: SamplingParams,
    *,
    on_step: OnStep | None = None,
    memo: Memo | None = None,
) -> Tensor:
    """Return what decoding `encoded`, the inversion of latents0, gives back without an edit."""

    def compute() -> Tensor:
        unedited = condition(model.eps, model.embed_text([""]))
        grid = model.schedule.grid(params.num_steps, params.strength)
        decode, tell = SOLVERS[params.solver][1], report(on_step, "reconstructing", model)
        return model.decode_latents(decode(unedited, encoded, grid, model.schedule, on_step=tell))

    if memo is None:
        return compute()
    settings = params.num_steps, params.strength, params.solver
    key = content_key("reconstruction", model.fingerprint, latents0, *settings)
    return memo.get(key, compute, nbytes_of)


@torch.no_grad()
def diffedit_without_encoding(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: DiffEditParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit with DiffEdit's mask, but noise the input instead of encoding it (sec. 5.4.2).

    The background of each level is the input noised to that level, always with the same noise.
    """
    eps = Counter(model.eps)
    latents0 = encoded_images(model, images, memo)
    noise = seeded_noise(latents0.shape[1:], [sub_seed(s, "start") for s in seeds], latents0)
    grid = model.schedule.grid(params.num_steps, params.strength)
    difference = None
    if masks is None:
        draws = {"seeds": seeds, "on_step": on_step, "memo": memo}
        difference = difference_map(model, eps, latents0, source, target, params, **draws)
        masks = mask_recipes.binarise(difference, images, params.recipe, params.threshold)

    def noised(i: int) -> Tensor:
        return latents0 if i == 0 else model.schedule.add_noise(latents0, noise, grid[i])

    edited = masked_decode(model, eps, noised, target, params, masks, on_step)
    return Edits(model.decode_latents(edited), masks, difference, None, eps.samples)


@torch.no_grad()
def encode_decode(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: EncodeDecodeParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit by DDIM encoding and decoding alone, without a mask (sec. 5.4.2); deterministic."""
    eps = Counter(model.eps)
    latents0 = encoded_images(model, images, memo)
    trajectory = inversion(model, eps, latents0, params, on_step=on_step, memo=memo)
    denoise = guided(model, eps, target, params)
    grid = model.schedule.grid(params.num_steps, params.strength)
    tell = report(on_step, "decoding", model)
    decode = SOLVERS[params.solver][1]
    latents = decode(denoise, trajectory[-1], grid, model.schedule, on_step=tell)
    return Edits(model.decode_latents(latents), network_evaluations=eps.samples)


def difference_map(
    model: LatentDiffusion,
    eps_model: EpsModel,
    latents0: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: MaskParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
) -> Tensor:
    """Return where the predictions for two texts differ, (B, h, w), before any rescaling (step 1).

    |eps(x_t, target) - eps(x_t, reference)| averaged over channels and `num_maps` noise draws;
    map k of image i depends on seeds[i] and k only. Without guidance: it would scale the map and
    cancel in the rescaling (PAPERS 1.2). Predictions are kept in the memo: for a second target a
    picture costs the target's alone, and nothing for the same texts with another recipe or ratio.
    """
    reference = list(source) if params.reference == "source" else [""] * len(target)
    t = noise_level(model, params.mask_strength)
    draws = [
        seeded_noise(latents0.shape[1:], [sub_seed(s, "mask", k) for s in seeds], latents0)
        for k in range(params.num_maps)
    ]
    noisy = torch.cat([model.schedule.add_noise(latents0, draw, t) for draw in draws])
    calls = noisy.split(model.max_batch)
    done = itertools.count(1)

    def predict(texts: Sequence[str]) -> Tensor:
        def compute() -> Tensor:
            embeds = model.embed_text(texts).repeat(params.num_maps, 1, 1).split(model.max_batch)
            eps = []
            for call, text in zip(calls, embeds, strict=True):
                eps.append(eps_model(call, t, text))
                if on_step is not None:
                    on_step(Step("mask", next(done), 2 * len(calls)))
            return torch.cat(eps)

        if memo is None:
            return compute()
        key = content_key("prediction", model.fingerprint, noisy, t, "\n".join(texts))
        return memo.get(key, compute, nbytes_of)

    difference = (predict(target) - predict(reference)).abs().mean(1)  # (num_maps * B, h, w)
    return difference.unflatten(0, (params.num_maps, len(latents0))).mean(0)


def noise_level(model: LatentDiffusion, strength: float) -> int:
    """Return the timestep at a fraction of the schedule."""
    return max(1, round(strength * model.schedule.num_train_timesteps)) - 1


def masked_decode(
    model: LatentDiffusion,
    eps_model: EpsModel,
    background: Callable[[int], Tensor],
    target: Sequence[str],
    params: DiffEditParams,
    masks: Tensor,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return the latents decoded with mask guidance (step 3): y_t <- M y_t + (1 - M) x_t.

    `background(i)` is x_t at level grid[i]; decoding starts from that of the highest level.
    """
    mask = latent_mask(masks, model.latent_shape[-1])
    grid = model.schedule.grid(params.num_steps, params.strength)
    denoise = guided(model, eps_model, target, params)

    def composite(latents: Tensor, i: int) -> Tensor:
        return torch.where(mask > 0, latents, background(i))

    after_step: Callable[[Tensor, int], Tensor] | None = composite
    if params.compositing == "x0":
        denoise = x0_compositing(denoise, mask, background(0), model)
        after_step = None
    start = background(len(grid) - 1)
    tell = report(on_step, "decoding", model)
    decode = SOLVERS[params.solver][1]
    return decode(denoise, start, grid, model.schedule, after_step=after_step, on_step=tell)


def x0_compositing(
    denoise: Denoiser, mask: Tensor, latents0: Tensor, model: LatentDiffusion
) -> Denoiser:
    """Return the denoiser whose x_0 estimate is the input outside the mask (GLIDE's operator).

    The operator that the thesis compares with (sec. 5.4.2): x0_hat <- M x0_hat + (1 - M) x_0.
    """

    def composited(latents: Tensor, t: int | Tensor) -> Tensor:
        alpha, sigma = model.schedule.alpha_sigma(t, latents)
        x0 = (latents - sigma * denoise(latents, t)) / alpha
        return (latents - alpha * torch.where(mask > 0, x0, latents0)) / sigma

    return composited


def guided(
    model: LatentDiffusion, eps_model: EpsModel, target: Sequence[str], params: SamplingParams
) -> Denoiser:
    """Return the denoiser of the target texts, guided away from the negative prompt."""
    negative = model.embed_text([params.negative_prompt])
    return classifier_free(eps_model, model.embed_text(target), negative, params.guidance_scale)
