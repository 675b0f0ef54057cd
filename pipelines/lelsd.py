"""LELSD: directions in a generator's latent space that change one part of the picture.

Pajouheshgar, Zhang, Susstrunk. Optimizing latent space directions for GAN-based local image
editing. ICASSP 2022, arXiv 2111.12583.

    code              paper
    codes             omega, in Z, W, W+ or S
    vectors           u_1 ... u_K
    strengths         alpha
    features          r = h(omega), of every layer
    score             LS(u), eq. 2, its mean over layers where the paper has the sum
    apartness         R(u_1, ..., u_K), sec. 4.1

From the release (github.com/IVRL/LELSD) come what the paper leaves open: the start at random unit
vectors, alpha uniform in [-1, 1], truncation 0.7, the weight 5 of R, and R layer by layer. Where we
depart:

- the picture counts as the last layer: without it, vectors that reach its colours only (the last of
  W+, a third of S) would stay as random as they start;
- alpha is drawn for every picture, not once for a batch;
- masks are averaged over the cells of a layer, not sampled at points;
- pictures that show the part neither before nor after the edit do not count;
- R is the paper's Frobenius norm, where the release has the mean of |Corr - I|;
- vectors take turns in order, not by lot;
- unit norm divides each layer's vector by its own length, where the release divides each of the 512
  dimensions of W+ by its norm across layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.directions import Codes, Direction, LatentGenerator, LatentSpace, PartParser, moved
from pipelines.errors import Cancelled, InputError
from pipelines.images import to_pil
from pipelines.method_params import LELSDParams
from pipelines.metrics.localization import combined, localization_scores
from pipelines.noise import seeded_noise, sub_seed
from pipelines.results import OnStep, Step

BATCH = 4
BATCHES = 200  # for each direction
HALVINGS = 4  # spans of the schedule; the rate halves between two


@dataclass(frozen=True, eq=False)
class Found:
    """Where a search is after a batch.

    Attributes:
        directions: as far as they are learnt.
        images: (B, 3, S, S), the batch edited.
        index, total: batches done, 1 <= index <= total.
    """

    directions: tuple[Direction, ...]
    images: Tensor
    index: int
    total: int

    @property
    def score(self) -> float | None:
        """Return the latest localization score; None before any picture showed the part."""
        scores = [score for direction in self.directions for score in direction.scores[-1:]]
        return sum(scores) / len(scores) if scores else None


def lelsd(
    generator: LatentGenerator,
    parser: PartParser,
    part: str,
    params: LELSDParams,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    on_step: OnStep | None = None,
    keep_when_stopped: bool = False,
) -> tuple[Direction, ...]:
    """Return `params.num_directions` directions for a part.

    Args:
        seed: decides the pictures, the strengths and where the vectors start.
        layers: those that a direction may move; None for all.
        on_step: told after every batch, with the score and the edited batch's first picture.
        keep_when_stopped: return what is learnt so far when `on_step` raises `Cancelled`.

    Raises:
        InputError: no picture showed the part, so nothing was learnt.
        ValueError: the parser does not know the part, or the generator not the space or a layer.
    """
    directions: tuple[Direction, ...] = ()
    try:
        for found in search(generator, parser, part, params, seed=seed, layers=layers):
            directions = found.directions
            if on_step is not None:
                on_step(_step(found))
    except Cancelled:
        if not keep_when_stopped:
            raise
    if not any(direction.scores for direction in directions):
        raise InputError(
            f"No picture showed the part “{part}”, so nothing was learnt. Please choose another "
            "part, or let the training run longer."
        )
    return directions


def search(
    generator: LatentGenerator,
    parser: PartParser,
    part: str,
    params: LELSDParams,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
) -> Iterator[Found]:
    """Yield the directions after every batch; the caller shows them, and stops when it likes."""
    if part not in parser.parts:
        raise ValueError(f"part must be one of {tuple(parser.parts)}, got {part!r}")
    if params.space not in generator.spaces:
        raise ValueError(f"space must be one of {tuple(generator.spaces)}, got {params.space!r}")
    space, count = generator.spaces[params.space], params.num_directions
    chosen = chosen_layers(space, layers)
    vectors = starting_vectors(space, chosen, count, seed, generator.draw(params.space, [seed])[0])
    optimizer = torch.optim.Adam(vectors, params.learning_rate)
    scores: list[list[float]] = [[] for _ in range(count)]
    total = BATCHES * count
    for i in range(total):
        turn = i % count
        optimizer.param_groups[0]["lr"] = params.learning_rate * 0.5 ** (HALVINGS * i // total)
        codes = generator.draw(params.space, [sub_seed(seed, i, b) for b in range(BATCH)])
        rng = np.random.default_rng(sub_seed(seed, "strength", i))
        alpha = params.max_strength * rng.uniform(-1, 1, BATCH)
        strengths = torch.as_tensor(alpha, dtype=codes[0].dtype, device=codes[0].device)
        with torch.enable_grad():
            u = in_layers(vectors, turn, space, chosen)
            score, images = batch_score(generator, parser, part, params, codes, u, strengths)
            if score is not None:
                objective = score + params.correlation_weight * apartness(vectors)  # eq. 3
                gradients = torch.autograd.grad(-objective, vectors)
                _move(optimizer, vectors, gradients, unit_norm=params.unit_norm)
                scores[turn].append(score.item())
        learnt = tuple(
            Direction(
                tuple(vector.detach().clone() for vector in in_layers(vectors, k, space, chosen)),
                params.space,
                part,
                "lelsd",
                generator.fingerprint,
                tuple(scores[k]),
                {**asdict(params), "seed": seed, "index": k, "layers": list(chosen)},
            )
            for k in range(count)
        )
        yield Found(learnt, images, i + 1, total)


def batch_score(
    generator: LatentGenerator,
    parser: PartParser,
    part: str,
    params: LELSDParams,
    codes: Codes,
    vectors: Sequence[Tensor],
    strengths: Tensor,
) -> tuple[Tensor | None, Tensor]:
    """Return LS(u) of a batch, None where no picture shows the part, and the edited pictures.

    The mean over layers and over the pictures that show the part; differentiable in `vectors`.
    """
    with torch.no_grad():
        images, features = generator.features(params.space, codes)
    edited_images, edited = generator.features(params.space, moved(codes, vectors, strengths))
    parsed = parser.part_masks(torch.cat([images, edited_images.detach()]), part)
    masks = combined(*parsed.chunk(2), params.mask)
    shown = masks.flatten(1).any(1)
    if not shown.any():
        return None, edited_images.detach()
    scores = localization_scores([*features, images], [*edited, edited_images], masks)
    return scores[:, shown].mean(), edited_images.detach()


def apartness(vectors: Sequence[Tensor]) -> Tensor:
    """Return R(u_1, ..., u_K) = -|Corr - I|_F / 2, the mean over layers (K, d_l); 0 for K = 1."""
    count = len(vectors[0])
    if count == 1:
        return vectors[0].new_zeros(())
    identity = torch.eye(count, dtype=vectors[0].dtype, device=vectors[0].device)
    unit = [vector / vector.norm(dim=1, keepdim=True) for vector in vectors]
    norms = [torch.linalg.matrix_norm(u @ u.T - identity) for u in unit]
    return -torch.stack(norms).mean() / 2


# ---------------------------------------------------------------- what is learnt


def chosen_layers(space: LatentSpace, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers that may move, all of them for None.

    Raises:
        ValueError: a layer that is not there, or none.
    """
    every = range(len(space.widths))
    chosen = tuple(every) if layers is None else tuple(sorted(set(layers)))
    if not chosen or not set(chosen) <= set(every):
        raise ValueError(f"layers must be some of 0 to {len(every) - 1}, got {layers}")
    return chosen


