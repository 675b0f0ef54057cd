"""From a scene to a picture: build the things, place them, light the place, trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipelines.data.paints import paints
from pipelines.data.primitives import WIDTH, Row, assemble
from pipelines.data.renderer import silhouettes, trace
from pipelines.data.shapes import BUILDERS
from pipelines.data.spec import PLACES, Camera, Light, Scene, Thing

# Sun and ambient colour of each place, in display space.
_LIGHTS = {
    "on the grass": ((0.78, 0.73, 0.63), (0.42, 0.45, 0.49)),
    "on the beach": ((0.80, 0.75, 0.65), (0.43, 0.45, 0.48)),
    "in the snow": ((0.64, 0.63, 0.62), (0.48, 0.50, 0.55)),
    "in the desert": ((0.82, 0.73, 0.60), (0.45, 0.43, 0.42)),
    "at night": ((0.58, 0.60, 0.68), (0.38, 0.40, 0.48)),
    "in a room": ((0.64, 0.59, 0.52), (0.51, 0.50, 0.48)),
    "on the street": ((0.70, 0.68, 0.64), (0.47, 0.48, 0.50)),
    "on the moon": ((0.88, 0.86, 0.82), (0.34, 0.34, 0.36)),
}
# Turn about y (radians) that shows a class best: 0 is its side, pi / 2 its face.
_BEST_VIEW = {
    **dict.fromkeys(("horse", "zebra", "cow", "sheep"), 0.42),
    "cat": 0.95,
    "dog": 0.50,
    "rabbit": 0.80,
    "bear": 1.10,
    **dict.fromkeys(("car", "bus", "truck", "train"), 0.50),
    "house": 0.50,
    "castle": 0.22,
    "tent": 0.50,
}
RIM = 0.55  # strength of highlights relative to the light of the place


@dataclass(frozen=True)
class Proportions:
    """Toy units a shape unit, and width and height in toy units, of a thing of size 1."""

    scale: float
    width: float
    height: float


# Printed by `python -m pipelines.data.stage`; run it again, twice, after changing a shape.
PROPORTIONS: dict[str, Proportions] = {
    "horse": Proportions(1.001, 1.54, 1.56),
    "zebra": Proportions(1.001, 1.54, 1.56),
    "cow": Proportions(1.013, 1.52, 1.33),
    "sheep": Proportions(1.074, 1.48, 1.27),
    "cat": Proportions(1.163, 0.96, 1.54),
    "dog": Proportions(0.988, 1.56, 1.25),
    "rabbit": Proportions(0.988, 0.83, 1.54),
    "bear": Proportions(0.989, 1.16, 1.46),
    "apple": Proportions(1.18, 1.23, 1.14),
    "orange": Proportions(1.155, 1.16, 1.17),
    "pear": Proportions(1.096, 0.92, 1.54),
    "lemon": Proportions(1.158, 1.56, 0.83),
    "car": Proportions(0.921, 1.54, 1.02),
    "bus": Proportions(0.734, 1.46, 0.92),
    "truck": Proportions(0.715, 1.41, 1.0),
    "train": Proportions(0.731, 1.37, 1.12),
    "house": Proportions(0.767, 1.21, 1.21),
    "castle": Proportions(0.721, 1.23, 1.33),
    "lighthouse": Proportions(0.67, 0.69, 1.56),
    "tent": Proportions(0.708, 1.54, 1.06),
    "tree": Proportions(0.891, 1.25, 1.54),
    "pine": Proportions(0.853, 1.0, 1.54),
    "cactus": Proportions(0.976, 1.08, 1.56),
    "mushroom": Proportions(1.021, 1.39, 1.31),
}


@dataclass(frozen=True)
class Render:
    """image (H, W, 3) uint8; labels (H, W) uint8: 0 = background, i = things[i - 1]."""

    image: np.ndarray
    labels: np.ndarray


def yaw(thing: Thing) -> float:
    """Return the turn about y in radians, measured in the mirrored frame of its facing."""
    return thing.facing * (_BEST_VIEW.get(thing.class_name, 0.0) + thing.turn)


def scale(thing: Thing) -> float:
    """Return toy units a shape unit."""
    return PROPORTIONS[thing.class_name].scale * thing.size


@lru_cache(maxsize=64)
def _build(thing: Thing) -> tuple[tuple[Row, ...], tuple[float, float]]:
    """Return the primitives of a thing, and height and radius of the sphere around them."""
    jitter = np.random.default_rng(thing.seed).uniform(-1.0, 1.0, 12).tolist()
    frequency = 4.6 * PROPORTIONS[thing.class_name].scale
    dressed = paints(thing.class_name, thing.colour, thing.pattern, jitter[8:], frequency)
    rows = assemble(BUILDERS[thing.class_name](dressed, jitter[:8]))
    low, high = min(r[33] - r[35] for r in rows), max(r[33] + r[35] for r in rows)
    middle = (low + high) / 2
    radius = max(math.hypot(r[32], r[33] - middle, r[34]) + r[35] for r in rows)
    return rows, (middle, radius)


def _arrays(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return primitives (N, 37), objects (n, 13) and view (17,) for the renderer, float64."""
    rows: list[Row] = []
    objects = []
    for thing in scene.things:
        built, (middle, radius) = _build(thing)
        first, size, angle = len(rows), scale(thing), yaw(thing)
        rows += built
        objects.append(
            [
                *(thing.x, thing.y, thing.z),
                *(math.cos(angle), math.sin(angle), size, thing.facing),
                *(middle, radius, first, len(rows)),
                *(thing.seed % 1000 / 100.0, thing.size),
            ]
        )
    sun, ambient = _LIGHTS[scene.place]
    direction = np.array([scene.light.x, scene.light.y, -0.75])
    view = [
        PLACES.index(scene.place),
        *(direction / np.linalg.norm(direction)),
        *(c * scene.light.strength for c in sun),
        *ambient,
        *(scene.backdrop, scene.camera.height),
        *(math.cos(scene.camera.pitch), math.sin(scene.camera.pitch)),
        *(RIM * (a + s) for a, s in zip(ambient, sun, strict=True)),
    ]
    return (
        np.array(rows, np.float64).reshape(-1, WIDTH),
        np.array(objects, np.float64).reshape(-1, 13),
        np.array(view, np.float64),
    )


