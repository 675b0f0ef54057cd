"""The eight animals: each builder is a short list of primitives; see `pipelines.data.shapes`."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.data.paints import BLACK, DARK, PINK, SIDES, Paints
from pipelines.data.primitives import (
    BLOTCHES,
    LEAVES,
    ZEBRA,
    Colour,
    Paint,
    Row,
    ball,
    box,
    cone,
    egg,
    limb,
    ring,
)


def _contrast(colour: Colour) -> Colour:
    """Colour of a cow's blotches on a hide of `colour`."""
    return (0.90, 0.89, 0.86) if max(colour) < 0.3 else (0.11, 0.10, 0.10)


def _eyes(x: float, y: float, z: float, size: float = 0.028) -> list[Row]:
    return [ball(BLACK, (x, y, s * z), size) for s in SIDES]


def _legs(
    paint: Paint, foot: Paint, span: float, width: float, top: float, r: float, sway: float
) -> list[Row]:
    """Four legs with feet, `span` and `width` from the middle, hips at height `top`."""
    rows = []
    for s in SIDES:
        for t in SIDES:
            toe = s * span + 0.05 * sway * t
            rows.append(
                limb(
                    paint,
                    (s * span, top, t * width),
                    (toe, 0.12, t * width),
                    r,
                    r * 0.7,
                    blend=0.05,
                )
            )
            rows.append(cone(foot, (toe, 0.0, t * width), 0.12, r * 0.95, r * 0.75, 0.02))
    return rows


# ---------------------------------------------------------------- hoofed


def _equine(body: Paint, flat: Paint, mane: Paint, muzzle: Paint, j: Sequence[float]) -> list[Row]:
    up = 0.04 * j[0]
    return [
        egg(body, (0, 0.70, 0), (0.42, 0.21, 0.19), blend=0.06),
        egg(body, (0.24, 0.73, 0), (0.20, 0.23, 0.19), blend=0.08),
        egg(body, (-0.26, 0.73, 0), (0.21, 0.22, 0.20), blend=0.08),
        *_legs(body, DARK, 0.28, 0.10, 0.60, 0.085, j[1]),
        limb(body, (0.32, 0.80, 0), (0.52, 1.16 + up, 0), 0.15, 0.10, blend=0.08),
        limb(body, (0.54, 1.18 + up, 0), (0.70, 1.07 + up, 0), 0.115, 0.085, blend=0.05),
        egg(muzzle, (0.77, 1.02 + up, 0), (0.10, 0.08, 0.078), blend=0.04),
        *[
            cone(flat, (0.50, 1.33 + up, s * 0.07), 0.16, 0.045, 0.01, 0.01, turn=("x", s * 0.2))
            for s in SIDES
        ],
        limb(mane, (0.50, 1.31 + up, 0), (0.36, 1.20 + up, 0), 0.055, 0.06),
        limb(mane, (0.36, 1.20 + up, 0), (0.20, 0.92, 0), 0.065, 0.05),
        limb(mane, (-0.44, 0.82, 0), (-0.60, 0.66 - 0.05 * j[2], 0), 0.05, 0.065),
        limb(mane, (-0.60, 0.66 - 0.05 * j[2], 0), (-0.62, 0.34, 0), 0.065, 0.03),
        *_eyes(0.615, 1.195 + up, 0.095),
    ]


def horse(p: Paints, j: Sequence[float]) -> list[Row]:
    """Long neck, mane and tail."""
    return _equine(p.body, p.flat, p.dark, p.body, j)


def zebra(p: Paints, j: Sequence[float]) -> list[Row]:
    """A horse's shape in stripes, with a black mane."""
    stripes = Paint((0.95, 0.94, 0.92), (0.06, 0.06, 0.07), ZEBRA)
    return _equine(stripes, DARK, BLACK, DARK, j)


def cow(p: Paints, j: Sequence[float]) -> list[Row]:
    """Boxy, blotched, with horns and a pink muzzle."""
    hide = p.finished(BLOTCHES, _contrast(p.flat.colour))
    horn = Paint((0.93, 0.88, 0.74))
    return [
        box(hide, (0, 0.66, 0), (0.52, 0.25, 0.25), 0.17, blend=0.06),
        *_legs(p.flat, DARK, 0.33, 0.14, 0.50, 0.095, j[1]),
        egg(hide, (0.58, 0.86, 0), (0.19, 0.17, 0.155), blend=0.08),
        egg(PINK, (0.74, 0.79, 0), (0.11, 0.105, 0.13), blend=0.02),
        *[ball(DARK, (0.835, 0.82, s * 0.05), 0.022) for s in SIDES],
        *[limb(horn, (0.54, 1.0, s * 0.09), (0.58, 1.17, s * 0.19), 0.045, 0.018) for s in SIDES],
        *[egg(p.flat, (0.50, 0.93, s * 0.21), (0.05, 0.05, 0.10)) for s in SIDES],
        egg(PINK, (-0.22, 0.40, 0), (0.13, 0.09, 0.11), blend=0.03),
        limb(p.flat, (-0.51, 0.82, 0), (-0.62, 0.44, 0), 0.03, 0.025),
        ball(DARK, (-0.625, 0.40, 0), 0.05),
        *_eyes(0.695, 0.92, 0.115, 0.032),
    ]


