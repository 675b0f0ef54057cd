"""FlexIT: move a picture's latents until a CLIP ensemble sees the edit in them.

Couairon, Grechka, Verbeek, Schwenk, Cord. FlexIT: Towards flexible semantic image translation.
CVPR 2022, arXiv 2203.04705; section 3 (thesis, section 4.3).

    paper                       here
    I_0, z_0 = E(I_0)           images, latents0
    S, T                        source, target
    C_i, C_t                    embed_images and embed_texts of every network of `clips`
    P (eq. 1)                   points, one for each network
    L_emb, L_perc, L_latent     terms["clip"], terms["lpips"], terms["latent"] (eq. 2, 3, 4)
    lambda_I, lambda_S          image_weight, source_weight
    lambda_p, lambda_z          perceptual_weight, latent_weight
    mu, N, d                    learning_rate, num_steps, augmentations

Where paper and release differ, the release is followed: L_emb is minus the scalar product ("dot";
"squared" is eq. 2), and L_latent is divided by the same norm of z_0, without which lambda_z = 0.05
would mean nothing. The concatenation of K unit vectors counts as one of unit length, so that L_emb
is a mean over networks in both readings.

Where we deviate: pixels are clamped to [-1, 1] by the autoencoder, not by the release's soft clamp,
which turns white into 0.973 and has no gradient in half precision; what turns into a crop from
beyond the edge takes the edge's colour, not black, which no toy scene has there; the release's
noise of 1e-6, which keeps the gradient of the norm finite at z_0, is not needed: it is 0 there;
and a picture takes a network's size before it is turned and cropped, once for all of its crops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.edits import Edits, encoded_images
from pipelines.errors import InputError
from pipelines.images import to_pil
from pipelines.memo import Memo
from pipelines.method_params import FlexITParams
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.perceptual import Perceptual
from pipelines.noise import seeded_uniform, sub_seed
from pipelines.results import OnStep, Step

MAX_ANGLE = math.radians(10)
SCALES = (0.8, 1.0)
"""Part of the picture's area that a crop keeps."""
ASPECTS = (0.9, 1.1)
DRAWS = 6
"""Numbers that make an augmentation: angle, scale, aspect, place (2), flip."""
SMALLEST = 1e-12

Clips = Mapping[str, DualEncoder]


@torch.no_grad()
def flexit(
    model: LatentDiffusion,
    images: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    params: FlexITParams,
    *,
    seeds: Sequence[int],
    clips: Clips,
    perceptual: Perceptual,
    on_step: OnStep | None = None,
    memo: Memo | None = None,
    masks: Tensor | None = None,
) -> Edits:
    """Edit images (B, 3, S, S) in [-1, 1] from `source` towards `target` (sec. 3); no mask is used.

    `seeds` (one per image) decides the augmentations, the only randomness. As in the release, the
    picture of a step is decoded before its update, so that step 0 shows the autoencoder alone and
    `num_steps` updates precede the result.

    Raises:
        InputError: `clips` lacks the network that `params` names.
    """
    clips = chosen(clips, params.networks)
    encode, decode = SPACES[params.space](model, memo)
    latents0 = encode(images)
    points = target_points(clips, images, source, target, params)
    reference = perceptual.features(images) if params.perceptual_weight else None
    radius = latents0.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    latents, decoded = latents0, images
    curves: dict[str, list[list[float]]] = {}
    snapshots: dict[int, Tensor] = {}
    for step in range(params.num_steps + 1):
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            decoded = decode(leaf)
            seen = embeddings(clips, decoded, params.augmentations, step, seeds)
            terms = {"clip": embedding_loss(seen, points, params.loss)}
            if reference is not None:
                terms["lpips"] = perceptual.distance_to(reference, decoded)
            if params.latent_weight:
                terms["latent"] = latent_loss(leaf, latents0, params.latent_norm)
            terms["total"] = total_loss(terms, params)
            objective = terms["total"].sum()
        decoded = decoded.detach()
        record(curves, terms)
        if params.snapshot_every and step % params.snapshot_every == 0:
            snapshots[step] = decoded
        if step == params.num_steps:
            break
        (gradient,) = torch.autograd.grad(objective, leaf)
        if params.normalise_gradient:
            length = gradient.flatten(1).norm(dim=1).clamp(min=SMALLEST)
            gradient = gradient / length.view(-1, 1, 1, 1)
        latents = latents - params.learning_rate * radius * gradient
        if on_step is not None:
            on_step(Step("optimising", step + 1, params.num_steps, previewer(decoded)))
    return Edits(decoded, snapshots=snapshots, diagnostics={"curves": curves})


def chosen(clips: Clips, networks: str) -> Clips:
    """Return all networks, or the one called `networks`."""
    if networks == "all":
        return clips
    if networks not in clips:
        raise InputError(f"Please choose another network: this pack has {', '.join(clips)}.")
    return {networks: clips[networks]}


