"""Sample toy scenes from a seed: choose what stands where, keep what can be seen well.

`sample_scene(seed)` and `render(scene)` are the way in; the names of the world are re-exported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipelines.data.renderer import CAMERA_DISTANCE
from pipelines.data.spec import (
    CLASSES,
    CLUSTER_OF,
    CLUSTERS,
    COLOURS,
    NATURAL_ONLY,
    PATTERNS,
    PLACES,
    RELATIONS,
    Camera,
    Light,
    Scene,
    Thing,
)
from pipelines.data.stage import PROPORTIONS, Render, outlines, render, scale, yaw

__all__ = [
    "CLASSES",
    "CLUSTERS",
    "CLUSTER_OF",
    "COLOURS",
    "COVERS",
    "NATURAL_ONLY",
    "PATTERNS",
    "PLACES",
    "RELATIONS",
    "SUPPORTS",
    "Camera",
    "Light",
    "Render",
    "Scene",
    "Thing",
    "is_well_seen",
    "outlines",
    "render",
    "sample_scene",
]

# What things can stand on: (forward, up) of the spot, in shape units.
SUPPORTS = {
    "cow": (0.0, 0.90),
    "sheep": (-0.05, 0.98),
    "car": (-0.06, 0.86),
    "bus": (0.0, 1.0),
    "truck": (-0.28, 1.13),
    "train": (-0.46, 1.22),
    "castle": (0.0, 1.22),
    "mushroom": (0.0, 1.16),
}
# What things can stand under: height of the free space, in shape units.
COVERS = {"tree": 0.84, "mushroom": 0.62}
_UNDER = tuple(c for k in ("hoofed", "pets", "fruit", "vehicles") for c in CLUSTERS[k])
_NUMBERS = (0.45, 0.40, 0.15)  # one, two, three things
_RELATION_ODDS = {"beside": 0.24, "in front of": 0.20, "on": 0.19, "under": 0.17, None: 0.20}
_AREA_FLOORS = {1: 0.12, 2: 0.05, 3: 0.03}  # fraction of the picture
_STACKED_FLOORS = {2: 0.04, 3: 0.025}  # with "on" and "under"
_HIDDEN = {"in front of": (0.04, 0.35), "on": (0.0, 0.25), "under": (0.0, 0.45)}
_APART = (0.0, 0.15)
_ROOM = 4.15  # toy units across at z = 0 that things may fill; the frame has 4.62
_CHECK_PX = 48

Rng = np.random.Generator


def sample_scene(
    seed: int, *, count: int | None = None, relation: str | None = "any", place: str | None = None
) -> Scene:
    """Return the scene of a seed; fix `count` (1..3), `relation` (None: "and") or `place` at will.

    Draws layouts from the seed's own generator until every thing is well seen, so the scene
    depends on the arguments only.
    """
    rng = np.random.default_rng(seed)
    number = count or int(rng.choice(3, p=_NUMBERS)) + 1
    if number not in (1, 2, 3):
        raise ValueError(f"count must be 1, 2 or 3, got {count}")
    if relation == "any":
        names = list(_RELATION_ODDS)
        relation = names[int(rng.choice(len(names), p=list(_RELATION_ODDS.values())))]
        relation = relation if number > 1 else None
    setting = _sample_setting(rng, place, relation)
    for _ in range(400):
        things = _dress(rng, _classes(rng, number, relation))
        for _ in range(6):
            scene = replace(setting, things=_LAYOUTS[relation](rng, things), relation=relation)
            if is_well_seen(scene):
                return scene
    raise RuntimeError(f"no layout found for seed {seed}: {number} things, relation {relation!r}")


def _sample_setting(rng: Rng, place: str | None, relation: str | None) -> Scene:
    drawn = str(rng.choice(PLACES))
    low = relation == "under"
    camera = Camera(
        height=float(rng.uniform(1.65, 1.9)) + 0.15 * low,
        pitch=float(rng.uniform(0.09, 0.14)) - 0.08 * low,
    )
    side = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.25, 0.9))
    light = Light(side, float(rng.uniform(1.0, 1.45)), float(rng.uniform(0.96, 1.04)))
    return Scene(place or drawn, (), None, camera, light, float(rng.uniform(0.0, 10.0)))


def _classes(rng: Rng, number: int, relation: str | None) -> list[str]:
    """Draw different classes, the relation's second one among those that can serve it."""
    second = {"on": tuple(SUPPORTS), "under": tuple(COVERS)}.get(relation, CLASSES)
    first = _UNDER if relation == "under" else CLASSES
    while True:
        drawn = [str(rng.choice(first)), str(rng.choice(second)), str(rng.choice(CLASSES))][:number]
        if len(set(drawn)) == number:
            return drawn