def sheep(p: Paints, j: Sequence[float]) -> list[Row]:
    """Woolly, dark in face and legs."""
    wool = p.finished(LEAVES)
    face = Paint((0.20, 0.17, 0.17))
    bump = (0.022, 17.0)
    return [
        egg(wool, (-0.04, 0.66, 0), (0.50, 0.36, 0.35), bump=bump),
        egg(wool, (-0.30, 0.70, 0), (0.30, 0.30, 0.32), bump=bump, blend=0.04),
        egg(wool, (0.24, 0.74, 0), (0.28, 0.29, 0.30), bump=bump, blend=0.04),
        *_legs(face, face, 0.24, 0.14, 0.42, 0.065, j[1]),
        egg(face, (0.56, 0.82 + 0.03 * j[0], 0), (0.19, 0.15, 0.135), turn=("z", -0.45)),
        egg(wool, (0.46, 0.96 + 0.03 * j[0], 0), (0.16, 0.12, 0.16), bump=bump),
        *[egg(face, (0.46, 0.88, s * 0.20), (0.05, 0.045, 0.10)) for s in SIDES],
        *[
            ball(Paint((0.96, 0.95, 0.93)), (0.63, 0.90 + 0.03 * j[0], s * 0.10), 0.035)
            for s in SIDES
        ],
        *_eyes(0.655, 0.902 + 0.03 * j[0], 0.112, 0.022),
    ]


# ---------------------------------------------------------------- pets


def cat(p: Paints, j: Sequence[float]) -> list[Row]:
    """Sitting, pointed ears, raised tail."""
    iris = Paint((0.45, 0.72, 0.25), gloss=0.4)
    wag = 0.08 * j[0]
    return [
        egg(p.body, (0, 0.36, 0), (0.27, 0.38, 0.26), blend=0.06),
        egg(p.body, (-0.08, 0.20, 0), (0.30, 0.21, 0.31), blend=0.06),
        egg(p.body, (0.10, 0.86, 0), (0.27, 0.23, 0.29), blend=0.04),
        *[
            cone(p.flat, (0.08, 1.08, s * 0.17), 0.26, 0.11, 0.015, 0.01, turn=("x", s * 0.22))
            for s in SIDES
        ],
        *[
            cone(PINK, (0.135, 1.07, s * 0.165), 0.17, 0.06, 0.01, 0.01, turn=("x", s * 0.22))
            for s in SIDES
        ],
        *[
            limb(p.body, (0.20, 0.40, s * 0.10), (0.24, 0.06, s * 0.10), 0.085, 0.075, blend=0.03)
            for s in SIDES
        ],
        egg(p.pale, (0.31, 0.79, 0), (0.09, 0.075, 0.12), blend=0.03),
        egg(PINK, (0.39, 0.825, 0), (0.03, 0.024, 0.036)),
        *[ball(iris, (0.315, 0.905, s * 0.115), 0.058) for s in SIDES],
        *_eyes(0.358, 0.91, 0.122, 0.03),
        limb(p.body, (-0.28, 0.10, 0.05), (-0.56, 0.22, 0.05), 0.07, 0.065, blend=0.04),
        limb(p.body, (-0.56, 0.22, 0.05), (-0.60 - wag, 0.72, 0.05), 0.065, 0.055, blend=0.05),
    ]