def starting_vectors(
    space: LatentSpace, chosen: Sequence[int], count: int, seed: int, like: Tensor
) -> list[Tensor]:
    """Return random vectors of length 1, (K, d_l) for each layer, or one for all if shared."""
    alone = chosen[:1] if space.is_shared else chosen
    vectors = []
    for layer in alone:
        seeds = [sub_seed(seed, "start", k, layer) for k in range(count)]
        normal = seeded_noise((space.widths[layer],), seeds, like)
        vectors.append((normal / normal.norm(dim=1, keepdim=True)).requires_grad_())
    return vectors


def in_layers(
    vectors: Sequence[Tensor], k: int, space: LatentSpace, chosen: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return u_k as one vector (d_l,) for each layer of the space, zero where none is chosen."""
    each = list(vectors) * len(chosen) if space.is_shared else vectors
    by_layer = dict(zip(chosen, each, strict=True))
    return tuple(
        by_layer[i][k] if i in by_layer else vectors[0].new_zeros(width)
        for i, width in enumerate(space.widths)
    )


def _move(
    optimizer: torch.optim.Optimizer,
    vectors: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    unit_norm: bool,
) -> None:
    for vector, gradient in zip(vectors, gradients, strict=True):
        vector.grad = gradient
    optimizer.step()
    if unit_norm:
        with torch.no_grad():
            for vector in vectors:
                vector /= vector.norm(dim=1, keepdim=True)


def _step(found: Found) -> Step:
    return Step(
        "learning",
        found.index,
        found.total,
        preview=lambda: to_pil(found.images[:1])[0],
        score=found.score,
    )
