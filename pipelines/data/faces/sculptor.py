"""From a face to a picture: build the parts, turn the head, light it, trace.

Rows are those of `pipelines.data.primitives`, whose finish names the label, then 37 part, 38 in
the world's frame, 39 mirrored, 40 casts a shadow, 41:44 and 44:47 centres in the world of the
sphere around it and of its mirror image, 47 the sphere's radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pipelines.data.faces import features, headwear
from pipelines.data.faces.features import Piece, Traits
from pipelines.data.faces.renderer import depths, trace
from pipelines.data.faces.spec import Face
from pipelines.data.primitives import Colour, assemble

WIDTH = 48
JOINT_Y = -0.35  # height about which the head turns
MOST_YAW, MOST_PITCH = 0.52, 0.17  # radians
WALLS: dict[str, Colour] = {
    "blue": (0.66, 0.80, 0.95),
    "green": (0.68, 0.90, 0.74),
    "yellow": (0.97, 0.91, 0.66),
    "pink": (0.97, 0.77, 0.83),
    "purple": (0.82, 0.74, 0.95),
    "grey": (0.80, 0.81, 0.82),
}


@dataclass(frozen=True)
class FaceRender:
    """image (H, W, 3) uint8; labels (H, W) uint8, places in `spec.PARTS`."""

    image: np.ndarray
    labels: np.ndarray


def _pieces(traits: Traits) -> list[Piece]:
    """Return every piece of a head, pieces of one part together."""
    skull = features.skull(traits)
    rows = np.array([piece.row for piece in skull])

    def depth(x: float, y: float) -> float:
        return float(depths(rows, np.array([[x, y]]))[0])

    return [
        *skull,
        *features.nose(traits, depth),
        *features.eyes(traits, depth),
        *features.brows(traits, depth),
        *features.glasses(traits, depth),
        *features.earrings(traits),
        *headwear.hair(traits),
        *headwear.beard(traits, depth),
        *headwear.hat(traits),
        *features.bust(traits),
    ]


def _rows(pieces: list[Piece], matrix: np.ndarray, squeeze: float) -> np.ndarray:
    """Return the renderer's rows (N, WIDTH) float64."""
    rows = np.zeros((len(pieces), WIDTH))
    first = 0
    for number, (_, group) in enumerate(groupby(pieces, key=lambda piece: piece.part)):
        grouped = list(group)
        last = first + len(grouped)
        rows[first:last, :37] = assemble([piece.row for piece in grouped])
        rows[first:last, 37] = number
        first = last
    flags = [(piece.body, piece.both, piece.casts) for piece in pieces]
    rows[:, 38:41] = np.array(flags, np.float64)
    outward = np.linalg.inv(matrix)
    for column, side in ((41, 1.0), (44, -1.0)):
        mirrored = np.where(rows[:, 39] > 0, side, 1.0)
        centres = rows[:, 32:35] * np.stack([mirrored, *np.ones((2, len(rows)))], 1)
        joint = np.array([0.0, JOINT_Y, 0.0])
        turned = (centres - joint) @ outward.T + joint
        rows[:, column : column + 3] = np.where(rows[:, 38:39] > 0, centres, turned)
    rows[:, 47] = rows[:, 35] * np.where(rows[:, 38] > 0, 1.0, max(squeeze, 1.0))
    return rows


def _arrays(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (N, 48), view (17,) and looks (21,) for the renderer, float64."""
    traits = features.traits_of(face)
    roll = 0.10 * traits.jitter[13]
    matrix = features.head_matrix(face, MOST_YAW * face.yaw, MOST_PITCH * face.pitch, roll)
    squeeze = features.squeeze(face)
    rows = _rows(_pieces(traits), np.array(matrix).reshape(3, 3), squeeze)
    lamp = np.array([1.15 * face.light, 0.85 + 0.15 * traits.jitter[14], 1.5])
    wall = np.array(WALLS[face.background]) * (1 + 0.05 * traits.jitter[15])
    view = [*matrix, JOINT_Y, *(lamp / np.linalg.norm(lamp)), *wall.tolist(), -0.06]
    looks = features.looks_of(traits, face.light)
    return rows, np.array(view, np.float64), np.array(looks, np.float64)


def render_face(face: Face, size_px: int = 128) -> FaceRender:
    """Render a face: the same bytes every time on one machine, no randomness."""
    return FaceRender(*trace(*_arrays(face), size_px))
