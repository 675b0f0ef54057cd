"""Which of two pictures is nearer: does the perceptual distance know, on held-out scenes.

    python -m pipelines.benchmarks perceptual --n 500

Two-alternative forced choice (Zhang et al. 2018, section 3): a reference and two versions of it, of
which one is nearer by construction. One distortion at two strengths is easy for any distance; a
moved picture against the same one spoilt besides is not. Methods: each shipped network, its
features with every channel worth the same (`uniform`), and the squared error of the pixels (`l2`).
The setting `edits` is no distortion of the training's: renders of a scene with one thing changed,
and with two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipelines.benchmarks.faithfulness import rendered
from pipelines.benchmarks.report import Report, parser
from pipelines.data.distortions import KINDS, triplets
from pipelines.data.queries import changed_twice
from pipelines.data.scenes import render, sample_scene
from pipelines.models.perceptual import Perceptual
from pipelines.noise import sub_seed
from pipelines.training.scene_data import HELD_OUT

BATCH = 25
ROLES = ("lpips_loss", "lpips_eval")

Distance = Callable[[Tensor, Tensor], Tensor]


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference (B,)."""
    return (a - b).square().mean((1, 2, 3))


def uniform(perceptual: Perceptual) -> Distance:
    """Return the distance of the same features with every channel worth the same."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(perceptual.features(a), perceptual.features(b), strict=True)
        return sum((x - y).square().sum(1).mean((1, 2)) for x, y in pairs)

    return distance


def versions(first: int, count: int, seed: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return references and their nearer and farther versions, each (B, 3, 128, 128)."""
    if kind == "edits":
        chains = [changed_twice(sub_seed(seed, "edits", first + i)) for i in range(count)]
        near, far = (rendered([chain[k] for chain in chains]) for k in (1, 2))
        return rendered([chain[0] for chain in chains]), near, far
    start = HELD_OUT + 1_000_000 * seed + first
    scenes = [sample_scene(i) for i in range(start, start + count)]
    labels = torch.stack([torch.from_numpy(render(scene).labels) for scene in scenes])
    images = rendered(scenes)
    return images, *triplets(images, labels, kind, sub_seed(seed, kind, first))


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Record how often each distance names the nearer version."""
    from pipelines.devices import pick
    from pipelines.packs import find

    args = parser(__doc__, n=500).parse_args(argv)
    pack, device = find("toybox"), pick()
    report = Report("perceptual", seed=args.seed, path=args.json)
    distances: dict[str, Distance] = {"l2": squared_error}
    for role in ROLES:
        network = Perceptual.from_folder(pack.component(role).locate(), device)
        distances |= {role: network.distance, f"{role}_uniform": uniform(network)}
    means: dict[str, list[float]] = {name: [] for name in distances}
    for kind in (*KINDS, "edits"):
        right: dict[str, list[float]] = {name: [] for name in distances}
        for first in range(0, args.n, BATCH):
            seen, near, far = versions(first, min(BATCH, args.n - first), args.seed, kind)
            for name, distance in distances.items():
                right[name] += (distance(seen, near) < distance(seen, far)).float().tolist()
        for name, values in right.items():
            means[name].append(report.add("two_afc", name, values, setting=kind))
    for name, values in means.items():
        report.add("two_afc", name, sum(values) / len(values), setting="all kinds", n=args.n)


if __name__ == "__main__":
    main()
