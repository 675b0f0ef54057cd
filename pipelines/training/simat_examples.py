"""Choose the Retrieval tab's examples: test queries that the shipped models answer rightly.

    python -m pipelines.training.simat_examples

Every test query is answered as a click is, by the pack's first CLIP with the pack's defaults, and
judged by the scenes (half a minute of one core). Of each kind those stay whose first result is
right, with the most right ones behind it; every word comes once, and nothing in the picture is
small or hidden. So they show what a good answer looks like, not how often one comes: the share is
printed, and the weighted score is what `python -m pipelines.benchmarks simat` measures. Run it
again after a CLIP, its embeddings of the set or its heads have changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.simat import Queries, Space, labs_of
from pipelines.data.spec import Scene
from pipelines.data.stage import outlines
from pipelines.devices import pick
from pipelines.leases import encoders
from pipelines.method_params import RetrievalParams
from pipelines.models.retrieval_set import Example, RetrievalSet, write_examples
from pipelines.packs import find
from pipelines.params import build

NUMBERS = {"subj": 5, "obj": 3, "rel": 2}
SMALLEST = 0.06
"""Part of the picture that every thing of an example takes."""


def is_plain(scene: Scene) -> bool:
    """Return whether a visitor sees at once what a scene shows."""
    labels, _ = outlines(scene)
    areas = np.bincount(labels.ravel(), minlength=len(scene.things) + 1)[1:]
    return bool(areas.min() >= SMALLEST * labels.size)


def chosen(
    queries: Queries, right: Tensor, fits: Callable[[int], bool] = lambda image: True
) -> list[Example]:
    """Return NUMBERS of each kind of query, the best first; fewer where fewer are right.

    Args:
        queries: of which each word, before or after the change, is used once for a kind.
        right: (B, k) bool, whether each result is right.
        fits: whether a picture of the set may be an example.
    """
    counts = right.sum(1).tolist()
    found = []
    for kind, number in NUMBERS.items():
        used: set[str] = set()
        rows = [i for i, q in enumerate(queries) if q.field == kind and right[i, 0]]
        for one in (queries[i] for i in sorted(rows, key=lambda i: -counts[i])):
            if number and not used & {one.value, one.target} and fits(one.image):
                used |= {one.value, one.target}
                number -= 1
                found.append(Example(one.image, one.value, one.target))
    return found


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> Path:
    """Answer all test queries, write the examples beside the set; return its folder."""
    pack = find("toybox")
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--set", type=Path, default=pack.component("retrieval").locate())
    options.add_argument("--clip", default=encoders(pack)[0])
    args = options.parse_args(argv)
    params = build(RetrievalParams, pack.defaults.get("simat", {}))
    known = RetrievalSet.from_folder(args.set, pick())
    (lab,) = labs_of(known, [args.clip])
    space = Space(lab, params.heads)
    queries = [query for query in lab.simat.queries if query.is_test]
    right = space.moved(queries, params.delta, params.scale)[:, : params.k]
    for kind in NUMBERS:
        first = right[[query.field == kind for query in queries], 0].float()
        print(f"{kind}: {first.mean():.3f} of {len(first)} test queries are answered rightly")
    examples = chosen(queries, right, lambda image: is_plain(known.scenes[image]))
    facts = {"clip": args.clip, "fingerprint": known.encoded[args.clip].fingerprint}
    write_examples(args.set, examples, {**facts, "heads": params.heads, "scale": params.scale})
    print("\n".join(f"{one.row}: {one.value} -> {one.target}" for one in examples))
    return args.set


if __name__ == "__main__":
    main()