def target_points(
    clips: Clips, images: Tensor, source: Sequence[str], target: Sequence[str], params: FlexITParams
) -> dict[str, Tensor]:
    """Return P = C_t(T) + lambda_I C_i(I_0) - lambda_S C_t(S) of every network (eq. 1), (B, D).

    Not of unit length, as in the release.
    """
    return {
        name: clip.embed_texts(target)
        + params.image_weight * clip.embed_images(images)
        - params.source_weight * clip.embed_texts(source)
        for name, clip in clips.items()
    }


def embeddings(
    clips: Clips, images: Tensor, augmentations: int, step: int, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Return C_i of images for every network, (B, D): the mean over its own augmentations."""
    seen = {}
    for name, clip in clips.items():
        crops = clip.preprocess(images)
        if augmentations:
            streams = [sub_seed(seed, "augmentation", step, name) for seed in seeds]
            crops = augmented(crops, seeded_uniform((augmentations, DRAWS), streams, images))
        embeds = clip.embed_prepared(crops)  # (B * d, D)
        seen[name] = embeds.unflatten(0, (len(images), -1)).mean(1)
    return seen


def augmented(images: Tensor, draws: Tensor) -> Tensor:
    """Return d augmentations of every image, (B * d, 3, S, S), in one affine sampling.

    `draws` (B, d, DRAWS) in [0, 1) decide: turned by up to MAX_ANGLE, cropped, mirrored half of the
    time (sec. 3, implementation details). A crop wider or higher than the picture is cut to it.
    """
    angle, scale, aspect, x, y, flip = draws.flatten(0, 1).unbind(-1)
    angle = (2 * angle - 1) * MAX_ANGLE
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * scale
    aspect = ASPECTS[0] * (ASPECTS[1] / ASPECTS[0]) ** aspect  # uniform in its logarithm
    width = (scale * aspect).sqrt().clamp(max=1)
    height = (scale / aspect).sqrt().clamp(max=1)
    x, y = (2 * x - 1) * (1 - width), (2 * y - 1) * (1 - height)
    width = torch.where(flip < 0.5, -width, width)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * width, -sin * height, cos * x - sin * y]
    rows += [sin * width, cos * height, sin * x + cos * y]
    theta = torch.stack(rows, -1).view(-1, 2, 3)
    repeated = images.repeat_interleave(draws.shape[1], 0)
    grid = F.affine_grid(theta, repeated.shape, align_corners=False)
    return F.grid_sample(repeated, grid, padding_mode="border", align_corners=False)


def embedding_loss(seen: Mapping[str, Tensor], points: Mapping[str, Tensor], loss: str) -> Tensor:
    """Return L_emb (B,): minus the scalar product of C and P, or their squared distance (eq. 2)."""
    pairs = [(seen[name], points[name]) for name in points]
    if loss == "squared":
        values = [(c - p).square().sum(-1) for c, p in pairs]
    else:
        values = [-(c * p).sum(-1) for c, p in pairs]
    return torch.stack(values).mean(0)


def latent_loss(latents: Tensor, latents0: Tensor, norm: str) -> Tensor:
    """Return L_latent (B,), the norm of the change as a part of that of latents0 (eq. 4)."""
    return LATENT_NORMS[norm](latents - latents0) / LATENT_NORMS[norm](latents0)


LATENT_NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "l21": lambda z: z.norm(dim=1).sum((1, 2)),  # over channels, then the sum of positions
    "l1": lambda z: z.abs().sum((1, 2, 3)),
    "l2": lambda z: z.flatten(1).norm(dim=1),
}


def total_loss(terms: Mapping[str, Tensor], params: FlexITParams) -> Tensor:
    """Return L_total (B,) of the terms that are switched on (eq. 5)."""
    weights = {"clip": 1.0, "lpips": params.perceptual_weight, "latent": params.latent_weight}
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum(0)


# ---------------------------------------------------------------- where the optimisation runs

Encode = Callable[[Tensor], Tensor]


def latent_space(model: LatentDiffusion, memo: Memo | None) -> tuple[Encode, Encode]:
    """Return encoder and decoder of the autoencoder, or of what stands for it."""
    return lambda images: encoded_images(model, images, memo), model.decode_latents


def pixel_space(model: LatentDiffusion, memo: Memo | None) -> tuple[Encode, Encode]:
    """Return the way to raw pixels and back (sec. 4.3), which stay in their range."""
    return lambda images: images, lambda pixels: pixels.clamp(-1, 1)


SPACES = {"latent": latent_space, "pixels": pixel_space, "faces": latent_space}
"""The last one takes a `GeneratorSpace` for its model."""


# ---------------------------------------------------------------- what is told on the way


def record(curves: dict[str, list[list[float]]], terms: Mapping[str, Tensor]) -> None:
    """Append this step's terms to curves[name][image]."""
    for name, term in terms.items():
        rows = curves.setdefault(name, [[] for _ in range(len(term))])
        for row, value in zip(rows, term.tolist(), strict=True):
            row.append(round(value, 5))


def previewer(decoded: Tensor) -> Callable[[], object]:
    """Return what draws the first picture of a batch that is decoded already."""
    return lambda: to_pil(decoded[:1])[0]