def _dress(rng: Rng, classes: list[str]) -> list[Thing]:
    """Draw colour, pattern, pose and size 1 for each class; the layout sets size and place."""
    things = []
    for name in classes:
        colour = str(rng.choice(COLOURS)) if rng.random() < 0.765 else None
        pattern = str(rng.choice(PATTERNS, p=(0.75, 0.125, 0.125)))
        turn, facing = float(rng.uniform(-0.28, 0.28)), int(rng.choice((-1, 1)))
        if name in NATURAL_ONLY:
            colour, pattern = None, "plain"
        thing = Thing(
            name, colour, pattern, 0.0, 0.0, 0.0, turn, facing, 1.0, int(rng.integers(2**31))
        )
        things.append(thing)
    return things


# ---------------------------------------------------------------- layouts


def _width(thing: Thing) -> float:
    return PROPORTIONS[thing.class_name].width * thing.size


def _height(thing: Thing) -> float:
    return PROPORTIONS[thing.class_name].height * thing.size


def _seen_at(z: float) -> float:
    """Magnification of something at depth z."""
    return CAMERA_DISTANCE / (CAMERA_DISTANCE + z)


def _spread(rng: Rng, groups: list[tuple[Thing, ...]], gap: float) -> list[Thing]:
    """Put groups side by side in random order, shrinking them where the frame asks for it.

    Lengths are measured as seen at z = 0; a negative gap lets neighbours overlap.
    """
    spans = []
    for group in groups:
        edges = [(_seen_at(t.z) * t.x, _seen_at(t.z) * _width(t) / 2) for t in group]
        spans.append((min(c - w for c, w in edges), max(c + w for c, w in edges)))
    total = sum(high - low for low, high in spans) + gap * (len(groups) - 1)
    factor = min(1.0, _ROOM / total)
    left = -factor * total / 2 + rng.uniform(-0.5, 0.5) * (_ROOM - factor * total)
    placed: dict[int, list[Thing]] = {}
    for i in (int(k) for k in rng.permutation(len(groups))):
        low, high = spans[i]
        placed[i] = [
            replace(
                t,
                x=float(factor * t.x + (left - factor * low) / _seen_at(t.z)),
                y=float(factor * t.y),
                size=float(factor * t.size),
            )
            for t in groups[i]
        ]
        left += factor * (high - low + gap)
    return [t for i in range(len(groups)) for t in placed[i]]


def _apart(rng: Rng, things: list[Thing]) -> tuple[Thing, ...]:
    """Side by side; joined by "and" they also stand at different depths."""
    if len(things) == 1:
        (thing,) = things
        x, z = rng.uniform(-0.4, 0.4), rng.uniform(-0.35, 0.35)
        return (replace(thing, x=float(x), z=float(z), size=float(rng.uniform(1.95, 2.4))),)
    low, high = (1.55, 1.95) if len(things) == 2 else (1.35, 1.65)
    groups = [
        (replace(t, size=float(rng.uniform(low, high)), z=float(rng.uniform(-0.5, 0.5))),)
        for t in things
    ]
    return tuple(_spread(rng, groups, 0.02 if len(things) == 2 else -0.16))


def _with_third(rng: Rng, pair: tuple[Thing, ...], things: list[Thing]) -> tuple[Thing, ...]:
    """Return the pair alone or with the third thing at its side."""
    if len(things) == 2:
        return pair
    third = replace(things[2], size=float(rng.uniform(1.3, 1.55)), z=float(rng.uniform(-0.3, 0.3)))
    return tuple(_spread(rng, [pair, (third,)], -0.05))


