"""SIMAT with toys: scenes annotated (subject, relation, object), and changes that have an answer.

Built as SIMAT is (Couairon et al. 2022; thesis, sec. 3.2.3), with one difference: SIMAT asks a
network whether a picture shows a triplet, and we ask the scene, which knows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.captions import with_article
from pipelines.data.spec import CLASSES, COLOURS, PLACES, RELATIONS, Scene

FIELDS = ("subj", "rel", "obj")
FIRST_SEED = 1_800_000_000  # no training and no other benchmark draws here
CANDIDATES = 9_200
OBJECTS_KEPT = 10  # most frequent ones of a subject and relation
QUERIES_PER_IMAGE = 3
_RELATION_ODDS = (0.36, 0.36, 0.22, 0.06)  # by how many triplets each can have
_DECIMALS = 4


@dataclass(frozen=True, order=True)
class Triplet:
    """What a picture mainly shows."""

    subj: str
    rel: str
    obj: str

    @property
    def caption(self) -> str:
        """The triplet as a sentence, for toys."""
        return f"{with_article(self.subj)} {self.rel} {with_article(self.obj)}"

    def holds(self, scene: Scene) -> bool:
        """Return whether a scene shows this; what stands beside something has it beside itself."""
        shown = triplet_of(scene)
        mirrored = Triplet(self.obj, self.rel, self.subj) if self.rel == "beside" else self
        return shown is not None and shown in (self, mirrored)


@dataclass(frozen=True)
class Transformation:
    """One query: in picture number `image`, `value` is to become `target`."""

    image: int
    field: str
    value: str
    target: str
    wanted: Triplet
    is_test: bool


@dataclass(frozen=True, eq=False)
class SimatSet:
    """A retrieval set with its queries, ours or the published one.

    Attributes:
        triplets: of every picture.
        captions: of every triplet that a picture shows.
        queries: of both halves; a picture's queries are all in one.
    """

    triplets: Sequence[Triplet]
    captions: Mapping[Triplet, str]
    queries: Sequence[Transformation]


def triplet_of(scene: Scene) -> Triplet | None:
    """Return a scene's annotation; None where no relation is known."""
    if scene.relation is None:
        return None
    return Triplet(scene.things[0].class_name, scene.relation, scene.things[1].class_name)


def sample_scenes(candidates: int = CANDIDATES, first_seed: int = FIRST_SEED) -> list[Scene]:
    """Return scenes of two related things whose triplets pass SIMAT's filters.

    An object must occur with two relations; of a subject and relation the OBJECTS_KEPT most
    frequent objects stay; a triplet must have two pictures.
    """
    scenes = [_candidate(seed) for seed in range(first_seed, first_seed + candidates)]
    kept = _kept([triplet_of(scene) for scene in scenes])
    return [scene for scene in scenes if triplet_of(scene) in kept]


def _candidate(seed: int) -> Scene:
    """Return the scene of a seed, rounded to what is stored."""
    from pipelines.data.scenes import sample_scene  # brings the compiler

    relation = str(np.random.default_rng((seed, 0x51A7)).choice(RELATIONS, p=_RELATION_ODDS))
    return Scene.from_dict(_rounded(sample_scene(seed, count=2, relation=relation).to_dict()))


def _rounded(data: object) -> object:
    if isinstance(data, float):
        return round(data, _DECIMALS)
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list | tuple) else data


def _kept(triplets: Sequence[Triplet]) -> set[Triplet]:
    relations = defaultdict(set)
    for one in triplets:
        relations[one.obj].add(one.rel)
    counts = Counter(one for one in triplets if len(relations[one.obj]) > 1)
    of_pair = defaultdict(list)
    for one in sorted(counts, key=lambda one: (-counts[one], one)):
        of_pair[one.subj, one.rel].append(one)
    frequent = [one for same in of_pair.values() for one in same[:OBJECTS_KEPT]]
    return {one for one in frequent if counts[one] > 1}


def changes(triplets: Iterable[Triplet]) -> dict[Triplet, list[tuple[str, Triplet]]]:
    """Return for every triplet all (field, triplet) that differ from it in that field alone."""
    present = sorted(set(triplets))
    found: dict[Triplet, list[tuple[str, Triplet]]] = {one: [] for one in present}
    for field in FIELDS:
        same = defaultdict(list)
        for one in present:
            same[replace(one, **{field: ""})].append(one)
        for group in same.values():
            for one in group:
                found[one] += [(field, other) for other in group if other != one]
    return found


def build(triplets: Sequence[Triplet], seed: int = 0) -> SimatSet:
    """Return the set of annotated pictures: half of them test, QUERIES_PER_IMAGE changes each."""
    rng = np.random.default_rng((seed, 0xDE17A))
    is_test = rng.permutation(len(triplets)) % 2 == 1
    possible = changes(triplets)
    queries = []
    for image, source in enumerate(triplets):
        options = possible[source]
        drawn = rng.permutation(len(options))[:QUERIES_PER_IMAGE]
        for field, wanted in (options[i] for i in sorted(drawn)):
            before, after = getattr(source, field), getattr(wanted, field)
            queries.append(
                Transformation(image, field, before, after, wanted, bool(is_test[image]))
            )
    return SimatSet(triplets, {one: one.caption for one in sorted(set(triplets))}, queries)


def sentence_pairs(
    captions: Sequence[Triplet], field: str, value: str, target: str
) -> list[tuple[int, int]]:
    """Return (row, row) of all captions that a change of one word leads from and to."""
    rows = {one: row for row, one in enumerate(captions)}
    moved = [(one, replace(one, **{field: target})) for one in captions]
    return [
        (rows[one], rows[other])
        for one, other in moved
        if getattr(one, field) == value and other in rows
    ]


# ---------------------------------------------------------------- the oracle for visitors


def wanted_triplet(scene: Scene, value: str, target: str) -> tuple[str, Triplet] | None:
    """Return (field, triplet) that a change of one word asks of a scene; None if it names none."""
    source = triplet_of(scene)
    if source is None:
        return None
    for field in FIELDS:
        words = RELATIONS if field == "rel" else CLASSES
        if getattr(source, field) == value and target in words:
            return field, replace(source, **{field: target})
    return None


def agrees(query: Scene, value: str, target: str, result: Scene) -> bool | None:
    """Return whether `result` is `query` with `value` become `target`; None: nobody can say.

    Classes and relations are judged as SIMAT does, by the triplet alone. A new place or colour
    must come with the old triplet; without a relation, the same toys must be there.
    """
    if asked := wanted_triplet(query, value, target):
        return asked[1].holds(result)
    classes = {thing.class_name for thing in query.things}
    if value in classes and target in CLASSES:
        return classes - {value} | {target} <= {thing.class_name for thing in result.things}
    source = triplet_of(query)
    if source is None:
        is_kept = classes <= {thing.class_name for thing in result.things}
    else:
        is_kept = source.holds(result)
    if value == query.place and target in PLACES:
        return is_kept and result.place == target
    coloured = {thing.class_name for thing in query.things if thing.colour == value}
    if coloured and target in COLOURS:
        now = {thing.class_name for thing in result.things if thing.colour == target}
        return is_kept and coloured <= now
    return None
