"""Plain sampling: the text alone, guided; what every layout method must beat.

Deterministic DDIM (Song et al. 2021, arXiv 2010.02502) from the same noise as the other methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free
from pipelines.edits import Counter, report
from pipelines.layouts import Layout
from pipelines.method_params import PaintingParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.painting import Paintings, starting_noise
from pipelines.results import OnStep


@torch.no_grad()
def plain_sampling(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: PaintingParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for the text of each layout; where it was painted plays no part."""
    eps = Counter(model.eps)
    text = model.embed_text([layout.text for layout in layouts])
    negative = model.embed_text([params.negative_prompt])
    denoise = classifier_free(eps, text, negative, params.guidance_scale)
    grid = model.schedule.grid(params.num_steps, 1.0)
    tell = report(on_step, "painting", model)
    latents = ddim.decode(denoise, starting_noise(model, seeds), grid, model.schedule, on_step=tell)
    return Paintings(model.decode_latents(latents), network_evaluations=eps.samples)
