"""The features of a clay head as short lists of primitives, and the numbers of what is painted.

Built in the frame of the head: x to the viewer's right, y up, z out of the face, middle of the
face at the origin, 1.24 wide and 1.65 high before `face_width` squeezes it. Rows marked `both` lie
on the right and are mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.faces import paint
from pipelines.data.faces.paint import EYE_X, EYE_Y
from pipelines.data.faces.spec import Face
from pipelines.data.primitives import Colour, Paint, Row, ball, cone, egg, limb, ring

SKINS: tuple[Colour, ...] = (
    (1.00, 0.85, 0.75),
    (0.96, 0.74, 0.58),
    (0.80, 0.56, 0.39),
    (0.58, 0.37, 0.25),
    (0.38, 0.24, 0.17),
)
HAIRS: dict[str, Colour] = {
    "black": (0.12, 0.10, 0.11),
    "brown": (0.42, 0.24, 0.13),
    "blond": (0.95, 0.77, 0.38),
    "red": (0.80, 0.31, 0.09),
    "grey": (0.74, 0.74, 0.76),
    "pink": (0.97, 0.50, 0.68),
    "blue": (0.22, 0.42, 0.85),
}
IRISES: dict[str, Colour] = {
    "brown": (0.45, 0.24, 0.09),
    "blue": (0.20, 0.50, 0.95),
    "green": (0.20, 0.62, 0.26),
}
FRAMES: dict[str, Colour] = {
    "black": (0.08, 0.08, 0.10),
    "red": (0.82, 0.12, 0.14),
    "blue": (0.12, 0.28, 0.78),
    "yellow": (0.96, 0.74, 0.16),
}
LIPSTICKS: dict[str, Colour] = {
    "red": (0.82, 0.08, 0.12),
    "pink": (0.98, 0.45, 0.62),
    "purple": (0.48, 0.14, 0.52),
}
CLOTHS: dict[str, Colour] = {
    "red": (0.86, 0.18, 0.17),
    "orange": (0.98, 0.56, 0.14),
    "yellow": (0.98, 0.84, 0.30),
    "green": (0.24, 0.64, 0.34),
    "blue": (0.20, 0.44, 0.88),
    "purple": (0.55, 0.30, 0.75),
    "white": (0.95, 0.94, 0.92),
    "black": (0.17, 0.17, 0.20),
}
JITTERS = 16
"""Numbers of a face that no attribute names, uniform over [-1, 1]."""
GOLD, PEARL = Paint((0.98, 0.76, 0.24), gloss=0.8), Paint((0.97, 0.95, 0.92), gloss=0.9)
JAW_Y = -0.42


@dataclass(frozen=True)
class Piece:
    """A row with the part it joins: parts are joined within, and stand apart from each other."""

    row: Row
    part: str
    both: bool = False  # mirrored
    body: bool = False  # in the world's frame: does not turn with the head
    casts: bool = True  # a shadow worth the time


@dataclass(frozen=True)
class Traits:
    """A face in the units of the sculptor: lengths in head units, colours in [0, 1]."""

    face: Face
    jitter: tuple[float, ...]  # in [-1, 1]
    skin: Colour
    hair: Colour
    eye_radius: float
    mouth_y: float
    mouth_width: float
    lift: float
    opening: float
    jaw: float
    chin: float


def mixed(a: Colour, b: Colour, t: float) -> Colour:
    """Return the colour between a (t = 0) and b (t = 1)."""
    return tuple(p * (1 - t) + q * t for p, q in zip(a, b, strict=True))


def traits_of(face: Face) -> Traits:
    """Return what the builders need; `face.seed` draws what no attribute names."""
    jitter = tuple(np.random.default_rng(face.seed).uniform(-1.0, 1.0, JITTERS).tolist())
    tone = face.skin * (len(SKINS) - 1)
    shade = min(int(tone), len(SKINS) - 2)
    return Traits(
        face=face,
        jitter=jitter,
        skin=mixed(SKINS[shade], SKINS[shade + 1], tone - shade),
        hair=tuple(min(c * (1 + 0.06 * jitter[0]), 1.0) for c in HAIRS[face.hair_colour]),
        eye_radius=0.115 + 0.06 * face.eye_size,
        mouth_y=-0.43 - 0.02 * face.smile,
        mouth_width=0.265 + 0.02 * jitter[1] + 0.02 * abs(face.smile),
        lift=0.20 * face.smile,
        opening=face.mouth_open,
        jaw=0.43 + 0.05 * jitter[2],
        chin=0.40 + 0.03 * jitter[3] + 0.05 * face.mouth_open,
    )


def looks_of(traits: Traits, light_x: float) -> list[float]:
    """Return the numbers of what is painted, in the order of `pipelines.data.faces.paint`."""
    face, skin = traits.face, traits.skin
    natural = (skin[0] * 0.66 + 0.22, skin[1] * 0.48 + 0.05, skin[2] * 0.48 + 0.07)
    looks = [0.0] * paint.LOOKS
    for first, colour in (
        (paint.SKIN_COLOUR, skin),
        (paint.LIP_COLOUR, LIPSTICKS.get(face.lips, natural)),
        (paint.IRIS_COLOUR, IRISES[face.eye_colour]),
    ):
        looks[first : first + 3] = colour
    looks[paint.BLUSH] = 0.45 + 0.2 * traits.jitter[4]
    looks[paint.WRINKLES] = min(max((face.age - 0.35) / 0.65, 0.0), 1.0)
    looks[paint.MOUTH_Y], looks[paint.MOUTH_WIDTH] = traits.mouth_y, traits.mouth_width
    looks[paint.LIFT], looks[paint.OPENING] = traits.lift, traits.opening
    looks[paint.LIP] = 0.058 + 0.008 * traits.jitter[5]
    looks[paint.EYE_RADIUS] = traits.eye_radius
    looks[paint.OPENNESS] = 0.05 + 0.87 * face.eye_openness
    looks[paint.GAZE_X], looks[paint.GAZE_Y] = 0.6 * traits.jitter[6], 0.4 * traits.jitter[7]
    looks[paint.LIGHT_X] = light_x
    return looks


def painted(part: int, colour: Colour, gloss: float = 0.12) -> Paint:
    """Return a paint whose finish is the label of the part that it shows."""
    return Paint(colour, finish=part, gloss=gloss)


# ---------------------------------------------------------------- the head itself


def skull(traits: Traits) -> list[Piece]:
    """Return head, cheeks and ears: what everything else is laid on."""
    skin = painted(paint.SKIN, traits.skin)
    ear = painted(paint.EARS, mixed(traits.skin, (0.85, 0.35, 0.30), 0.14))
    return [
        Piece(egg(skin, (0, 0.08, -0.02), (0.62, 0.74, 0.64)), "head"),
        Piece(egg(skin, (0, JAW_Y, 0.10), (traits.jaw, traits.chin, 0.47), blend=0.25), "head"),
        Piece(egg(skin, (0.28, -0.16, 0.36), (0.20, 0.18, 0.18), blend=0.14), "head", both=True),
        Piece(egg(ear, (0.65, -0.02, -0.04), (0.10, 0.16, 0.09), blend=0.05), "head", both=True),
    ]


def nose(traits: Traits, depth: Callable[[float, float], float]) -> list[Piece]:
    """Return bridge, tip and wings; its size moves all three."""
    size = traits.face.nose_size
    flesh = painted(paint.NOSE, mixed(traits.skin, (0.90, 0.40, 0.35), 0.16), 0.2)
    width, drop = 0.065 + 0.075 * size, -0.09 - 0.06 * size
    z = depth(0.0, -0.1) - 0.02
    tip = (0.0, drop, z + 0.045 + 0.075 * size)
    return [
        Piece(limb(flesh, (0, 0.07, z - 0.05), tip, 0.045, 0.05 + 0.02 * size, blend=0.06), "head"),
        Piece(
            egg(flesh, tip, (width, 0.07 + 0.035 * size, 0.10 + 0.04 * size), blend=0.06), "head"
        ),
    ]


def eyes(traits: Traits, depth: Callable[[float, float], float]) -> list[Piece]:
    """Return the eyeballs; lids and iris are painted."""
    r = traits.eye_radius
    white = painted(paint.EYES, (0.97, 0.97, 0.96), 0.35)
    centre = (EYE_X, EYE_Y, depth(EYE_X, EYE_Y) - 0.05)
    return [Piece(egg(white, centre, (r, 1.08 * r, 0.8 * r)), "eyes", both=True, casts=False)]


def brows(traits: Traits, depth: Callable[[float, float], float]) -> list[Piece]:
    """Return the eyebrows: thickness, and a tilt that worries or scowls."""
    face = traits.face
    hair = painted(paint.BROWS, mixed(traits.hair, (0.06, 0.04, 0.04), 0.35), 0.05)
    y, tilt = EYE_Y + traits.eye_radius + 0.115 + 0.02 * traits.jitter[8], 0.10 * face.brow_tilt
    r = 0.024 + 0.040 * face.brow_thickness
    ends = [(EYE_X - 0.13, y - tilt), (EYE_X + 0.02, y + 0.035), (EYE_X + 0.16, y + tilt - 0.01)]
    (a, b, c) = ((x, h, depth(x, h) + 0.012) for x, h in ends)
    return [
        Piece(limb(hair, a, b, r, r), "brows", both=True, casts=False),
        Piece(limb(hair, b, c, r, 0.6 * r, blend=0.03), "brows", both=True, casts=False),
    ]


# ---------------------------------------------------------------- worn on it


def _square(frame: Paint, x: float, y: float, z: float, tube: float) -> list[Row]:
    """Return a rounded square of four sticks around one eye."""
    w, h = 0.195, 0.165
    corners = [(x - w, y + h, z), (x + w, y + h, z), (x + w, y - h, z), (x - w, y - h, z)]
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return [limb(frame, a, b, tube, tube, blend=0.02) for a, b in pairs]


def glasses(traits: Traits, depth: Callable[[float, float], float]) -> list[Piece]:
    """Return frames, bridge and temples, and the lenses of sunglasses."""
    kind = traits.face.glasses
    if kind == "none":
        return []
    frame = painted(paint.GLASSES, FRAMES[traits.face.glasses_colour], 0.6)
    x, y, tube = EYE_X + 0.015, EYE_Y - 0.015, 0.030
    z = depth(EYE_X, EYE_Y) - 0.05 + 0.8 * traits.eye_radius + 0.05
    rows = _square(frame, x, y, z, tube) if kind == "square" else []
    if kind == "round":
        rows = [_upright(ring(frame, (x, y, z), 0.205, tube))]
    elif kind == "sunglasses":
        dark = replace(painted(paint.GLASSES, (0.07, 0.075, 0.10), 0.9), glow=1.0)
        rows = [
            egg(frame, (x, y, z - 0.01), (0.235, 0.195, 0.032)),
            egg(dark, (x, y, z + 0.01), (0.20, 0.162, 0.034)),
        ]
    rows += [
        limb(frame, (0, y + 0.05, z + 0.03), (x - 0.19, y + 0.03, z), 0.024, 0.024),
        limb(frame, (x + 0.19, y + 0.03, z - 0.01), (0.65, y, -0.02), 0.024, 0.024),
    ]
    return [Piece(row, "glasses", both=True, casts=kind == "sunglasses") for row in rows]


def _upright(row: Row) -> Row:
    """Return a ring that lay flat turned to face the viewer."""
    return [*row[:11], 1.0, 1, 0, 0, 0, 0, 1, 0, -1, 0, *row[21:]]


def earrings(traits: Traits) -> list[Piece]:
    """Return hoops or pearls at the lobes; hair may cover them."""
    kind = traits.face.earrings
    gold, pearl = (replace(p, finish=paint.EARRINGS) for p in (GOLD, PEARL))
    if kind == "none":
        return []
    if kind == "hoops":
        rows = [_upright(ring(gold, (0.68, -0.29, 0.0), 0.105, 0.028))]
    else:
        rows = [ball(pearl, (0.68, -0.24, 0.03), 0.085)]
    return [Piece(row, "earrings", both=True, casts=False) for row in rows]


# ---------------------------------------------------------------- below it


def bust(traits: Traits) -> list[Piece]:
    """Return neck and shirt, which do not turn with the head; every second shirt has a collar."""
    skin = painted(paint.NECK, mixed(traits.skin, (0.55, 0.25, 0.2), 0.08))
    cloth = painted(paint.CLOTH, CLOTHS[traits.face.shirt], 0.06)
    collar = cone(cloth, (0, -1.06, -0.13), 0.22, 0.36, 0.30, 0.06, blend=0.06)
    pieces = [
        Piece(limb(skin, (0, -0.5, -0.12), (0, -1.2, -0.14), 0.25, 0.27), "neck", body=True),
        Piece(egg(cloth, (0, -1.54, -0.16), (0.78, 0.50, 0.46)), "cloth", body=True),
        Piece(
            egg(cloth, (0.55, -1.64, -0.16), (0.44, 0.46, 0.38), blend=0.2),
            "cloth",
            both=True,
            body=True,
        ),
    ]
    return [*pieces, Piece(collar, "cloth", body=True)] if traits.jitter[9] > 0 else pieces


def head_matrix(face: Face, yaw: float, pitch: float, roll: float) -> list[float]:
    """Return the 3 x 3 matrix, row by row, that turns the world into the head's frame."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    rolled = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    turned = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nodded = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    squeezed = np.diag([1 / squeeze(face), 1, 1])
    return (squeezed @ nodded @ turned @ rolled).ravel().tolist()


def squeeze(face: Face) -> float:
    """Return how wide the head is compared with the middle one."""
    return 0.86 + 0.26 * face.face_width