def dog(p: Paints, j: Sequence[float]) -> list[Row]:
    """Standing, hanging ears, long snout, collar."""
    collar = Paint((0.80, 0.16, 0.18))
    return [
        egg(p.body, (0, 0.52, 0), (0.43, 0.20, 0.20), blend=0.06),
        egg(p.body, (0.26, 0.56, 0), (0.21, 0.23, 0.21), blend=0.06),
        *_legs(p.body, p.flat, 0.28, 0.12, 0.44, 0.085, j[1]),
        limb(p.body, (0.34, 0.66, 0), (0.46, 0.88, 0), 0.14, 0.13, blend=0.06),
        egg(p.body, (0.50, 0.98, 0), (0.21, 0.20, 0.20), blend=0.05),
        limb(p.pale, (0.62, 0.93, 0), (0.80, 0.89, 0), 0.105, 0.085, blend=0.04),
        ball(BLACK, (0.88, 0.925, 0), 0.052),
        *[
            egg(p.dark, (0.44, 0.92, s * 0.225), (0.10, 0.21, 0.05), turn=("x", -s * 0.18))
            for s in SIDES
        ],
        *_eyes(0.675, 1.06, 0.105, 0.034),
        ring(collar, (0.405, 0.79, 0), 0.12, 0.035),
        limb(p.body, (-0.38, 0.62, 0), (-0.60, 0.86 + 0.06 * j[0], 0), 0.06, 0.045, blend=0.05),
        limb(
            p.body,
            (-0.60, 0.86 + 0.06 * j[0], 0),
            (-0.57, 1.04 + 0.06 * j[0], 0),
            0.045,
            0.03,
            blend=0.03,
        ),
    ]


def rabbit(p: Paints, j: Sequence[float]) -> list[Row]:
    """Sitting up, long ears, round white tail."""
    lean = 0.06 * j[0]
    return [
        egg(p.body, (-0.04, 0.33, 0), (0.31, 0.33, 0.27), blend=0.06),
        egg(p.body, (-0.14, 0.20, 0), (0.27, 0.20, 0.31), blend=0.05),
        egg(p.body, (0.17, 0.72, 0), (0.22, 0.21, 0.21), blend=0.04),
        *[
            limb(
                p.flat,
                (0.12, 0.86, s * 0.09),
                (0.06 - lean, 1.36, s * 0.15),
                0.065,
                0.085,
                blend=0.03,
            )
            for s in SIDES
        ],
        *[
            limb(PINK, (0.165, 0.95, s * 0.105), (0.125 - lean, 1.33, s * 0.152), 0.03, 0.045)
            for s in SIDES
        ],
        *[egg(p.body, (0.22, 0.07, s * 0.15), (0.19, 0.075, 0.085)) for s in SIDES],
        *[
            limb(p.body, (0.19, 0.42, s * 0.09), (0.26, 0.20, s * 0.08), 0.07, 0.06, blend=0.03)
            for s in SIDES
        ],
        egg(p.pale, (0.345, 0.66, 0), (0.075, 0.07, 0.10), blend=0.03),
        egg(PINK, (0.41, 0.695, 0), (0.03, 0.025, 0.035)),
        box(Paint((0.98, 0.97, 0.95)), (0.405, 0.60, 0), (0.015, 0.04, 0.03), 0.01),
        *_eyes(0.33, 0.785, 0.115, 0.042),
        ball(Paint((0.97, 0.96, 0.94), finish=LEAVES), (-0.37, 0.24, 0), 0.13),
    ]


def bear(p: Paints, j: Sequence[float]) -> list[Row]:
    """A sitting teddy with round ears and a pale belly."""
    lift = 0.06 * j[0]
    return [
        egg(p.body, (0, 0.42, 0), (0.32, 0.40, 0.36), blend=0.05),
        egg(p.pale, (0.20, 0.42, 0), (0.16, 0.25, 0.22)),
        egg(p.body, (0.06, 0.95, 0), (0.29, 0.27, 0.31), blend=0.04),
        *[ball(p.flat, (0.0, 1.18, s * 0.23), 0.115) for s in SIDES],
        *[ball(p.pale, (0.065, 1.185, s * 0.235), 0.07) for s in SIDES],
        egg(p.pale, (0.32, 0.88, 0), (0.14, 0.115, 0.15), blend=0.02),
        egg(BLACK, (0.455, 0.925, 0), (0.04, 0.038, 0.06)),
        *_eyes(0.325, 1.035, 0.115, 0.038),
        *[
            limb(
                p.body,
                (0.05, 0.62, s * 0.30),
                (0.24, 0.40 + lift, s * 0.44),
                0.12,
                0.115,
                blend=0.04,
            )
            for s in SIDES
        ],
        *[
            limb(p.body, (0.10, 0.14, s * 0.24), (0.42, 0.14, s * 0.32), 0.14, 0.13, blend=0.04)
            for s in SIDES
        ],
        *[egg(p.pale, (0.535, 0.15, s * 0.35), (0.04, 0.095, 0.085)) for s in SIDES],
    ]
