"""What the segmentation-to-image methods share: their result, and which words go where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from pipelines.diffusion.attention import Bias, biased, phrase_tokens
from pipelines.diffusion.schedule import EpsModel, NoiseSchedule
from pipelines.layouts import Layout
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise, sub_seed


@dataclass(frozen=True, eq=False)
class Paintings:
    """What a method returns for a batch of layouts.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        attention: (B, K, h, w) in [0, 1], the segmentation that the attention maps gave at the
            last guided step; None for methods that read none.
        losses: for each guided step the loss of every image.
        network_evaluations: UNet evaluations, counted by sample; `gradients` of them were also
            differentiated.
    """

    images: Tensor
    attention: Tensor | None = None
    losses: tuple[tuple[float, ...], ...] = ()
    network_evaluations: int = 0
    gradients: int = 0


@dataclass(frozen=True, eq=False)
class Words:
    """The segments of a batch of layouts, padded to the largest number K of them.

    Attributes:
        texts: the whole texts, see `Layout.text`.
        tokens: (B, K, L) in {0, 1}, the tokens of each segment's phrase in its text.
        masks: (B, K, S, S) in [0, 1], averaged over the area of each pixel.
        strengths: (B, K), 0 where a layout has fewer segments.
    """

    texts: list[str]
    tokens: Tensor
    masks: Tensor
    strengths: Tensor

    def masks_at(self, size: tuple[int, int]) -> Tensor:
        """Return the masks at (h, w), averaged over the area of each cell: in [0, 1]."""
        return F.adaptive_avg_pool2d(self.masks, size)

    def wanted_at(self, size: tuple[int, int], alike: Tensor | None = None) -> Tensor:
        """Return `masks_at`, joined over segments that are `alike` (B, K, K): one map shows both.

        By default those with the same words, whose attention nothing tells apart.
        """
        if alike is None:
            alike = (self.tokens[:, :, None] == self.tokens[:, None]).all(-1)
        masks = self.masks_at(size)
        return torch.einsum("bkj,bjhw->bkhw", alike.to(masks), masks).clamp(max=1)


def words_of(model: LatentDiffusion, layouts: Sequence[Layout]) -> Words:
    """Find every segment's words in its text.

    Raises:
        PhraseError: a phrase is beyond the last token that the model reads.
    """
    most = max(len(layout.segments) for layout in layouts)
    size, length = model.resolution, model.tokenizer.model_max_length
    tokens = torch.zeros(len(layouts), most, length)
    masks = torch.zeros(len(layouts), most, size, size)
    strengths = torch.zeros(len(layouts), most)
    for b, layout in enumerate(layouts):
        labels = torch.from_numpy(layout.labels)
        for k, segment in enumerate(layout.segments):
            tokens[b, k, phrase_tokens(model.tokenizer, layout.text, segment.text)] = 1
            painted = (labels == k + 1).float()[None]
            masks[b, k] = F.adaptive_avg_pool2d(painted, (size, size))[0]
            strengths[b, k] = segment.strength
    device = model.device
    texts = [layout.text for layout in layouts]
    return Words(texts, tokens.to(device), masks.to(device), strengths.to(device))


def starting_noise(model: LatentDiffusion, seeds: Sequence[int]) -> Tensor:
    """Return the noise (B, C, h, w) that every method starts from for these seeds."""
    like = torch.empty(0, device=model.device)
    return seeded_noise(model.latent_shape, [sub_seed(seed, "start") for seed in seeds], like)


def paint_bias(schedule: NoiseSchedule, words: Words, weight: float, level: list[int]) -> Bias:
    """Return the bias of paint-with-words at timestep level[0] (Balaji et al. 2022, section 5).

    The reading of cloneofsimo's paint-with-words-sd: the scores of the text branch become
    Q K^T + w log(1 + sigma) max(Q K^T) A, with A the painted mask of each token.
    sigma is the noise-to-signal ratio sqrt(1 - abar) / sqrt(abar); the maximum is taken for every
    image on its own, so that no picture depends on its neighbours in the batch.
    """

    def bias(scores: Tensor, size: tuple[int, int]) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(level[0], scores)
        strength = weight * math.log1p(float(sigma / alpha))
        masks = words.masks_at(size) * words.strengths[:, :, None, None]  # (B, K, h, w)
        regions = torch.einsum("bkhw,bkl->bhwl", masks, words.tokens).flatten(1, 2)
        if len(scores) > len(regions):  # a guided call: the unconditional half comes first
            regions = torch.cat([torch.zeros_like(regions), regions])
        return strength * scores.amax((1, 2, 3)).view(-1, 1, 1) * regions  # (B, H*W, L)

    return bias


def painted_eps(
    model: LatentDiffusion, unet: UNet2DConditionModel, words: Words, weight: float
) -> EpsModel:
    """Return the noise prediction of `unet` under paint-with-words; weight 0 leaves it as it is.

    For texts of `words`, or for a guided call of twice as many with the unconditional half first.
    """
    if weight == 0:
        return model.with_unet(unet).eps
    level = [0]
    painted = biased(unet, paint_bias(model.schedule, words, weight, level))
    eps_model = model.with_unet(painted).eps

    def eps(latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        level[0] = int(t)
        return eps_model(latents, t, text_embeds)

    return eps
