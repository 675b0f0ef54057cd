"""Colours of things: eight named ones, a natural one for each class, and the pattern on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.data.primitives import DOTS, PLAIN, STRIPES, Colour, Paint

NAMED: dict[str, Colour] = {
    "red": (0.86, 0.11, 0.11),
    "orange": (0.98, 0.50, 0.06),
    "yellow": (0.98, 0.84, 0.14),
    "green": (0.13, 0.60, 0.20),
    "blue": (0.12, 0.34, 0.88),
    "purple": (0.54, 0.20, 0.74),
    "white": (0.96, 0.95, 0.93),
    "black": (0.10, 0.10, 0.12),
}
NATURAL: dict[str, Colour] = {
    "horse": (0.52, 0.31, 0.17),
    "zebra": (0.95, 0.94, 0.92),
    "cow": (0.95, 0.94, 0.91),
    "sheep": (0.93, 0.88, 0.77),
    "cat": (0.58, 0.57, 0.58),
    "dog": (0.78, 0.58, 0.36),
    "rabbit": (0.70, 0.60, 0.50),
    "bear": (0.52, 0.33, 0.20),
    "apple": (0.82, 0.16, 0.20),
    "orange": (0.98, 0.56, 0.10),
    "pear": (0.74, 0.78, 0.28),
    "lemon": (0.99, 0.90, 0.28),
    "car": (0.60, 0.68, 0.74),
    "bus": (0.93, 0.76, 0.36),
    "truck": (0.36, 0.66, 0.66),
    "train": (0.24, 0.42, 0.42),
    "house": (0.94, 0.87, 0.74),
    "castle": (0.68, 0.66, 0.63),
    "lighthouse": (0.96, 0.95, 0.92),
    "tent": (0.66, 0.62, 0.42),
    "tree": (0.30, 0.58, 0.24),
    "pine": (0.14, 0.42, 0.30),
    "cactus": (0.38, 0.60, 0.36),
    "mushroom": (0.72, 0.48, 0.34),
}
# Paints of parts that never change colour.
BLACK = Paint((0.06, 0.055, 0.06), gloss=0.35)
DARK = Paint((0.15, 0.13, 0.13))
PINK = Paint((0.95, 0.62, 0.62))
WOOD = Paint((0.46, 0.29, 0.16), gloss=0.05)
GREEN_LEAF = Paint((0.30, 0.66, 0.24), gloss=0.2)
GLASS = Paint((0.24, 0.36, 0.46), gloss=0.7, glow=1.3)
PANE = Paint((0.50, 0.72, 0.88), gloss=0.6, glow=1.2)
LAMP = Paint((1.0, 0.93, 0.62), gloss=0.5, glow=1.4)
TYRE = Paint((0.10, 0.10, 0.11), gloss=0.1)
CHROME = Paint((0.78, 0.79, 0.82), gloss=0.5)
SIDES = (-1, 1)

_WHITE: Colour = (0.96, 0.95, 0.92)


@dataclass(frozen=True)
class Paints:
    """Paints of one thing: main body with its pattern, the same unpatterned, darker, pale."""

    body: Paint
    flat: Paint
    dark: Paint
    pale: Paint
    natural: bool

    def finished(self, finish: int, second: Colour | None = None, bands: float = 0.0) -> Paint:
        """Return the body paint with a class's own finish, unless a pattern covers it."""
        if self.body.finish != PLAIN:
            return self.body
        return replace(self.body, finish=finish, second=second or _WHITE, bands=bands)


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return tuple(x * (1 - t) + y * t for x, y in zip(a, b, strict=True))


def _second(colour: Colour) -> Colour:
    """Colour of stripes and dots on a body of `colour`: dark on pale, else white."""
    luma = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
    if luma > 0.85:
        return (0.42, 0.43, 0.47)
    return _mix(colour, (0.30, 0.12, 0.02), 0.62) if luma > 0.68 else _WHITE


def paints(
    class_name: str, colour: str | None, pattern: str, jitter: Sequence[float], frequency: float
) -> Paints:
    """Return a thing's paints; three `jitter` numbers in [-1, 1] move the colour a little."""
    base = NAMED[colour] if colour else NATURAL[class_name]
    spread = 0.018 if colour else 0.03
    base = tuple(
        min(max(c * (1 + 0.03 * jitter[0]) + spread * d, 0.03), 0.99)
        for c, d in zip(base, (jitter[1], 0.5 * jitter[2], -jitter[1]), strict=True)
    )
    flat = Paint(base, frequency=frequency)
    finish = {"plain": PLAIN, "striped": STRIPES, "dotted": DOTS}[pattern]
    dim = (0.34, 0.34, 0.38) if max(base) < 0.3 else _mix(base, (0.06, 0.03, 0.05), 0.45)
    return Paints(
        body=replace(flat, finish=finish, second=_second(base)),
        flat=flat,
        dark=replace(flat, colour=dim),
        pale=replace(flat, colour=_mix(base, (1.0, 0.97, 0.92), 0.45)),
        natural=colour is None,
    )
