"""FlexIT's queries: every class as target, eight sources for it, all from one cluster (sec. 4.1).

The toy world's clusters have four classes where ImageNet's have about six, so the sources of a
target come round. Half of the queries choose settings (dev), the others report (test). The
published queries, for whoever has ImageNet, are read by `published`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipelines.data.captions import caption
from pipelines.data.queries import EditQuery, reclassed
from pipelines.data.scenes import is_well_seen, sample_scene
from pipelines.data.spec import CLASSES, CLUSTER_OF, CLUSTERS, Scene
from pipelines.errors import InputError

SOURCES = 8
Half = Literal["dev", "test"]


def cluster_queries(n: int, seed: int, half: Half) -> list[EditQuery]:
    """Return n queries of one half: the targets in turn, their sources in random order.

    The targets are even where n is a multiple of their number. The two halves share no scene.
    """
    rng = np.random.default_rng((seed, 0xF1E7))
    orders = {name: rng.permutation(others(name)) for name in CLASSES}
    queries = []
    for i in range(n):
        turn, target = divmod(i, len(CLASSES))
        k = 2 * turn + (half == "test")  # of the SOURCES of a target; then further scenes
        order = orders[CLASSES[target]]
        source = str(order[k % SOURCES % len(order)])
        queries.append(cluster_query((seed, target, k), source, CLASSES[target]))
    return queries


def others(target: str) -> list[str]:
    """Return the other classes of a class's cluster."""
    return [name for name in CLUSTERS[CLUSTER_OF[target]] if name != target]


def cluster_query(key: tuple[int, ...], source: str, target: str) -> EditQuery:
    """Return the query of a key: one thing of class `source` is to become a `target`."""
    rng = np.random.default_rng((*key, 0xF1E7))
    while True:
        scene = one_thing(int(rng.integers(2**62)), source)
        wanted = reclassed(scene, 0, target)
        if is_well_seen(scene) and is_well_seen(wanted):
            return EditQuery(scene, wanted, caption(scene), caption(wanted), "class", 0)


def one_thing(seed: int, class_name: str) -> Scene:
    """Return a scene with one thing of that class, which may not be well seen."""
    return reclassed(sample_scene(seed, count=1, relation=None), 0, class_name)


# ---------------------------------------------------------------- the published queries


@dataclass(frozen=True)
class PublishedQuery:
    """One row of the release's queries.csv: a picture below ImageNet's validation folder."""

    path: str
    source: str
    target: str
    is_test: bool


def published(file: Path) -> list[PublishedQuery]:
    """Return the rows of facebookresearch/SemanticImageTranslation's queries.csv.

    Raises:
        InputError: it is another file.
    """
    with file.open(newline="") as lines:
        rows = csv.DictReader(lines)
        if not {"path", "source", "target", "is_test"} <= set(rows.fieldnames or ()):
            raise InputError(
                f"{file.name} has not the columns of FlexIT's queries.csv. Please give the file "
                "from facebookresearch/SemanticImageTranslation."
            )
        return [
            PublishedQuery(row["path"], row["source"], row["target"], row["is_test"] == "True")
            for row in rows
        ]
