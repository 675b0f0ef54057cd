"""SDEdit: noise the whole picture, then denoise it with the target text.

Meng, He, Song, Song, Wu, Zhu, Ermon. SDEdit: Guided image synthesis and editing with stochastic
differential equations. ICLR 2022, arXiv 2108.01073. The deterministic (DDIM) form that DiffEdit
compares with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion.guidance import classifier_free
from pipelines.diffusion.solvers import SOLVERS
from pipelines.edits import Counter, Edits, encoded_images, report
from pipelines.memo import Memo
from pipelines.method_params import SDEditParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.results import OnStep


@torch.no_grad()
def sdedit(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: SDEditParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit images (B, 3, S, S) in [-1, 1] towards `target`; `source` and `masks` play no part."""
    eps = Counter(model.eps)
    latents0 = encoded_images(model, images, memo)
    grid = model.schedule.grid(params.num_steps, params.strength)
    noise = seeded_noise(latents0.shape[1:], [sub_seed(s, "start") for s in seeds], latents0)
    latents = model.schedule.add_noise(latents0, noise, grid[-1]) if len(grid) > 1 else latents0
    negative = model.embed_text([params.negative_prompt])
    denoise = classifier_free(eps, model.embed_text(target), negative, params.guidance_scale)
    decode = SOLVERS[params.solver][1]
    tell = report(on_step, "decoding", model)
    latents = decode(denoise, latents, grid, model.schedule, on_step=tell)
    return Edits(model.decode_latents(latents), network_evaluations=eps.samples)
