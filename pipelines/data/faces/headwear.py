"""What grows and sits on a clay head: hair, beards, hats. Frame as in `features`.

Hats share one seat, tilted so that it leaves the brows free; hair is cut at it, so that nothing
grows through a hat.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipelines.data.faces import paint
from pipelines.data.faces.features import CLOTHS, JAW_Y, Piece, Traits, mixed, painted
from pipelines.data.primitives import Colour, Paint, Row, Vector, ball, box, cone, egg, limb, ring

SEAT_Y, SEAT_Z, SEAT_TILT = 0.36, -0.04, -0.16  # radians; the front is higher


def carve(row: Row, blend: float) -> Row:
    """Return the row as one that is cut out of what came before it in its part."""
    return [*row[:2], -blend, *row[3:35], row[35] + blend, blend]


def on_seat(up: float, out: float) -> Vector:
    """Return the point `up` from and `out` of the middle of the hat's seat."""
    c, s = math.cos(SEAT_TILT), math.sin(SEAT_TILT)
    return (0.0, SEAT_Y + c * up - s * out, SEAT_Z + s * up + c * out)


def _half_space(up: float, *, above: bool) -> Row:
    """Return everything above or below a height over the seat, as a large tilted box."""
    centre = on_seat(up + (2.0 if above else -2.0), 0.0)
    return box(Paint((0, 0, 0)), centre, (3.0, 2.0, 3.0), 0.0, turn=("x", SEAT_TILT))


def _below(y: float, tilt: float = 0.0) -> Row:
    return box(Paint((0, 0, 0)), (0, y - 2.0, 0), (3.0, 2.0, 3.0), 0.0, turn=("x", tilt))


# ---------------------------------------------------------------- hair


def _fringe(traits: Traits, centre: Vector, radii: Vector) -> Row:
    """Return the window for the face, turned to the side of the parting."""
    line, parting = 0.05 * traits.jitter[10], 0.09 * traits.jitter[11]
    shifted = (centre[0] + parting, centre[1] + line, centre[2])
    return egg(Paint((0, 0, 0)), shifted, radii, turn=("z", 1.3 * parting))


def _crop(traits: Traits, colour: Paint, volume: float) -> list[Row]:
    return [
        egg(colour, (0, 0.12, -0.06), (0.675 + 0.4 * volume, 0.77 + volume, 0.70)),
        carve(_fringe(traits, (0, -0.22, 0.64), (0.60, 0.70, 0.64)), 0.06),
        carve(_below(-0.14), 0.08),
    ]


def _bun(traits: Traits, colour: Paint, volume: float) -> list[Row]:
    if traits.face.hat == "none":
        return [egg(colour, (0, 0.98 + volume, -0.10), (0.27, 0.24, 0.27), blend=0.05)]
    return [egg(colour, (0.66, -0.40, -0.25), (0.27, 0.26, 0.24), blend=0.05)]


def _curtain(traits: Traits, colour: Paint, volume: float, *, long: bool) -> list[Row]:
    """Bob and long hair: round the ears, open at the face."""
    fall = [limb(colour, (0.58, -0.2, -0.14), (0.64, -1.25, 0.10), 0.24, 0.19, blend=0.15)]
    cut = [carve(_below(-0.60, -0.1), 0.1)]
    return [
        egg(colour, (0, 0.04, -0.12), (0.76 + volume, 0.83 + volume, 0.72)),
        egg(colour, (0.50, -0.34, -0.10), (0.26, 0.36, 0.36), blend=0.12),
        *(fall if long else []),
        carve(_fringe(traits, (0, -0.18, 0.62), (0.55, 0.64, 0.66)), 0.06),
        carve(egg(colour, (0, -0.85, 0.52), (0.45, 0.78, 0.62)), 0.10),
        *([] if long else cut),
    ]


def _curls(traits: Traits, colour: Paint, volume: float) -> list[Row]:
    round_ = (0.82 + volume, 0.87 + volume, 0.76)
    return [
        egg(colour, (0, 0.14, -0.12), round_, bump=(0.062, 14.0)),
        carve(_fringe(traits, (0, -0.20, 0.66), (0.57, 0.66, 0.68)), 0.05),
        carve(_below(-0.44), 0.12),
    ]


def hair(traits: Traits) -> list[Piece]:
    """Return the hair, cut where a hat sits."""
    style, volume = traits.face.hair, 0.045 * (1 + traits.jitter[12])
    colour = painted(paint.HAIR, traits.hair, 0.24)
    if style == "none":
        return []
    rows = {
        "short": lambda: _crop(traits, colour, volume),
        "bun": lambda: _crop(traits, colour, 0.2 * volume),
        "bob": lambda: _curtain(traits, colour, volume, long=False),
        "long": lambda: _curtain(traits, colour, volume, long=True),
        "curly": lambda: _curls(traits, colour, volume),
    }[style]()
    if traits.face.hat != "none":
        rows.append(carve(_half_space(0.02, above=True), 0.06))
    pieces = [Piece(row, "hair", both=_is_paired(row)) for row in rows]
    if style == "bun":
        pieces += [Piece(row, "bun") for row in _bun(traits, colour, volume)]
    return pieces


def _is_paired(row: Row) -> bool:
    """Return whether a row stands to the right of the middle and is not a window."""
    return row[2] >= 0.0 and row[21] > 0.3


