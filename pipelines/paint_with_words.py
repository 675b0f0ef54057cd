"""Paint-with-words: raise the attention between each painted region and its words.

Balaji et al. eDiff-I: Text-to-image diffusion models with an ensemble of expert denoisers. 2022,
arXiv 2211.01324, section 5. The bias itself is `painting.paint_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion import ddim
from pipelines.diffusion.attention import biased
from pipelines.edits import Counter, report
from pipelines.layouts import Layout
from pipelines.method_params import PaintWithWordsParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.painting import Paintings, paint_bias, words_of
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
    text, empty = model.embed_text(words.texts), model.embed_text([""])
    grid = model.schedule.grid(params.num_steps, 1.0)
    level = [grid[-1]]
    painted = biased(model.unet, paint_bias(model.schedule, words, params.weight, level))
    with_words, without = Counter(model.with_unet(painted).eps), Counter(model.eps)

    def denoise(latents: Tensor, t: int | Tensor) -> Tensor:
        level[0] = int(t)
        eps_empty = without(latents, t, empty)
        return eps_empty + params.guidance_scale * (with_words(latents, t, text) - eps_empty)

    start = seeded_noise(model.latent_shape, [sub_seed(s, "start") for s in seeds], text).float()
    tell = report(on_step, "painting", model)
    latents = ddim.decode(denoise, start, grid, model.schedule, on_step=tell)
    evaluations = with_words.samples + without.samples
    return Paintings(model.decode_latents(latents), network_evaluations=evaluations)
