"""CLIP2GAN: a network between CLIP and StyleGAN makes faces from texts, and edits them by texts.

Wang, Zhou, Bao, Wang, Li, Li. CLIP2GAN: Towards bridging text with the latent space of GANs.
arXiv 2211.15045. No code was published; `models.latent_mapper` and `training.latent_mapper` say
what the paper leaves open.

    paper           here
    C_img, C_text   models.clip.embed_images, embed_texts
    M, G            models.mapper, models.generator.synthesis
    z               w_plus (B, L, w_dim), a code of W+
    n (sec. 3.1)    noise on the text's features, N(0, 1) in training, N(1, 0.36) afterwards
    n (eq. 13)      directions (T, L, w_dim), one a text
    beta            betas

As eq. 13 has it, n = M(C_text(t)) is the code of a whole face, no direction: adding it moves away
from W, and beta = 1 adds an average face besides the attribute. "difference" subtracts the code of
a text that says nothing. "clip" is the paper's own counterexample (Table 6): M maps the sum of
both embeddings. And M(C_img(x)) keeps of a face what CLIP saw of it; "inverted" starts from the
code that an inversion encoder finds.

"captions" is not of the paper: another network, trained on texts and codes by
`training.caption_mapper`, moves the code of a face to where a text is true of it, and makes a face
of a text by moving a random one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.images import to_pil
from pipelines.method_params import Clip2GanEditParams, Clip2GanParams
from pipelines.models.caption_mapper import CaptionMapper
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.inversion import InversionEncoder
from pipelines.models.latent_mapper import LatentMapper
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.noise import seeded_noise, sub_seed
from pipelines.results import OnStep, Step

NEUTRAL = "a person"  # the captions' word for a face of which nothing is said
_NOISES = {"published": (1.0, 0.36), "training": (0.0, 1.0), "none": (0.0, 0.0)}  # mean, variance


@dataclass(frozen=True)
class Clip2Gan:
    """The networks of the method, none of which is ever changed.

    `encoder` may be None where no picture is inverted, `captions` where its mode is not asked for.
    """

    clip: DualEncoder
    mapper: LatentMapper
    generator: StyleGAN2
    encoder: InversionEncoder | None = None
    captions: CaptionMapper | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the mapper belongs to another CLIP or generator."""
        config = self.generator.config
        ends = (self.mapper.clip_dim, self.mapper.w_layers, self.mapper.w_dim)
        wanted = (self.clip.dim, config.w_layers, config.w_dim)
        if ends != wanted:
            raise ValueError(f"the mapper goes from and to {ends}, these networks need {wanted}")


@dataclass(frozen=True, eq=False)
class Faces:
    """Results of a batch: images (B, 3, S, S), about [-1, 1], of codes w_plus (B, L, w_dim)."""

    images: Tensor
    w_plus: Tensor


