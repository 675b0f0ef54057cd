"""Primitives of the toy world: one function a shape, each returns one row for the renderer.

A shape is built in its own frame: x forward (where an animal looks), y up from the ground, the
viewer at negative z. Lengths are toy units before the class's scale.
Row layout: 0 kind, 1 finish, 2 blend, 3:6 colour, 6:9 second colour, 9 gloss, 10 glow at night,
11 rotated, 12:21 rotation, 21:24 centre, 24:30 shape, 30 bands, 31 pattern frequency,
32:35 centre and 35 radius of the bounding sphere, 36 how far a blend reaches from the surface.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 37
PLAIN, ZEBRA, BLOTCHES, LEAVES, STRIPES, DOTS, BLUSH, BANDS, STONE = range(9)

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]
Row = list[float]


@dataclass(frozen=True)
class Paint:
    """Colours in [0, 1], finish (one of the constants above), gloss and glow as fractions."""

    colour: Colour
    second: Colour = (1.0, 1.0, 1.0)
    finish: int = PLAIN
    gloss: float = 0.18
    glow: float = 0.0
    bands: float = 0.0  # radians a toy unit, for BANDS
    frequency: float = 8.0  # pattern cells a toy unit


def _rotation(axis: str, angle: float) -> list[float]:
    """Rows of the matrix that undoes a turn by `angle` radians about x, y or z."""
    c, s = math.cos(angle), math.sin(angle)
    if axis == "x":
        return [1, 0, 0, 0, c, s, 0, -s, c]
    if axis == "y":
        return [c, 0, -s, 0, 1, 0, s, 0, c]
    return [c, s, 0, -s, c, 0, 0, 0, 1]


def _row(
    kind: int,
    paint: Paint,
    centre: Vector,
    shape: Sequence[float],
    *,
    radius: float,
    blend: float = 0.0,
    turn: tuple[str, float] | None = None,
    bound: Vector | None = None,
) -> Row:
    rotation = _rotation(*turn) if turn else [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
    return [
        kind,
        paint.finish,
        blend,
        *paint.colour,
        *paint.second,
        paint.gloss,
        paint.glow,
        float(turn is not None),
        *rotation,
        *centre,
        *shape,
        *[0.0] * (6 - len(shape)),
        paint.bands,
        paint.frequency,
        *(bound or centre),
        radius + blend,
        blend,
    ]


def assemble(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows, each reaching as far as any later row may blend with it."""
    reach, built = 0.0, []
    for part in reversed(rows):
        reach = max(reach, part[2])
        built.append([*part[:35], part[35] - part[2] + reach, reach])
    return tuple(reversed(built))


def ball(paint: Paint, centre: Vector, radius: float, *, blend: float = 0.0) -> Row:
    """Return a sphere."""
    return _row(2, paint, centre, [0, 0, 0, radius, radius], radius=radius, blend=blend)


def egg(
    paint: Paint,
    centre: Vector,
    radii: Vector,
    *,
    blend: float = 0.0,
    bump: tuple[float, float] = (0.0, 0.0),
    turn: tuple[str, float] | None = None,
) -> Row:
    """Return an ellipsoid; `bump` = height of a bumpy skin and its frequency in radians a unit."""
    shape = [*(1.0 / r for r in radii), *bump]
    return _row(0, paint, centre, shape, radius=max(radii) + bump[0], blend=blend, turn=turn)


def box(
    paint: Paint,
    centre: Vector,
    half: Vector,
    rounding: float = 0.02,
    *,
    blend: float = 0.0,
    turn: tuple[str, float] | None = None,
) -> Row:
    """Return a rounded box of half sizes `half`, rounding included."""
    radius = math.hypot(*half)
    return _row(1, paint, centre, [*half, rounding], radius=radius, blend=blend, turn=turn)


def limb(
    paint: Paint, start: Vector, end: Vector, r_start: float, r_end: float, *, blend: float = 0.0
) -> Row:
    """Return a rounded stick from `start` to `end` whose radius changes linearly."""
    along = [b - a for a, b in zip(start, end, strict=True)]
    middle = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
    radius = math.hypot(*along) / 2 + max(r_start, r_end)
    inverse = 1.0 / (math.hypot(*along) ** 2 + 1e-9)
    shape = [*along, r_start, r_end, inverse]
    return _row(2, paint, start, shape, radius=radius, blend=blend, bound=middle)


def cone(
    paint: Paint,
    base: Vector,
    height: float,
    r_low: float,
    r_high: float,
    rounding: float = 0.02,
    *,
    blend: float = 0.0,
    turn: tuple[str, float] | None = None,
) -> Row:
    """Return a capped cone standing on `base`; with `turn`, `base` is its centre instead."""
    centre = base if turn else (base[0], base[1] + height / 2, base[2])
    radius = math.hypot(height / 2, max(r_low, r_high))
    half, low, high = height / 2 - rounding, r_low - rounding, max(r_high - rounding, 0.0)
    inverse = 1.0 / ((high - low) ** 2 + 4 * half**2 + 1e-9)
    shape = [half, low, high, rounding, inverse]
    return _row(3, paint, centre, shape, radius=radius, blend=blend, turn=turn)


def wheel(paint: Paint, centre: Vector, radius: float, width: float) -> Row:
    """Return a cylinder of the given full width whose axle lies along z."""
    return cone(paint, centre, width, radius, radius, 0.02, turn=("x", math.pi / 2))


def gable(
    paint: Paint,
    base: Vector,
    half_width: float,
    height: float,
    half_depth: float,
    rounding: float = 0.01,
) -> Row:
    """Return a prism with a triangle across x and its ridge along z."""
    bound = (base[0], base[1] + height * 0.4, base[2])
    radius = math.hypot(max(half_width, height * 0.6), half_depth, height * 0.4) + rounding
    slant = math.hypot(half_width, height)
    shape = [
        *(height / slant, half_width / slant),
        *(half_depth, rounding, half_width * height / slant),
    ]
    return _row(4, paint, base, shape, radius=radius, bound=bound)


def ring(
    paint: Paint, centre: Vector, radius: float, thickness: float, *, blend: float = 0.0
) -> Row:
    """Return a torus around y; a thickness above the radius makes a ball with dips."""
    return _row(5, paint, centre, [radius, thickness], radius=radius + thickness, blend=blend)


def merlons(paint: Paint, centre: Vector, radius: float, count: int, half: Vector) -> Row:
    """Return `count` boxes on a ring around y; half sizes radial, up, along the ring."""
    reach = math.hypot(radius + half[0], half[1], half[2])
    return _row(6, paint, centre, [radius, count, *half], radius=reach)


def row(paint: Paint, centre: Vector, half: Vector, step: float, count: int) -> Row:
    """Return `count` boxes in a row along x, `step` apart, centred."""
    reach = math.hypot(half[0] + step * (count - 1) / 2, half[1], half[2])
    return _row(7, paint, centre, [*half, 0.01, step, count], radius=reach)
