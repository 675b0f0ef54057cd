"""What LELSD is compared with: directions of a part without optimisation.

Random ones, single channels of StyleSpace (Wu, Lischinski, Shechtman 2021, arXiv 2011.12799), and
the best that a first-order expansion of the generator can say, the family of Zhu et al. 2021 (arXiv
2106.04488). The latter two know the generator by its derivatives at the unedited codes only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.directions import Codes, Direction, LatentGenerator, LatentSpace, PartParser
from pipelines.errors import InputError
from pipelines.noise import seeded_noise, sub_seed

CHUNK = 32  # derivatives at once
FIRST_ORDER_PX = 64  # side at which changes are compared
RIDGE = 1e-3  # of the mean energy: coordinates that change nothing are no direction
CLEARLY = 2.0  # how many times a channel's overlap must exceed that with the next part


def random_direction(
    generator: LatentGenerator, part: str, *, space: str = "w+", seed: int
) -> Direction:
    """Return a normal vector of length 1 in every layer, where LELSD starts."""
    widths, like = generator.spaces[space].widths, generator.draw(space, [seed])[0]
    is_shared = generator.spaces[space].is_shared
    streams = [sub_seed(seed, "random", 0 if is_shared else i) for i in range(len(widths))]
    normal = [
        seeded_noise((d,), [stream], like)[0] for d, stream in zip(widths, streams, strict=True)
    ]
    vectors = tuple(vector / vector.norm() for vector in normal)
    return Direction(vectors, space, part, "random", generator.fingerprint, (), {"seed": seed})


@torch.no_grad()
def first_order(
    generator: LatentGenerator,
    parser: PartParser,
    parts: Sequence[str],
    *,
    space: str = "w+",
    seed: int,
    pictures: int = 8,
) -> dict[str, Direction]:
    """Return, for each part, the direction whose first-order change lies most inside it.

    The localization score of LELSD on pictures, with G(w + u) - G(w) replaced by J u, is
    E|M J u|^2 / E|J u|^2 over pictures that show the part, and greatest at the first generalised
    eigenvector of E[J' M J] and E[J' J].

    Raises:
        InputError: a part is on none of the pictures.
    """
    inside: dict[str, Tensor] = {}
    everywhere: dict[str, Tensor] = {}
    for codes, masks in drawn(generator, parser, parts, space=space, seed=seed, count=pictures):
        side = min(FIRST_ORDER_PX, masks.shape[-1])
        cells = F.adaptive_avg_pool2d(masks, side).flatten(1)  # (parts, cells)
        changes = derivatives(generator, space, codes)
        smaller = [F.adaptive_avg_pool2d(change, side).flatten(2) for change in changes]
        jacobian = torch.cat(smaller)  # (D, 3, cells)
        energy = jacobian.flatten(1) @ jacobian.flatten(1).T
        for part, mask in zip(parts, cells, strict=True):
            if mask.any():
                weighted = (jacobian * mask).flatten(1) @ jacobian.flatten(1).T
                inside[part] = inside.get(part, 0) + weighted
                everywhere[part] = everywhere.get(part, 0) + energy
    _refuse_absent(parts, inside, pictures)
    layout, about = generator.spaces[space], {"seed": seed, "pictures": pictures}
    found = {part: most_inside(inside[part], everywhere[part]) for part in parts}
    return {
        part: Direction(
            tuple(vector.clone() for vector in in_layers(flat, layout)),
            space,
            part,
            "first_order",
            generator.fingerprint,
            settings=about,
        )
        for part, flat in found.items()
    }


def most_inside(inside: Tensor, everywhere: Tensor) -> Tensor:
    """Return u of length 1, (D,), with the greatest u' inside u / u' everywhere u, both (D, D)."""
    inside, everywhere = inside.double().cpu(), everywhere.double().cpu()
    ridge = RIDGE * everywhere.diagonal().mean() * torch.eye(len(inside), dtype=inside.dtype)
    lower = torch.linalg.cholesky(everywhere + ridge)
    half = torch.linalg.solve_triangular(lower, inside, upper=False)
    whitened = torch.linalg.solve_triangular(lower, half.T, upper=False)
    best = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors[:, -1:]
    flat = torch.linalg.solve_triangular(lower.T, best, upper=True).flatten()
    return (flat / flat.norm()).float()


@torch.no_grad()
def stylespace(
    generator: LatentGenerator,
    parser: PartParser,
    parts: Sequence[str],
    *,
    seed: int,
    pictures: int = 8,
) -> dict[str, Direction]:
    """Return the style channel that answers for each part, after Wu et al. 2021.

    A channel's overlap with a part is how much of the part its strongest derivatives cover, as many
    pixels as the part has, on average over the pictures that show it. A channel is the part's own
    when that is at least twice its overlap with any other; the largest overlap of these is chosen,
    or the largest of all where no channel is.

    Raises:
        InputError: a part is on none of the pictures.
    """
    space, count = generator.spaces["s"], dict.fromkeys(parts, 0)
    overlaps = torch.zeros(len(parts), sum(space.widths))
    for codes, masks in drawn(generator, parser, parts, space="s", seed=seed, count=pictures):
        shown = masks.flatten(1) > 0
        for part, mask in zip(parts, shown, strict=True):
            count[part] += int(mask.any())
        changes = derivatives(generator, "s", codes)
        maps = torch.cat([change.abs().sum(1).flatten(1) for change in changes])
        overlaps += overlap(maps, shown).cpu()
    _refuse_absent(parts, [part for part in parts if count[part]], pictures)
    overlaps /= torch.tensor([[count[part]] for part in parts])
    about = {"seed": seed, "pictures": pictures}
    return {
        part: _channel(generator, space, overlaps, i, part, about) for i, part in enumerate(parts)
    }


def overlap(maps: Tensor, masks: Tensor) -> Tensor:
    """Return how much of each mask the strongest pixels of each map cover, (parts, channels).

    Args:
        maps: (channels, pixels), of which as many are taken as the mask has.
        masks: (parts, pixels) bool.
    """
    order = maps.argsort(1, descending=True)
    covered = []
    for mask in masks:
        size = int(mask.sum())
        covered.append(mask[order[:, :size]].sum(1) / max(size, 1))
    return torch.stack(covered)


def drawn(
    generator: LatentGenerator,
    parser: PartParser,
    parts: Sequence[str],
    *,
    space: str,
    seed: int,
    count: int,
) -> Iterator[tuple[Codes, Tensor]]:
    """Yield the codes of random pictures, one by one, and where their parts are, (parts, H, W)."""
    for i in range(count):
        codes = generator.draw(space, [sub_seed(seed, "picture", i)])
        image = generator.features(space, codes)[0]
        yield codes, torch.cat([parser.part_masks(image, part) for part in parts])


def derivatives(generator: LatentGenerator, space_name: str, codes: Codes) -> Iterator[Tensor]:
    """Yield d image / d coordinate of one picture, (CHUNK, 3, H, W) at a time, by forward mode.

    The coordinates of all layers follow each other; where layers share theirs, they occur once.
    """
    space = generator.spaces[space_name]
    size = space.widths[0] if space.is_shared else sum(space.widths)
    for first in range(0, size, CHUNK):
        rows = torch.eye(size, dtype=codes[0].dtype, device=codes[0].device)[first : first + CHUNK]
        tangents = in_layers(rows, space)
        points = tuple(code.expand(len(rows), -1).contiguous() for code in codes)
        yield torch.func.jvp(lambda *c: generator.features(space_name, c)[0], points, tangents)[1]


def in_layers(flat: Tensor, space: LatentSpace) -> Codes:
    """Return coordinates (..., D) as one tensor (..., d_l) for each layer."""
    if space.is_shared:
        return (flat,) * len(space.widths)
    return flat.split(space.widths, -1)


def _refuse_absent(parts: Sequence[str], seen: Collection[str], pictures: int) -> None:
    absent = ", ".join(part for part in parts if part not in seen)
    if absent:
        raise InputError(f"None of {pictures} pictures shows: {absent}. Please use more pictures.")


def _channel(
    generator: LatentGenerator,
    space: LatentSpace,
    overlaps: Tensor,
    row: int,
    part: str,
    settings: dict[str, object],
) -> Direction:
    others = torch.cat([overlaps[:row], overlaps[row + 1 :], torch.zeros(1, overlaps.shape[1])])
    own = overlaps[row] >= CLEARLY * others.amax(0)
    ranked = torch.where(own, overlaps[row], -1.0) if own.any() else overlaps[row]
    best = int(ranked.argmax())
    flat = torch.zeros(overlaps.shape[1])
    flat[best] = 1.0
    about = {**settings, "channel": best, "overlap": float(overlaps[row, best])}
    vectors = in_layers(flat, space)
    return Direction(vectors, "s", part, "stylespace", generator.fingerprint, (), about)