@torch.no_grad()
def generate(
    models: Clip2Gan,
    texts: Sequence[str],
    params: Clip2GanParams,
    *,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Faces:
    """Return one face for each text (sec. 3.1, Fig. 3); the same text again gives another face.

    Face i depends on texts[i] and seeds[i] only.
    """
    seeds = [sub_seed(seed, "clip2gan") for seed in seeds]
    _tell(on_step, "reading the text", 1)
    if params.mapper == "captions":
        start = random_codes(models, params, seeds)
        w_plus = start + caption_moves(models, start, texts)
    else:
        embeds = models.clip.embed_texts(texts)
        mean, variance = _NOISES[params.noise]
        normal = seeded_noise(embeds.shape[1:], seeds, embeds)
        w_plus = models.mapper(embeds, params.amount * (mean + variance**0.5 * normal))
    return _painted(models, w_plus, on_step)


def random_codes(models: Clip2Gan, params: Clip2GanParams, seeds: Sequence[int]) -> Tensor:
    """Return the codes (B, L, w_dim) of random faces, or the average one's without noise."""
    generator = models.generator
    z = seeded_noise((generator.config.z_dim,), seeds, generator.w_avg)
    amount = 0.0 if params.noise == "none" else params.amount
    w = generator.mapping(z, psi=amount * generator.config.truncation_psi)
    return generator.w_plus(w)


@torch.no_grad()
def edit(
    models: Clip2Gan,
    images: Tensor,
    texts: Sequence[str],
    params: Clip2GanEditParams,
    *,
    w_plus: Tensor | None = None,
    layers: Sequence[int] | None = None,
    neutral: str = NEUTRAL,
    on_step: OnStep | None = None,
) -> Faces:
    """Return faces moved towards their texts, z' = z + beta n (eq. 11 to 14); no randomness.

    Args:
        images: (B, 3, H, H) in [-1, 1], one for each text.
        w_plus: codes (B, L, w_dim) to start from instead of `params.base`, such as a refined
            inversion or the code of a seed.
        layers: those of the L that move, all if None.
    """
    base = base_codes(models, images, params.base) if w_plus is None else w_plus
    _tell(on_step, "reading the face", 1)
    if params.direction == "clip":
        moves = clip_moves(models, images, texts, params.beta)
    elif params.direction == "captions":
        moves = params.beta * caption_moves(models, base, texts)
    else:
        moves = params.beta * directions(models, texts, params.direction, neutral)
    return _painted(models, moved(base, moves, layers), on_step)


def base_codes(models: Clip2Gan, images: Tensor, base: str) -> Tensor:
    """Return z (B, L, w_dim) of pictures: M(C_img(x)) if "mapped" (eq. 14), E(x) if "inverted"."""
    if base == "mapped":
        return models.mapper(models.clip.embed_images(images))
    if models.encoder is None:
        raise ValueError("an inverted base needs an inversion encoder")
    return models.encoder(images)


def directions(
    models: Clip2Gan, texts: Sequence[str], direction: str, neutral: str = NEUTRAL
) -> Tensor:
    """Return n (T, L, w_dim) of texts: M(C_text(t)) (eq. 13), less M of `neutral` if "difference".

    They do not depend on the picture, so that sliders may keep them.
    """
    codes = models.mapper(models.clip.embed_texts(texts))
    if direction == "published":
        return codes
    return codes - models.mapper(models.clip.embed_texts([neutral]))


def clip_moves(models: Clip2Gan, images: Tensor, texts: Sequence[str], beta: float) -> Tensor:
    """Return M(n(C_img(x) + beta C_text(t))) - M(C_img(x)), n for unit length (Table 6, "CLIP").

    From a mapped base that is M of the sum; beta 0 moves nothing.
    """
    seen, said = models.clip.embed_images(images), models.clip.embed_texts(texts)
    return models.mapper(F.normalize(seen + beta * said, dim=-1)) - models.mapper(seen)


def caption_moves(models: Clip2Gan, w_plus: Tensor, texts: Sequence[str]) -> Tensor:
    """Return moves (B, 1, w_dim), the same in all layers, that make texts true of faces' codes."""
    if models.captions is None:
        raise ValueError("this mode needs the mapper that read captions")
    return models.captions(models.clip.embed_texts(texts), w_plus.mean(1))[:, None]


def moved(w_plus: Tensor, moves: Tensor, layers: Sequence[int] | None = None) -> Tensor:
    """Return codes (B, L, w_dim) with `moves` added in the chosen layers, in all if None."""
    if layers is None:
        return w_plus + moves
    chosen = torch.zeros(w_plus.shape[1], dtype=torch.bool, device=w_plus.device)
    chosen[list(layers)] = True
    return torch.where(chosen[:, None], w_plus + moves, w_plus)


def _painted(models: Clip2Gan, w_plus: Tensor, on_step: OnStep | None) -> Faces:
    images = models.generator.synthesis(w_plus)
    _tell(on_step, "painting", 2, images)
    return Faces(images, w_plus)


def _tell(on_step: OnStep | None, stage: str, index: int, images: Tensor | None = None) -> None:
    if on_step is not None:
        on_step(Step(stage, index, 2, None if images is None else lambda: to_pil(images[:1])[0]))