def render(scene: Scene, size_px: int = 128) -> Render:
    """Render a scene: the same bytes every time on one machine, no randomness."""
    return Render(*trace(*_arrays(scene), size_px))


def outlines(scene: Scene, size_px: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (H, W) uint8, and (n,) pixels each thing would cover on its own."""
    return silhouettes(*_arrays(scene), size_px)


def measure(class_name: str) -> Proportions:
    """Return the proportions that make a class cover 4.7 % of the picture at size 1.

    Tall and wide classes stop at 1.55 toy units and cover less. Mean of six shapes, 160 px.
    """
    size, size_px, across = 1.5, 160, 4.62
    areas, widths, heights = [], [], []
    for seed in range(6):
        turn = (-0.25, 0.0, 0.25)[seed % 3]
        thing = Thing(class_name, None, "plain", 0.0, 0.0, 0.0, turn, 1, size, seed)
        view = Camera(1.75, 0.15), Light(0.4, 1.2, 1.0)
        rows, columns = np.nonzero(
            outlines(Scene(PLACES[0], (thing,), None, *view, 3.0), size_px)[0]
        )
        areas.append(len(rows) / size_px**2)
        widths.append((np.ptp(columns) + 1) / size_px)
        heights.append((np.ptp(rows) + 1) / size_px)
    width, height = max(widths) * across / size, max(heights) * across / size
    factor = min(math.sqrt(0.047 * size**2 / np.mean(areas)), 1.55 / max(width, height))
    scaled = PROPORTIONS[class_name].scale * factor
    return Proportions(round(scaled, 3), round(width * factor, 2), round(height * factor, 2))


if __name__ == "__main__":
    for name in PROPORTIONS:
        print(f'    "{name}": {measure(name)},')
