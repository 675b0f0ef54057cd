"""Editing queries with the true answer: a scene, the same scene with one thing changed.

A person's edit of a photo has no right answer to compare with; here the target scene is rendered
too, and everything that did not change is drawn from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.captions import caption
from pipelines.data.scenes import is_well_seen, sample_scene
from pipelines.data.spec import (
    CLUSTER_OF,
    CLUSTERS,
    COLOURS,
    NATURAL_ONLY,
    PATTERNS,
    PLACES,
    Scene,
)
from pipelines.data.stage import render

KINDS = ("class", "colour", "pattern", "place", "add", "remove")
_BASES = ("on", "under")  # relations whose second thing carries or covers the first

Rng = np.random.Generator


@dataclass(frozen=True)
class EditQuery:
    """Two scenes that differ in one thing, and the words for both.

    `changed` indexes the thing in both scenes, in the target for "add", in the source for
    "remove"; it is None for "place".
    """

    source: Scene
    target: Scene
    source_text: str
    target_text: str
    kind: str
    changed: int | None


@dataclass(frozen=True)
class QueryRender:
    """Images (H, W, 3) uint8 and true_mask (H, W) bool: where the changed thing is or was."""

    source_image: np.ndarray
    target_image: np.ndarray
    true_mask: np.ndarray


def sample_query(seed: int, kind: str, *, count: int | None = None) -> EditQuery:
    """Return the query of a seed; `count` fixes the number of things in the fuller scene."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    rng = np.random.default_rng((seed, 0xED17))
    number = (2 if count is None else count) if kind in ("add", "remove") else count
    for _ in range(500):
        scene_seed = int(rng.integers(2**62))
        scene = (
            sample_scene(scene_seed, count=number, relation=None)
            if kind in ("add", "remove")
            else sample_scene(scene_seed, count=number)
        )
        edit = _EDITS[kind](rng, scene)
        if edit is None:
            continue
        source, target, changed = edit
        crowd = max(len(source.things), len(target.things))
        if is_well_seen(source, crowd=crowd) and is_well_seen(target, crowd=crowd):
            return EditQuery(source, target, caption(source), caption(target), kind, changed)
    raise RuntimeError(f"no query found for seed {seed}, kind {kind!r}")


def changed_twice(seed: int) -> tuple[Scene, Scene, Scene]:
    """Return a scene, it with one thing recoloured, and that in another place as well."""
    query = sample_query(seed, "colour")
    others = [place for place in PLACES if place != query.target.place]
    place = str(np.random.default_rng((seed, 0x2ED1)).choice(others))
    return query.source, query.target, replace(query.target, place=place)


def render_query(query: EditQuery, size_px: int = 128) -> QueryRender:
    """Render both scenes and the true mask (for "place": everything that is no thing)."""
    source, target = render(query.source, size_px), render(query.target, size_px)
    if query.changed is None:
        mask = (source.labels == 0) | (target.labels == 0)
    else:
        shown = [r.labels == query.changed + 1 for r in (source, target)]
        mask = {"add": shown[1], "remove": shown[0]}.get(query.kind, shown[0] | shown[1])
    return QueryRender(source.image, target.image, mask)


# ---------------------------------------------------------------- edits

Edit = tuple[Scene, Scene, int | None] | None


def reclassed(scene: Scene, index: int, class_name: str) -> Scene:
    """Return a scene whose thing `index` is of another class, all else as far as it takes it."""
    bare = {"colour": None, "pattern": "plain"} if class_name in NATURAL_ONLY else {}
    return _change(scene, index, class_name=class_name, **bare)


def _change(scene: Scene, index: int, **changes: str | None) -> Scene:
    things = list(scene.things)
    things[index] = replace(things[index], **changes)
    return replace(scene, things=tuple(things))


def _edit_class(rng: Rng, scene: Scene) -> Edit:
    movable = [i for i in range(len(scene.things)) if not (i == 1 and scene.relation in _BASES)]
    index = int(rng.choice(movable))
    thing = scene.things[index]
    taken = {other.class_name for other in scene.things}
    others = [name for name in CLUSTERS[CLUSTER_OF[thing.class_name]] if name not in taken]
    if not others:
        return None
    return scene, reclassed(scene, index, str(rng.choice(others))), index


def _edit_colour(rng: Rng, scene: Scene) -> Edit:
    named = [i for i, thing in enumerate(scene.things) if thing.colour]
    if not named:
        return None
    index = int(rng.choice(named))
    others = [name for name in COLOURS if name != scene.things[index].colour]
    return scene, _change(scene, index, colour=str(rng.choice(others))), index


def _edit_pattern(rng: Rng, scene: Scene) -> Edit:
    able = [i for i, thing in enumerate(scene.things) if thing.class_name not in NATURAL_ONLY]
    if not able:
        return None
    index = int(rng.choice(able))
    others = [name for name in PATTERNS if name != scene.things[index].pattern]
    return scene, _change(scene, index, pattern=str(rng.choice(others))), index


def _edit_place(rng: Rng, scene: Scene) -> Edit:
    others = [name for name in PLACES if name != scene.place]
    return scene, replace(scene, place=str(rng.choice(others))), None


def _edit_remove(rng: Rng, scene: Scene) -> Edit:
    index = int(rng.integers(len(scene.things)))
    kept = scene.things[:index] + scene.things[index + 1 :]
    return scene, replace(scene, things=kept), index


def _edit_add(rng: Rng, scene: Scene) -> Edit:
    fuller, fewer, index = _edit_remove(rng, scene)
    return fewer, fuller, index


_EDITS: dict[str, Callable[[Rng, Scene], Edit]] = {
    "class": _edit_class,
    "colour": _edit_colour,
    "pattern": _edit_pattern,
    "place": _edit_place,
    "add": _edit_add,
    "remove": _edit_remove,
}