# ---------------------------------------------------------------- beards


def _moustache(traits: Traits, colour: Paint, depth: Callable[[float, float], float]) -> list[Row]:
    y = -0.275 - 0.05 * traits.face.nose_size
    droop = 0.10 - 0.6 * max(traits.lift, -0.05)
    points = [(0.03, y), (0.16, y - 0.02), (0.31, y - droop)]
    a, b, c = ((x, h, depth(x, h) + 0.012) for x, h in points)
    return [limb(colour, a, b, 0.058, 0.052), limb(colour, b, c, 0.052, 0.020, blend=0.03)]


def _mouth_hole(traits: Traits) -> Row:
    """Return the room that a beard leaves for the mouth."""
    low = traits.mouth_y - 0.35 * max(traits.lift, 0.0) - 0.20 * traits.opening - 0.10
    high = traits.mouth_y + 0.65 * max(traits.lift, 0.0) + 0.06 * traits.opening + 0.09
    height = max((high - low) / 2, 0.12)
    centre = (0, (high + low) / 2, 0.75)
    return egg(Paint((0, 0, 0)), centre, (traits.mouth_width + 0.06, height, 0.55))


def beard(traits: Traits, depth: Callable[[float, float], float]) -> list[Piece]:
    """Return moustache, goatee (a moustache with a tuft on the chin) or full beard."""
    kind, chin = traits.face.beard, JAW_Y - traits.chin
    colour = painted(paint.BEARD, mixed(traits.hair, (0.10, 0.06, 0.05), 0.12), 0.05)
    if kind == "none":
        return []
    pieces = [Piece(row, "moustache", both=True) for row in _moustache(traits, colour, depth)]
    if kind == "goatee":
        tuft = egg(colour, (0, chin + 0.06, 0.42), (0.17, 0.20, 0.17), bump=(0.012, 22.0))
        return [*pieces, Piece(tuft, "beard"), Piece(carve(_mouth_hole(traits), 0.03), "beard")]
    if kind == "full":
        full = (traits.jaw + 0.075, traits.chin + 0.10, 0.56)
        side = egg(colour, (0.47, -0.26, 0.06), (0.165, 0.40, 0.30), blend=0.14)
        window = egg(colour, (0, 0.02, 0.62), (0.50, 0.42, 0.55))
        rows = [
            egg(colour, (0, JAW_Y - 0.02, 0.09), full, bump=(0.02, 20.0)),
            side,
            carve(window, 0.06),
            carve(_mouth_hole(traits), 0.04),
        ]
        pieces += [Piece(row, "beard", both=row is side) for row in rows]
    return pieces


# ---------------------------------------------------------------- hats


def _crown(colour: Paint, radii: Vector, up: float = 0.0) -> list[Row]:
    return [
        egg(colour, on_seat(up, 0.0), radii, turn=("x", SEAT_TILT)),
        carve(_half_space(0.0, above=False), 0.03),
    ]


def _disc(colour: Paint, up: float, out: float, radius: float, height: float, tilt: float) -> Row:
    centre, turn = on_seat(up, out), ("x", SEAT_TILT + tilt)
    return cone(colour, centre, height, radius, radius, 0.45 * height, turn=turn)


def _tilted_ring(colour: Paint, up: float, radius: float, thickness: float) -> Row:
    """Return a ring around the seat."""
    c, s = math.cos(SEAT_TILT), math.sin(SEAT_TILT)
    row = ring(colour, on_seat(up, 0.0), radius, thickness, blend=0.03)
    return [*row[:11], 1.0, 1, 0, 0, 0, c, s, 0, -s, c, *row[21:]]


def hat(traits: Traits) -> list[Piece]:
    """Return cap, beanie or a hat with a wide brim."""
    kind, base = traits.face.hat, CLOTHS[traits.face.hat_colour]
    colour, dark = painted(paint.HAT, base, 0.1), painted(paint.HAT, _shade(base), 0.08)
    if kind == "cap":
        rows = [*_crown(colour, (0.71, 0.55, 0.73)), ball(dark, on_seat(0.55, 0.0), 0.06)]
        return [
            *(Piece(row, "hat") for row in rows),
            Piece(_disc(dark, 0.05, 0.50, 0.54, 0.07, 0.24), "visor"),
        ]
    if kind == "beanie":
        rows = [
            *_crown(colour, (0.69, 0.60, 0.71), up=0.05),
            _tilted_ring(dark, 0.04, 0.655, 0.10),
            ball(dark, on_seat(0.72, 0.0), 0.15),
        ]
        return [Piece(row, "hat") for row in rows]
    if kind == "brim":
        rows = [*_crown(colour, (0.66, 0.56, 0.68)), _disc(dark, 0.10, 0.0, 0.675, 0.16, 0.0)]
        return [
            *(Piece(row, "hat") for row in rows),
            Piece(_disc(colour, 0.02, 0.0, 1.03, 0.075, 0.0), "visor"),
        ]
    return []


def _shade(colour: Colour) -> Colour:
    """Return a darker colour for bands and visors; a paler one where it is black already."""
    return mixed(colour, (0.5, 0.5, 0.55) if max(colour) < 0.3 else (0.08, 0.04, 0.06), 0.30)