def _beside(rng: Rng, things: list[Thing]) -> tuple[Thing, ...]:
    z = rng.uniform(-0.3, 0.3)
    low, high = (1.55, 1.95) if len(things) == 2 else (1.3, 1.55)
    pair = [
        (replace(t, size=float(rng.uniform(low, high)), z=float(z + rng.uniform(-0.12, 0.12))),)
        for t in things[:2]
    ]
    return _with_third(rng, tuple(_spread(rng, pair, 0.06)), things)


def _in_front(rng: Rng, things: list[Thing]) -> tuple[Thing, ...]:
    near, far = things[:2]
    near = replace(near, size=float(rng.uniform(1.15, 1.4)), z=float(rng.uniform(-0.95, -0.65)))
    far = replace(far, size=float(rng.uniform(1.75, 2.1)), z=float(rng.uniform(0.6, 0.95)))
    shift = (0.5 * _width(far) + 0.25 * _width(near)) * rng.uniform(0.55, 1.0)
    shift *= rng.choice((-1.0, 1.0))
    pair = (replace(near, x=float(0.5 * shift)), replace(far, x=float(-0.55 * shift)))
    return _with_third(rng, pair, things)


def _on(rng: Rng, things: list[Thing]) -> tuple[Thing, ...]:
    upper, lower = things[:2]
    upper = replace(upper, size=float(rng.uniform(1.15, 1.35)))
    lower = replace(lower, size=float(rng.uniform(1.55, 1.8)), z=float(rng.uniform(-0.1, 0.4)))
    forward, up = SUPPORTS[lower.class_name]
    factor = min(1.0, 3.25 / (up * scale(lower) + _height(upper)))
    upper = replace(upper, size=upper.size * factor)
    lower = replace(lower, size=lower.size * factor, x=float(rng.uniform(-0.35, 0.35)))
    forward *= scale(lower) * lower.facing
    upper = replace(
        upper,
        x=lower.x + forward * math.cos(yaw(lower)),
        y=up * scale(lower),
        z=lower.z - forward * math.sin(yaw(lower)),
    )
    return _with_third(rng, (upper, lower), things)


def _under(rng: Rng, things: list[Thing]) -> tuple[Thing, ...]:
    thing, cover = things[:2]
    cover = replace(cover, size=1.0, z=0.45, x=float(rng.uniform(-0.3, 0.3)))
    cover = replace(cover, size=float(rng.uniform(3.4, 3.75)) / _height(cover))
    free = COVERS[cover.class_name] * scale(cover)
    size = min(1.45, rng.uniform(0.9, 0.98) * free / _height(thing))
    side = rng.uniform(0.2, 0.55) * rng.choice((-1.0, 1.0))
    thing = replace(
        thing, size=float(size), x=cover.x + float(side), z=float(rng.uniform(-0.3, 0.0))
    )
    return _with_third(rng, (thing, cover), things)


_LAYOUTS: dict[str | None, Callable[[Rng, list[Thing]], tuple[Thing, ...]]] = {
    None: _apart,
    "beside": _beside,
    "in front of": _in_front,
    "on": _on,
    "under": _under,
}


# ---------------------------------------------------------------- checks


def is_well_seen(scene: Scene, *, crowd: int | None = None) -> bool:
    """Whether everything is inside the frame, large enough, and no more hidden than it should be.

    Judged on labels of 48 px; `crowd` asks for the areas of a scene of that many things instead.
    """
    labels, alone = outlines(scene, _CHECK_PX)
    border = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    if any(line.any() for line in border):
        return False
    number = len(scene.things)
    seen = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    stacked = scene.relation in ("on", "under")
    floor = (_STACKED_FLOORS if stacked else _AREA_FLOORS)[crowd or number]
    if seen.min() < floor * labels.size:
        return False
    for i, hidden in enumerate(1.0 - seen / alone):
        low, high = _HIDDEN.get(scene.relation, _APART) if i == 1 else _APART
        if not low <= hidden <= high:
            return False
    return True
