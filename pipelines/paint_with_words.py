"""Paint-with-words: raise the attention between each painted region and its words.

Balaji et al. eDiff-I: Text-to-image diffusion models with an ensemble of expert denoisers. 2022,
arXiv 2211.01324, section 5. The bias itself is `painting.paint_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free
from pipelines.edits import Counter, report
from pipelines.layouts import Layout
from pipelines.method_params import PaintWithWordsParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.painting import Paintings, painted_eps, starting_noise, words_of
from pipelines.results import OnStep


@torch.no_grad()
def paint_with_words(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: PaintWithWordsParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each layout by biased attention; weight 0 is plain sampling.

    Raises:
        PhraseError: the words of a segment are beyond the model's last token.
    """
    words = words_of(model, layouts)
    eps = Counter(painted_eps(model, model.unet, words, params.weight))
    text, negative = (model.embed_text(t) for t in (words.texts, [params.negative_prompt]))
    denoise = classifier_free(eps, text, negative, params.guidance_scale)
    grid = model.schedule.grid(params.num_steps, 1.0)
    start = starting_noise(model, seeds)
    tell = report(on_step, "painting", model)
    latents = ddim.decode(denoise, start, grid, model.schedule, on_step=tell)
    return Paintings(model.decode_latents(latents), network_evaluations=eps.samples)
