"""Directions in the latent space of a generator: what they are, how they move codes, their files.

What a method needs of a generator is `LatentGenerator`, and nothing of its architecture. A code is
one tensor for each layer of its space: one for Z, one for each modulated convolution in StyleSpace.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines.errors import InputError
from pipelines.noise import sub_seed

if TYPE_CHECKING:
    from pipelines.models.perceptual import Perceptual

Codes = tuple[Tensor, ...]  # (B, d_l) for each layer

UNIT_LPIPS = 0.1
_CALIBRATION = 16  # pictures
_KEY = "direction"  # where the header of a file holds all but the vectors
_BISECTIONS = 10


@dataclass(frozen=True)
class LatentSpace:
    """The widths d_l of a space's layers; `is_shared` where one vector moves all of them alike."""

    widths: tuple[int, ...]
    is_shared: bool = False


class LatentGenerator(Protocol):
    """A generator as the methods see it.

    Attributes:
        spaces: by name, such as "z", "w", "w+", "s".
        fingerprint: tells weights apart; a direction belongs to those it was found with.
    """

    @property
    def spaces(self) -> Mapping[str, LatentSpace]:
        """See above."""
        ...

    @property
    def fingerprint(self) -> str:
        """See above."""
        ...

    def draw(self, space: str, seeds: Sequence[int]) -> Codes:
        """Return codes of random pictures, without gradient; code i depends on seeds[i] only."""
        ...

    def features(self, space: str, codes: Codes) -> tuple[Tensor, list[Tensor]]:
        """Return images (B, 3, H, W) in [-1, 1] and what the layers give, (B, C, h, w) each."""
        ...


