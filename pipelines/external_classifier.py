"""Classifier guidance by a segmentation network: "LDM w/ External Classifier" of ZestGuide.

Universal guidance (Bansal et al. 2023, arXiv 2302.07121, forward guidance) with a network that
labels pixels, as Couairon et al. compare with (thesis, section 6.3.1 and Table 6.1): at every
guided step the predicted clean picture is decoded and segmented, and the gradient runs back through
network, decoder and UNet. Segments can be led only where their words name a class of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.classifier_guidance import classifier_guidance, cross_entropy
from pipelines.diffusion import ddim
from pipelines.diffusion.schedule import CLEAN
from pipelines.layouts import Layout
from pipelines.method_params import ClassifierGuidanceParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.segmenter import SceneSegmenter
from pipelines.painting import Paintings, words_of
from pipelines.results import OnStep


def external_classifier(
    model: LatentDiffusion,
    layouts: Sequence[Layout],
    params: ClassifierGuidanceParams,
    *,
    seeds: Sequence[int],
    segmenter: SceneSegmenter,
    initial: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Paintings:
    """Paint one picture for each layout, led by what `segmenter` sees in the picture so far.

    Raises:
        PhraseError: the words of a segment are beyond the model's last token.
        ValueError: more layouts than one call of the UNet takes.
    """
    words = words_of(model, layouts)
    text = model.embed_text(words.texts)
    classes = torch.zeros(words.strengths.shape, dtype=torch.long, device=model.device)  # (B, K)
    for b, layout in enumerate(layouts):
        for k, segment in enumerate(layout.segments):
            classes[b, k] = segmenter.class_of(segment.text) or 0
    known = classes > 0
    alike = classes[:, :, None] == classes[:, None]
    strengths = words.strengths * known

    def criterion(latents: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        eps_text = model.eps(latents, t, text)
        clean = ddim.step(latents, eps_text, t, CLEAN, model.schedule)
        shown = segmenter(model.decode_latents(clean)).softmax(1)  # (B, classes, S, S)
        index = classes[:, :, None, None].expand(-1, -1, *shown.shape[-2:])
        shown = shown.gather(1, index) * known[:, :, None, None]  # (B, K, S, S)
        wanted = words.wanted_at(shown.shape[-2:], alike)
        return eps_text, (cross_entropy(shown, wanted) * strengths).sum(1), shown

    return classifier_guidance(
        model, words, params, criterion, seeds=seeds, initial=initial, on_step=on_step
    )
