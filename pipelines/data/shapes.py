"""The 24 classes: each builder is a short list of primitives.

A builder takes the paints of the thing and `j`, eight numbers in [-1, 1] that vary its shape and
mean nothing else, so that two classes built from the same numbers are comparably varied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipelines.data import animals
from pipelines.data.paints import (
    CHROME,
    DARK,
    GLASS,
    GREEN_LEAF,
    LAMP,
    PANE,
    SIDES,
    TYRE,
    WOOD,
    Paints,
)
from pipelines.data.primitives import (
    BANDS,
    BLUSH,
    LEAVES,
    STONE,
    Colour,
    Paint,
    Row,
    ball,
    box,
    cone,
    egg,
    gable,
    limb,
    merlons,
    ring,
    row,
    wheel,
)

Builder = Callable[[Paints, Sequence[float]], list[Row]]


# ---------------------------------------------------------------- fruit


def _stalk(y: float, lean: float) -> Row:
    return limb(WOOD, (0, y - 0.08, 0), (0.05 + 0.03 * lean, y + 0.12, 0), 0.028, 0.035)


def _leaf(x: float, y: float, turn: float) -> Row:
    return egg(GREEN_LEAF, (x, y, -0.03), (0.17, 0.035, 0.085), turn=("z", turn))


def _apple(p: Paints, j: Sequence[float]) -> list[Row]:
    skin = p.finished(BLUSH, (0.93, 0.74, 0.24)) if p.natural else p.body
    return [
        ring(skin, (0, 0.44, 0), 0.16, 0.36, blend=0.10),
        egg(skin, (0, 0.30, 0), (0.36, 0.30, 0.36), blend=0.10),
        _stalk(0.80, 2.0 + j[0]),
        _leaf(0.20, 0.88, 0.35),
    ]


def _orange(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        egg(p.body, (0, 0.47, 0), (0.49, 0.47, 0.49), bump=(0.006, 34.0)),
        cone(Paint((0.28, 0.45, 0.18)), (0, 0.92, 0), 0.04, 0.07, 0.05, 0.01),
        egg(GREEN_LEAF, (0.10, 0.965, -0.02), (0.15, 0.03, 0.075), turn=("z", 0.15 + 0.1 * j[0])),
    ]


def _pear(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        egg(p.body, (0, 0.40, 0), (0.42, 0.40, 0.42), blend=0.2),
        egg(p.body, (0.02, 0.90 + 0.03 * j[1], 0), (0.205, 0.27, 0.205), blend=0.34),
        limb(WOOD, (0.02, 1.10, 0), (0.09 + 0.03 * j[0], 1.36, 0), 0.03, 0.04),
        _leaf(0.19, 1.25, 0.5),
    ]


def _lemon(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        egg(p.body, (0, 0.36, 0), (0.50, 0.36, 0.36), blend=0.1),
        limb(p.body, (0.34, 0.37, 0), (0.62, 0.40, 0), 0.17, 0.06, blend=0.16),
        limb(p.body, (-0.34, 0.37, 0), (-0.56, 0.38, 0), 0.17, 0.085, blend=0.16),
        egg(GREEN_LEAF, (-0.57, 0.50, -0.02), (0.15, 0.03, 0.08), turn=("z", 0.8 + 0.15 * j[0])),
    ]


# ---------------------------------------------------------------- vehicles


def _wheels(xs: Sequence[float], z: float, radius: float, hub: Paint = CHROME) -> list[Row]:
    return [
        part
        for x in xs
        for s in SIDES
        for part in (
            wheel(TYRE, (x, radius, s * z), radius, 0.16),
            wheel(hub, (x, radius, s * (z + 0.015)), radius * 0.5, 0.17),
        )
    ]


def _car(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        box(p.body, (0, 0.36, 0), (0.78, 0.19, 0.36), 0.13),
        box(p.body, (-0.08, 0.64, 0), (0.46, 0.22, 0.31), 0.13, blend=0.07),
        row(GLASS, (-0.08, 0.68, 0), (0.155, 0.105, 0.32), 0.36, 2),
        box(GLASS, (-0.08, 0.68, 0), (0.475, 0.10, 0.23), 0.05),
        box(CHROME, (0, 0.22, 0), (0.80, 0.045, 0.30), 0.03),
        *[ball(LAMP, (0.76, 0.40, s * 0.23), 0.075) for s in SIDES],
        *_wheels((-0.45, 0.45), 0.33, 0.20),
    ]


def _bus(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        box(p.body, (0, 0.57, 0), (0.95, 0.43, 0.33), 0.08),
        row(GLASS, (-0.08, 0.72, 0), (0.11, 0.13, 0.335), 0.29, 5),
        box(GLASS, (0.93, 0.70, 0), (0.03, 0.16, 0.27), 0.02),
        box(p.pale, (0, 0.50, 0), (0.955, 0.025, 0.337), 0.01),
        box(DARK, (0.70, 0.46, -0.33), (0.11, 0.26, 0.015), 0.01),
        *[ball(LAMP, (0.94, 0.34, s * 0.22), 0.065) for s in SIDES],
        *_wheels((-0.55, 0.50), 0.29, 0.19),
    ]


def _truck(p: Paints, j: Sequence[float]) -> list[Row]:
    return [
        box(p.body, (-0.28, 0.70, 0), (0.60, 0.43, 0.36), 0.03),
        box(DARK, (0, 0.22, 0), (0.88, 0.06, 0.26), 0.02),
        box(p.dark, (0.63, 0.52, 0), (0.24, 0.34, 0.32), 0.07),
        box(p.dark, (0.80, 0.36, 0), (0.16, 0.18, 0.31), 0.06),
        box(GLASS, (0.66, 0.68, 0), (0.12, 0.11, 0.325), 0.03),
        box(GLASS, (0.80, 0.68, 0), (0.08, 0.11, 0.25), 0.03),
        *[ball(LAMP, (0.955, 0.34, s * 0.20), 0.06) for s in SIDES],
        box(CHROME, (0.94, 0.20, 0), (0.05, 0.05, 0.30), 0.02),
        *_wheels((-0.62, -0.20, 0.62), 0.30, 0.19),
    ]


def _train(p: Paints, j: Sequence[float]) -> list[Row]:
    lie = ("z", math.pi / 2)
    return [
        cone(p.body, (0.22, 0.60, 0), 0.92, 0.27, 0.27, 0.03, turn=lie),
        cone(DARK, (0.70, 0.60, 0), 0.10, 0.23, 0.23, 0.02, turn=lie),
        *[cone(CHROME, (x, 0.60, 0), 0.05, 0.285, 0.285, 0.01, turn=lie) for x in (0.02, 0.44)],
        cone(DARK, (0.50, 0.80, 0), 0.42, 0.085, 0.12, 0.02),
        cone(DARK, (0.50, 1.18, 0), 0.10, 0.15, 0.17, 0.02),
        egg(CHROME, (0.10, 0.86, 0), (0.11, 0.13, 0.11)),
        box(p.body, (-0.46, 0.72, 0), (0.28, 0.42, 0.34), 0.03),
        box(PANE, (-0.46, 0.88, 0), (0.14, 0.13, 0.35), 0.02),
        box(DARK, (-0.46, 1.17, 0), (0.37, 0.05, 0.42), 0.03),
        box(DARK, (0, 0.30, 0), (0.74, 0.06, 0.27), 0.02),
        cone(Paint((0.80, 0.17, 0.15)), (0.80, 0.17, 0), 0.26, 0.12, 0.28, 0.02, turn=lie),
        ball(LAMP, (0.74, 0.82, 0), 0.07),
        *_wheels((-0.48,), 0.27, 0.27, Paint((0.80, 0.17, 0.15))),
        *_wheels((-0.02, 0.32, 0.60), 0.27, 0.16, Paint((0.80, 0.17, 0.15))),
    ]


# ---------------------------------------------------------------- buildings


def _house(p: Paints, j: Sequence[float]) -> list[Row]:
    frame, h = Paint((0.97, 0.96, 0.93)), 0.05 * j[0]
    return [
        box(p.body, (0, 0.38, 0), (0.52, 0.38, 0.42), 0.02),
        gable(p.body, (0, 0.76, 0), 0.52, 0.44 + h, 0.40),
        gable(p.dark, (0, 0.84 + 0.02 * j[0], 0.0), 0.66, 0.48 + h, 0.36),
        box(p.dark, (-0.34, 0.93, 0), (0.40, 0.045, 0.48), 0.02, turn=("z", 0.72)),
        box(p.dark, (0.34, 0.93, 0), (0.40, 0.045, 0.48), 0.02, turn=("z", -0.72)),
        box(Paint((0.62, 0.30, 0.25), finish=STONE), (0.30, 1.16, 0.15), (0.08, 0.24, 0.08), 0.01),
        box(WOOD, (0, 0.24, -0.42), (0.12, 0.24, 0.03), 0.02),
        ball(LAMP, (0.07, 0.24, -0.46), 0.022),
        *[box(frame, (s * 0.32, 0.42, -0.42), (0.125, 0.135, 0.02), 0.01) for s in SIDES],
        *[row(PANE, (s * 0.32, 0.42, -0.43), (0.045, 0.10, 0.02), 0.10, 2) for s in SIDES],
        *[box(PANE, (s * 0.52, 0.42, 0), (0.02, 0.12, 0.16), 0.01) for s in SIDES],
    ]


def _castle(p: Paints, j: Sequence[float]) -> list[Row]:
    wall = p.finished(STONE)
    flag = Paint((0.88, 0.22, 0.20)) if p.flat.colour[0] < 0.7 else Paint((0.20, 0.36, 0.85))
    tower, top = 0.92 + 0.05 * j[0], 0.20
    rows = [
        box(wall, (0, 0.36, 0), (0.56, 0.36, 0.30), 0.02),
        row(wall, (0, 0.77, -0.27), (0.06, 0.06, 0.035), 0.20, 5),
        box(WOOD, (0, 0.20, -0.31), (0.15, 0.20, 0.02), 0.01),
        cone(WOOD, (0, 0.40, -0.31), 0.04, 0.15, 0.15, 0.01, turn=("x", math.pi / 2)),
        box(wall, (0, 0.85, 0.08), (0.24, 0.36, 0.18), 0.02),
        row(wall, (0, 1.26, -0.07), (0.045, 0.06, 0.03), 0.145, 4),
        row(wall, (0, 1.26, 0.23), (0.045, 0.06, 0.03), 0.145, 4),
        box(DARK, (0, 0.97, -0.10), (0.045, 0.09, 0.02), 0.01),
        limb(WOOD, (0.0, 1.2, 0.08), (0.0, 1.62, 0.08), 0.018, 0.018),
        box(flag, (0.13, 1.54, 0.08), (0.13, 0.075, 0.012), 0.01),
    ]
    for s in SIDES:
        rows += [
            cone(wall, (s * 0.58, 0, -0.22), tower, top, top, 0.02),
            cone(wall, (s * 0.58, tower - 0.04, -0.22), 0.10, 0.235, 0.235, 0.02),
            merlons(wall, (s * 0.58, tower + 0.10, -0.22), 0.20, 7, (0.035, 0.07, 0.05)),
            box(DARK, (s * 0.58, tower * 0.62, -0.41), (0.035, 0.08, 0.03), 0.01),
        ]
    return rows


def _lighthouse(p: Paints, j: Sequence[float]) -> list[Row]:
    tower = p.finished(
        BANDS,
        (0.96, 0.95, 0.92) if _pale(p.flat.colour) is False else (0.86, 0.20, 0.17),
        bands=8.2,
    )
    roof = Paint((0.80, 0.18, 0.16)) if p.flat.colour[0] < 0.7 or p.flat.colour[2] > 0.7 else p.dark
    grey = Paint((0.52, 0.53, 0.56), finish=STONE, gloss=0.05)
    return [
        cone(grey, (0, 0, 0), 0.16, 0.52, 0.46, 0.05),
        cone(tower, (0, 0.10, 0), 1.42 + 0.06 * j[0], 0.36, 0.23, 0.02),
        cone(DARK, (0, 1.50 + 0.06 * j[0], 0), 0.06, 0.33, 0.33, 0.02),
        merlons(CHROME, (0, 1.62 + 0.06 * j[0], 0), 0.30, 10, (0.012, 0.07, 0.012)),
        ring(CHROME, (0, 1.70 + 0.06 * j[0], 0), 0.30, 0.016),
        cone(LAMP, (0, 1.54 + 0.06 * j[0], 0), 0.30, 0.16, 0.16, 0.02),
        merlons(DARK, (0, 1.69 + 0.06 * j[0], 0), 0.165, 6, (0.015, 0.15, 0.015)),
        cone(roof, (0, 1.82 + 0.06 * j[0], 0), 0.24, 0.26, 0.03, 0.02),
        ball(CHROME, (0, 2.08 + 0.06 * j[0], 0), 0.04),
        box(WOOD, (0, 0.32, -0.33), (0.09, 0.17, 0.04), 0.02),
        *[
            box(PANE, (0, y, z), (0.05, 0.075, 0.03), 0.01)
            for y, z in ((0.82, -0.285), (1.20, -0.25))
        ],
    ]


def _tent(p: Paints, j: Sequence[float]) -> list[Row]:
    pole, h = Paint((0.80, 0.66, 0.44)), 0.98 + 0.05 * j[0]
    return [
        gable(p.body, (0, 0, 0.05), 0.74, h, 0.62, 0.02),
        gable(Paint((0.16, 0.13, 0.12)), (0, 0, -0.50), 0.36, h * 0.80, 0.10),
        *[
            limb(p.dark, (s * 0.40, 0.02, -0.62), (s * 0.05, h * 0.80, -0.60), 0.035, 0.03)
            for s in SIDES
        ],
        limb(pole, (0, h - 0.06, -0.74), (0, h + 0.10, -0.58), 0.028, 0.028),
        limb(pole, (0, h + 0.01, -0.66), (0, h + 0.01, 0.76), 0.03, 0.03),
        *[
            limb(pole, (s * 0.60, 0.24, z), (s * 1.0, 0.0, z), 0.014, 0.014)
            for s in SIDES
            for z in (-0.5, 0.5)
        ],
    ]


# ---------------------------------------------------------------- plants


def _tree(p: Paints, j: Sequence[float]) -> list[Row]:
    leaves, bark = p.finished(LEAVES), replace(WOOD, finish=LEAVES)
    rows = [
        cone(bark, (0, 0, 0), 0.98, 0.15, 0.09, 0.02),
        limb(bark, (0, 0.64, 0), (0.26, 0.96, -0.05), 0.06, 0.05),
        egg(leaves, (0, 1.28, 0), (0.46, 0.42, 0.44), bump=(0.02, 15.0)),
    ]
    for i in range(5):
        a = math.tau * (i + 0.4 * j[i]) / 5
        centre = (0.38 * math.cos(a), 1.14 + 0.07 * j[i + 2], 0.32 * math.sin(a))
        rows.append(egg(leaves, centre, (0.31, 0.28, 0.30), blend=0.07, bump=(0.02, 16.0)))
    return rows


def _pine(p: Paints, j: Sequence[float]) -> list[Row]:
    leaves = p.finished(LEAVES)
    return [
        cone(WOOD, (0, 0, 0), 0.45, 0.13, 0.11, 0.02),
        cone(leaves, (0, 0.34, 0), 0.62, 0.60, 0.20, 0.05),
        cone(leaves, (0, 0.78, 0), 0.52, 0.48, 0.14, 0.05),
        cone(leaves, (0, 1.16, 0), 0.58 + 0.05 * j[0], 0.36, 0.02, 0.02),
    ]


def _cactus(p: Paints, j: Sequence[float]) -> list[Row]:
    up = 0.10 * j[0]
    flower = Paint((0.97, 0.45, 0.62))
    pot = Paint((0.72, 0.38, 0.24), gloss=0.1)
    return [
        cone(pot, (0, 0, 0), 0.20, 0.27, 0.33, 0.03),
        limb(p.body, (0, 0.18, 0), (0, 1.26, 0), 0.20, 0.185),
        limb(p.body, (0, 0.56, 0), (0.42, 0.60, 0), 0.115, 0.12, blend=0.06),
        limb(p.body, (0.42, 0.60, 0), (0.44, 0.98 + up, 0), 0.12, 0.115, blend=0.05),
        limb(p.body, (0, 0.72, 0), (-0.40, 0.74, 0), 0.115, 0.12, blend=0.06),
        limb(p.body, (-0.40, 0.74, 0), (-0.42, 1.14 - up, 0), 0.12, 0.11, blend=0.05),
        *[
            egg(flower, (x, y, -0.02), (0.085, 0.06, 0.085))
            for x, y in ((0, 1.46), (0.44, 1.10 + up))
        ],
    ]


def _mushroom(p: Paints, j: Sequence[float]) -> list[Row]:
    stem, gills = Paint((0.95, 0.91, 0.82)), Paint((0.88, 0.80, 0.68))
    top = 0.72 + 0.05 * j[0]
    return [
        cone(stem, (0, 0, 0), top, 0.23, 0.17, 0.05),
        egg(stem, (0, 0.10, 0), (0.27, 0.14, 0.27), blend=0.06),
        cone(gills, (0, top - 0.10, 0), 0.08, 0.42, 0.60, 0.03),
        cone(p.body, (0, top - 0.04, 0), 0.50, 0.66, 0.31, 0.17, blend=0.05),
        ring(stem, (0, top - 0.22, 0), 0.19, 0.035),
    ]


def _pale(colour: Colour) -> bool:
    return min(colour) > 0.72


BUILDERS: dict[str, Builder] = {
    "horse": animals.horse,
    "zebra": animals.zebra,
    "cow": animals.cow,
    "sheep": animals.sheep,
    "cat": animals.cat,
    "dog": animals.dog,
    "rabbit": animals.rabbit,
    "bear": animals.bear,
    "apple": _apple,
    "orange": _orange,
    "pear": _pear,
    "lemon": _lemon,
    "car": _car,
    "bus": _bus,
    "truck": _truck,
    "train": _train,
    "house": _house,
    "castle": _castle,
    "lighthouse": _lighthouse,
    "tent": _tent,
    "tree": _tree,
    "pine": _pine,
    "cactus": _cactus,
    "mushroom": _mushroom,
}
