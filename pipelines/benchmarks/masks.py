"""Choose the settings of the refined mask recipe, on queries that no other benchmark draws.

    python -m pipelines.benchmarks masks [--n 60] [--seed 100]

The network runs once for every query; all settings are then cut from the same difference maps. The
best becomes `pipelines.masks.REFINED`; `benchmarks diffedit` measures it on other queries.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from pipelines.benchmarks.diffedit import draw_queries, render_batches
from pipelines.benchmarks.report import Report, parser
from pipelines.diffedit import difference_map
from pipelines.masks import Refinement, intersection_over_union, refine
from pipelines.method_params import DiffEditParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.params import build

BLURS = (0.7, 1.0, 1.5)
QUANTILES = (0.9, 0.95, 0.98)
RADII = (4, 8)
EPSILONS = (1e-3, 1e-2)
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55)
SHOWN = 10


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the best settings and record their IoU."""
    from pipelines.devices import pick
    from pipelines.packs import find

    options = parser(__doc__, n=60)
    options.set_defaults(seed=100)
    args = options.parse_args(argv)
    pack = find("toybox")
    folder = pack.component("latent_diffusion").locate()
    model = LatentDiffusion.from_folder(folder, pick())
    params = build(DiffEditParams, pack.defaults.get("diffedit", {}))
    batches = render_batches(draw_queries(args.n, args.seed))
    differences = [
        difference_map(
            model,
            model.eps,
            model.encode_images(batch.images),
            batch.source,
            batch.target,
            params,
            seeds=batch.seeds,
        )
        for batch in batches
    ]
    rows: dict[tuple[Refinement, float], list[float]] = {}
    for values in itertools.product(BLURS, QUANTILES, RADII, EPSILONS):
        refinement = Refinement(*values)
        for batch, difference in zip(batches, differences, strict=True):
            maps = refine(difference, batch.images, refinement)
            for threshold in THRESHOLDS:
                overlap = intersection_over_union(maps > threshold, batch.true_masks)
                rows.setdefault((refinement, threshold), []).extend(overlap.tolist())
    report = Report("masks", seed=args.seed, path=args.json)
    report.provenance["model"] = model.fingerprint
    best = sorted(rows.items(), key=lambda row: -sum(row[1]))
    for (refinement, threshold), row in best[:SHOWN]:
        setting = ", ".join(f"{k} {v:g}" for k, v in vars(refinement).items())
        report.add("mask_iou", "refined", row, setting=f"{setting}, threshold {threshold:g}")


if __name__ == "__main__":
    main()