class PartParser(Protocol):
    """A segmentation network that knows parts by name."""

    @property
    def parts(self) -> Sequence[str]:
        """What it can find."""
        ...

    def part_masks(self, images: Tensor, part: str) -> Tensor:
        """Return where a part is, (B, H, W) in {0, 1}, without any gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Direction:
    """What to add to a code to change one part.

    Attributes:
        vectors: (d_l,) for each layer of the space, zero in layers that stay as they are.
        space: name of the latent space.
        part: what it was found for.
        method: how it was found.
        generator: fingerprint of the generator it was found with.
        scores: localization score after every batch of its training, in [0, 1].
        settings: numbers and strings that JSON can hold.
    """

    vectors: tuple[Tensor, ...]
    space: str
    part: str
    method: str
    generator: str
    scores: tuple[float, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers that it moves."""
        return tuple(i for i, vector in enumerate(self.vectors) if vector.any())

    def scaled(self, factor: float) -> Direction:
        """Return the same direction, `factor` times as long."""
        return dataclasses.replace(self, vectors=tuple(v * factor for v in self.vectors))

    def save(self, path: Path) -> None:
        """Write one safetensors file whose header holds everything but the vectors as JSON."""
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        tensors = {
            f"layer_{i}": v.cpu().float().clone() for i, v in enumerate(about.pop("vectors"))
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        save_file(tensors, temporary, metadata={_KEY: json.dumps(about)})
        temporary.replace(path)


def load(path: Path) -> Direction:
    """Return the direction that `Direction.save` wrote.

    Raises:
        InputError: the file holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            vectors = tuple(file.get_tensor(f"layer_{i}") for i in range(len(file.keys())))
        scores = tuple(float(score) for score in about.pop("scores"))
        names = {name: str(about.pop(name)) for name in ("space", "part", "method", "generator")}
        direction = Direction(vectors=vectors, scores=scores, **names, **about)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "This file holds no direction. Please choose a .safetensors file that was downloaded "
            "from this tab."
        ) from error
    if not all(vector.ndim == 1 and vector.isfinite().all() for vector in vectors):
        raise InputError("This direction is damaged. Please download it again.")
    return direction


def check(direction: Direction, generator: LatentGenerator) -> None:
    """Refuse a direction that was found with other weights.

    Raises:
        InputError: as said.
    """
    space = generator.spaces.get(direction.space)
    widths = tuple(len(vector) for vector in direction.vectors)
    if direction.generator != generator.fingerprint or space is None or widths != space.widths:
        raise InputError(
            "This direction was found with another generator and means nothing in this one. "
            "Please train it again."
        )


def apply(
    direction: Direction,
    codes: Codes,
    strength: float | Tensor,
    *,
    layers: Sequence[int] | None = None,
) -> Codes:
    """Return the codes moved along a direction, w + alpha u (eq. 1).

    Args:
        strength: alpha, one number or one for each picture (B,).
        layers: moves these only (Harkonen et al. 2020, arXiv 2004.02546, sec. 3.3); None for all.
    """
    return moved(codes, direction.vectors, strength, layers=layers)


def moved(
    codes: Codes,
    vectors: Sequence[Tensor],
    strength: float | Tensor,
    *,
    layers: Sequence[int] | None = None,
) -> Codes:
    """Return `apply` for bare vectors (d_l,), differentiable in them."""
    alpha = strength[:, None] if isinstance(strength, Tensor) else strength
    pairs = enumerate(zip(codes, vectors, strict=True))
    return tuple(
        code + alpha * vector.to(code) if layers is None or i in layers else code
        for i, (code, vector) in pairs
    )


@torch.no_grad()
def lpips_strengths(
    direction: Direction,
    generator: LatentGenerator,
    perceptual: Perceptual,
    codes: Codes,
    target: float,
    signs: Tensor,
) -> Tensor:
    """Return the strengths (B,) at which edits are `target` away from their pictures in LPIPS.

    `signs` (B,) of 1 and -1 say to which side; nan where the direction never gets there.
    """
    seen = perceptual.features(generator.features(direction.space, codes)[0])

    def distance(strengths: Tensor) -> Tensor:
        edited = generator.features(direction.space, apply(direction, codes, strengths))[0]
        return perceptual.distance_to(seen, edited)

    return strengths_at(distance, target, signs)


def calibrated(
    direction: Direction, generator: LatentGenerator, perceptual: Perceptual, *, seed: int
) -> Direction:
    """Return the direction at a length that moves the median picture by UNIT_LPIPS.

    So a slider means the same for every part. A direction that most pictures cannot follow that far
    stays as it is.
    """
    seeds = [sub_seed(seed, "calibration", i) for i in range(_CALIBRATION)]
    codes = generator.draw(direction.space, seeds)
    signs = torch.tensor([1.0, -1.0], device=codes[0].device).repeat(_CALIBRATION // 2)
    strengths = lpips_strengths(direction, generator, perceptual, codes, UNIT_LPIPS, signs)
    factor = strengths.abs().nan_to_num(nan=torch.inf).median().item()
    if math.isinf(factor):
        return direction
    about = {**direction.settings, "lpips_at_1": UNIT_LPIPS}
    return dataclasses.replace(direction.scaled(factor), settings=about)


@torch.no_grad()
def oriented(
    direction: Direction, generator: LatentGenerator, parser: PartParser, *, seed: int
) -> Direction:
    """Return the direction with the sign at which strengths above 0 show more of the part.

    Nothing that directions are found by tells their two signs apart, so this is only for the eye.
    """
    codes = generator.draw(
        direction.space, [sub_seed(seed, "sign", i) for i in range(_CALIBRATION)]
    )

    def area(strength: float) -> float:
        images, _ = generator.features(direction.space, apply(direction, codes, strength))
        return parser.part_masks(images, direction.part).mean().item()

    return direction if area(1.0) >= area(-1.0) else direction.scaled(-1.0)


def strengths_at(
    distance: Callable[[Tensor], Tensor], target: float, start: Tensor, *, doublings: int = 10
) -> Tensor:
    """Return the strengths (B,) at which a distance reaches `target`, nan where it never does.

    As LELSD's comparison asks (sec. 4.2: the same LPIPS for every method, at a positive and at a
    negative strength). The bracket is found by doubling, the strength in it by bisection.

    Args:
        distance: strengths (B,) -> distances (B,) of the edited pictures to the unedited.
        start: (B,) first strengths, whose sign is kept.
        doublings: of `start`, before a picture is given up.
    """
    low, high = torch.zeros_like(start), start.clone()
    for _ in range(doublings):
        short = distance(high) < target
        if not short.any():
            break
        low, high = torch.where(short, high, low), torch.where(short, 2 * high, high)
    reached = distance(high) >= target
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        short = distance(middle) < target
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return torch.where(reached, high, torch.nan)
