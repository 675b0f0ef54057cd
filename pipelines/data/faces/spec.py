"""What a clay face is: names, ranges, and frozen pure data that round-trips through JSON.

Attributes are sampled independently of each other. What hides what is not independent, and
`hidden_by` says it: bald heads show hair colour in their brows (and beard) only; long, bobbed and
curly hair covers the ears and most of what hangs from them; dark lenses cover the eyes. Not counted
as hidden, but less seen: hats cover the crown, move a bun to the side and shade the brows; beards
and hats cover wrinkles, a moustache the upper lip, and a turned head one ear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from pipelines.data.spec import COLOURS

# Per-pixel labels, after CelebAMask-HQ (Lee et al. 2020), both sides of a pair in one.
PARTS = (
    "background",
    "skin",
    "brows",
    "eyes",
    "glasses",
    "ears",
    "earrings",
    "nose",
    "mouth",
    "lips",
    "neck",
    "cloth",
    "hair",
    "hat",
    "beard",
)
# Continuous attributes, uniform over their range, but for the third of all mouths that are closed.
RANGES: dict[str, tuple[float, float]] = {
    "face_width": (0.0, 1.0),
    "skin": (0.0, 1.0),  # pale to dark
    "age": (0.0, 1.0),  # wrinkles from 0.35 on
    "brow_thickness": (0.0, 1.0),
    "brow_tilt": (-1.0, 1.0),  # worried (inner ends up) to stern (inner ends down)
    "eye_size": (0.0, 1.0),
    "eye_openness": (0.0, 1.0),
    "nose_size": (0.0, 1.0),
    "smile": (-1.0, 1.0),  # height of the corners of the mouth
    "mouth_open": (0.0, 1.0),
    "yaw": (-1.0, 1.0),  # times MOST_YAW; positive turns to the viewer's right
    "pitch": (-1.0, 1.0),  # times MOST_PITCH; positive looks up
    "light": (-1.0, 1.0),  # from the viewer's left to the right
}
# Discrete attributes: value -> probability.
CHOICES: dict[str, dict[str, float]] = {
    "hair": dict(zip(("none", "short", "bob", "long", "bun", "curly"), (1 / 6,) * 6, strict=True)),
    "hair_colour": dict.fromkeys(("black", "brown", "blond", "red", "grey", "pink", "blue"), 1 / 7),
    "eye_colour": dict.fromkeys(("brown", "blue", "green"), 1 / 3),
    "glasses": {"none": 0.55, "round": 0.15, "square": 0.15, "sunglasses": 0.15},
    "glasses_colour": dict.fromkeys(("black", "red", "blue", "yellow"), 1 / 4),
    "lips": dict.fromkeys(("natural", "red", "pink", "purple"), 1 / 4),
    "beard": {"none": 0.55, "moustache": 0.15, "goatee": 0.15, "full": 0.15},
    "hat": {"none": 0.58, "cap": 0.14, "beanie": 0.14, "brim": 0.14},
    "hat_colour": dict.fromkeys(COLOURS, 1 / 8),
    "earrings": {"none": 0.5, "hoops": 0.25, "pearls": 0.25},
    "shirt": dict.fromkeys(COLOURS, 1 / 8),
    "background": dict.fromkeys(("blue", "green", "yellow", "pink", "purple", "grey"), 1 / 6),
}
COVERS_EARS = ("bob", "long", "curly")
SHUT = -0.5  # mouths are drawn from (SHUT, 1) and closed below 0


@dataclass(frozen=True)
class Face:
    """One head; equal faces render to equal bytes. See RANGES and CHOICES for what values mean."""

    face_width: float
    skin: float
    age: float
    brow_thickness: float
    brow_tilt: float
    eye_size: float
    eye_openness: float
    nose_size: float
    smile: float
    mouth_open: float
    yaw: float
    pitch: float
    light: float
    hair: str
    hair_colour: str
    eye_colour: str
    glasses: str
    glasses_colour: str
    lips: str
    beard: str
    hat: str
    hat_colour: str
    earrings: str
    shirt: str
    background: str
    seed: int  # what no attribute names: chin, gaze, tilt, volume and parting of the hair, collar

    def __post_init__(self) -> None:
        """Raise ValueError for what lies outside the world."""
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")
        for name, odds in CHOICES.items():
            if getattr(self, name) not in odds:
                raise ValueError(
                    f"{name} must be one of {tuple(odds)}, got {getattr(self, name)!r}"
                )

    def to_dict(self) -> dict[str, float | str | int]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> Face:
        """Return the face that `to_dict` wrote."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


def sample_face(seed: int) -> Face:
    """Return the face of a seed, every attribute drawn on its own."""
    rng = np.random.default_rng((seed, 0xFACE))
    values: dict[str, float | str | int] = {}
    for name, (low, high) in RANGES.items():
        values[name] = float(rng.uniform(low, high))
    values["mouth_open"] = max(0.0, float(rng.uniform(SHUT, 1.0)))
    for name, odds in CHOICES.items():
        values[name] = str(rng.choice(list(odds), p=list(odds.values())))
    return Face.from_dict({**values, "seed": int(rng.integers(2**31))})


def hidden_by(face: Face, attribute: str) -> str | None:
    """Return the attribute that keeps another one from being seen in this face, if one does."""
    if attribute in ("glasses_colour", "hat_colour"):
        wearer = attribute.removesuffix("_colour")
        return wearer if getattr(face, wearer) == "none" else None
    if attribute in ("eye_colour", "eye_size", "eye_openness"):
        return "glasses" if face.glasses == "sunglasses" else None
    if attribute == "earrings":
        return "hair" if face.hair in COVERS_EARS else None
    return "hair" if attribute == "hair_colour" and face.hair == "none" else None
