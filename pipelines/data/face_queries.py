"""Editing queries on faces with the true answer: a face, and the same face with one thing changed.

The scenes' counterpart is `pipelines.data.queries`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.faces import CHOICES, PARTS, RANGES, Face, hidden_by, render_face, sample_face
from pipelines.data.faces.captions import MAIN, describe, facts
from pipelines.data.queries import QueryRender

ATTRIBUTES = (*RANGES, *CHOICES)
_HEAD = tuple(part for part in PARTS if part not in ("background", "cloth"))
_FLESH = ("skin", "ears", "nose", "lips", "neck", "mouth")
# Parts that show an attribute; what they shade or push aside changes with them.
SHOWN_IN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("face_width", "yaw", "pitch"), _HEAD),
    "skin": (*_FLESH, "eyes"),
    "age": ("skin",),
    **dict.fromkeys(("brow_thickness", "brow_tilt"), ("brows",)),
    **dict.fromkeys(("eye_size", "eye_openness", "eye_colour"), ("eyes",)),
    "nose_size": ("nose",),
    **dict.fromkeys(("smile", "mouth_open"), ("mouth", "lips")),
    "light": PARTS,
    "hair": ("hair",),
    "hair_colour": ("hair", "brows", "beard"),
    **dict.fromkeys(("glasses", "glasses_colour"), ("glasses",)),
    "lips": ("lips",),
    "beard": ("beard",),
    **dict.fromkeys(("hat", "hat_colour"), ("hat",)),
    "earrings": ("earrings",),
    "shirt": ("cloth",),
    "background": ("background",),
}
_LOW, _HIGH = 0.2, 0.8  # continuous attributes move from below one to above the other, or back


@dataclass(frozen=True)
class FaceQuery:
    """Two faces that differ in `attribute`, and the words for both.

    The words are equal where the attribute has none (yaw, pitch, light).
    """

    source: Face
    target: Face
    source_text: str
    target_text: str
    attribute: str


def sample_face_query(seed: int, attribute: str) -> FaceQuery:
    """Return the query of a seed; the attribute can be seen in both faces."""
    if attribute not in ATTRIBUTES:
        raise ValueError(f"attribute must be one of {ATTRIBUTES}, got {attribute!r}")
    rng = np.random.default_rng((seed, 0xFACED))
    while True:
        source, target = _pair(rng, sample_face(int(rng.integers(2**62))), attribute)
        if hidden_by(source, attribute) is None and hidden_by(target, attribute) is None:
            texts = [_text(face, attribute) for face in (source, target)]
            return FaceQuery(source, target, texts[0], texts[1], attribute)


def _pair(rng: np.random.Generator, face: Face, attribute: str) -> tuple[Face, Face]:
    """Return two faces that differ in one attribute by much."""
    if attribute in CHOICES:
        others = [value for value in CHOICES[attribute] if value != getattr(face, attribute)]
        return face, replace(face, **{attribute: str(rng.choice(others))})
    low, high = RANGES[attribute]
    parts = [float(rng.uniform(0.0, _LOW)), float(rng.uniform(_HIGH, 1.0))]
    values = [low + (high - low) * part for part in parts]
    a, b = values if rng.random() < 0.5 else values[::-1]
    return replace(face, **{attribute: a}), replace(face, **{attribute: b})


def _text(face: Face, attribute: str) -> str:
    said = facts(face)
    return describe({name: said[name] for name in (*MAIN, attribute) if name in said})


def render_face_query(query: FaceQuery, size_px: int = 128) -> QueryRender:
    """Render both faces and the true mask: where the attribute's parts are or were."""
    source, target = render_face(query.source, size_px), render_face(query.target, size_px)
    shown = [PARTS.index(part) for part in SHOWN_IN[query.attribute]]
    mask = np.isin(source.labels, shown) | np.isin(target.labels, shown)
    return QueryRender(source.image, target.image, mask | (source.labels != target.labels))
