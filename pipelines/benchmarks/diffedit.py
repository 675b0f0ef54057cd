"""DiffEdit's claims, measured on toy queries whose true edit is known.

    python -m pipelines.benchmarks diffedit --n 200 --json assets/results/diffedit.jsonl

Half of the queries change a class within its cluster, half a colour. Every picture is judged after
the final paste. Metrics:

    edit_success           the judge sees what the target text asks for
    l1_input               mean absolute change of the picture, 0..255
    l1_outside             the same outside the true mask
    l1_true_edit           distance to the true edit, the scene rendered with the one change
    mask_iou               inferred mask against the true one, thesis recipe
    mask_iou_refined       the same, refined recipe
    changed_outside_mask   pixels outside the inferred mask that changed at all

Parts: `headline` is the published algorithm and the fast solver; `curves` every method at several
strengths; `ablations` thresholds, noise, reference, compositing and the true mask. Curves and
ablations use the fast solver; whether it loses success is in the headline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines import images as pictures
from pipelines import masks as mask_recipes
from pipelines.benchmarks.report import Report, parser
from pipelines.data.queries import EditQuery, render_query, sample_query
from pipelines.diffedit import difference_map
from pipelines.edits import encoded_images
from pipelines.memo import Memo
from pipelines.method_params import DiffEditParams
from pipelines.metrics.scene_accuracy import edit_succeeded
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.packs import Pack
from pipelines.params import build
from pipelines.registry import METHODS
from pipelines.training.scene_data import HELD_OUT

BATCH = 20
KINDS = ("class", "colour")
PUBLISHED = {"solver": "ddim", "num_steps": 50}


@dataclass(frozen=True, eq=False)
class Batch:
    """Rendered queries: images (B, 3, S, S) in [-1, 1], true masks (B, S, S), texts and seeds."""

    queries: list[EditQuery]
    images: Tensor
    truths: Tensor
    true_masks: Tensor
    seeds: list[int]

    @property
    def source(self) -> list[str]:
        """Source texts."""
        return [query.source_text for query in self.queries]

    @property
    def target(self) -> list[str]:
        """Target texts."""
        return [query.target_text for query in self.queries]


@dataclass(frozen=True)
class Setting:
    """One row of the benchmark: a method with the parameters that differ from the pack's."""

    method: str
    label: str
    values: Mapping[str, object] = field(default_factory=dict)
    true_mask: bool = False


def draw_queries(n: int, seed: int, kinds: Sequence[str] = KINDS) -> list[EditQuery]:
    """Return n held-out queries, of the kinds in turn."""
    first = HELD_OUT + 1_000_000 * (seed + 1)
    return [sample_query(first + i, kinds[i % len(kinds)]) for i in range(n)]


def render_batches(queries: Sequence[EditQuery]) -> list[Batch]:
    """Return the queries rendered, BATCH at a time."""
    batches = []
    for first in range(0, len(queries), BATCH):
        part = list(queries[first : first + BATCH])
        renders = [render_query(query) for query in part]
        images = _tensor([render.source_image for render in renders])
        truths = _tensor([render.target_image for render in renders])
        masks = torch.from_numpy(np.stack([render.true_mask for render in renders])).float()
        batches.append(Batch(part, images, truths, masks, list(range(first, first + len(part)))))
    return batches


def _tensor(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fast(pack: Pack) -> dict[str, object]:
    """Return the solver settings of the pack's fast preset."""
    values = pack.presets["fast"]
    return {name: values[name] for name in ("solver", "num_steps")}


def settings_of(part: str, pack: Pack) -> list[Setting]:
    """Return the settings of one part of the benchmark."""
    quick = fast(pack)
    if part == "headline":
        return [
            Setting("copy", ""),
            Setting("encode", ""),
            Setting("diffedit", "published: 50 DDIM steps", PUBLISHED),
            Setting("diffedit", "fast solver", quick),
        ]
    if part == "curves":
        ratios = {
            "diffedit": (0.4, 0.6, 0.7, 0.8, 0.9),
            "diffedit_no_encode": (0.6, 0.7, 0.8, 0.9),
            "encode_decode": (0.4, 0.6, 0.7, 0.8, 0.9),
            "sdedit": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        }
        return [
            Setting(method, f"r = {r:g}", {**quick, "strength": r})
            for method, strengths in ratios.items()
            for r in sorted(strengths, reverse=True)  # the longest inversion serves the others
        ]
    thesis = {**quick, "recipe": "thesis"}
    return [
        *(
            Setting("diffedit", f"thesis mask, threshold {t:g}", {**thesis, "threshold": t})
            for t in (0.25, 0.5, 0.75)
        ),
        Setting("diffedit", "empty reference text", {**quick, "reference": "empty"}),
        Setting("diffedit", "x0-style compositing", {**quick, "compositing": "x0"}),
        Setting("diffedit", "true mask", quick, true_mask=True),
    ]


def run_setting(
    report: Report,
    setting: Setting,
    batches: Sequence[Batch],
    model: LatentDiffusion,
    judge: SceneJudge,
    pack: Pack,
    memo: Memo,
) -> dict[str, float]:
    """Edit and judge all queries with one setting; record and return the means."""
    method = METHODS[setting.method]
    accepted = {spec for spec in method.load_params().__dataclass_fields__}
    values = {**pack.defaults.get(setting.method, {}), **setting.values}
    params = build(method.load_params(), {k: v for k, v in values.items() if k in accepted})
    numbers: dict[str, list[float]] = {}
    for batch in batches:
        edits = method.load()(
            model,
            batch.images,
            batch.source,
            batch.target,
            params,
            seeds=batch.seeds,
            memo=memo,
            masks=batch.true_masks if setting.true_mask else None,
        )
        edited = pasted(batch.images, edits.images, edits.masks)
        for name, row in measured(batch, edited, edits.masks, judge).items():
            numbers.setdefault(name, []).extend(row)
    return {
        name: report.add(name, setting.method, row, setting=setting.label)
        for name, row in numbers.items()
    }


def pasted(images: Tensor, edited: Tensor, masks: Tensor | None) -> Tensor:
    """Return the edited pictures as a visitor gets them: 8-bit, pasted over the input."""
    size = images.shape[-1]
    results = []
    for i, (before, after) in enumerate(
        zip(pictures.to_pil(images), pictures.to_pil(edited), strict=True)
    ):
        mask = None if masks is None else masks[i].numpy()
        _, placement = pictures.fit(before, size)
        results.append(pictures.paste(before, after, mask, placement))
    return pictures.to_tensor(results, size)


@torch.no_grad()
def measured(
    batch: Batch, edited: Tensor, masks: Tensor | None, judge: SceneJudge
) -> dict[str, list[float]]:
    """Return every metric for every query of a batch."""
    verdict = judge(edited)
    outside = 1 - batch.true_masks
    change = (edited - batch.images).abs().mean(1) * 127.5  # (B, S, S)
    wrong = (edited - batch.truths).abs().mean(1) * 127.5
    rows = {
        "edit_success": [
            float(edit_succeeded(judge, verdict, i, query)) for i, query in enumerate(batch.queries)
        ],
        "l1_input": change.mean((1, 2)).tolist(),
        "l1_outside": ((change * outside).sum((1, 2)) / outside.sum((1, 2))).tolist(),
        "l1_true_edit": wrong.mean((1, 2)).tolist(),
    }
    if masks is not None:
        rows["changed_outside_mask"] = ((change > 0) & (masks == 0)).sum((1, 2)).float().tolist()
    return rows


@torch.no_grad()
def mask_quality(
    report: Report,
    batches: Sequence[Batch],
    model: LatentDiffusion,
    pack: Pack,
    memo: Memo,
    values: Mapping[str, object],
    label: str,
) -> dict[str, float]:
    """Record the IoU of both recipes with the true mask."""
    params = build(DiffEditParams, {**pack.defaults.get("diffedit", {}), **values})
    rows: dict[str, list[float]] = {"thesis": [], "refined": []}
    for batch in batches:
        latents0 = encoded_images(model, batch.images, memo)
        difference = difference_map(
            model, model.eps, latents0, batch.source, batch.target, params, seeds=batch.seeds
        )
        for recipe, row in rows.items():
            masks = mask_recipes.binarise(difference, batch.images, recipe, params.threshold)
            row += mask_recipes.intersection_over_union(masks, batch.true_masks).tolist()
    names = {"thesis": "mask_iou", "refined": "mask_iou_refined"}
    return {
        names[recipe]: report.add(names[recipe], "diffedit", row, setting=label)
        for recipe, row in rows.items()
    }


def headline(report: Report, run, quality) -> None:
    """Success, distance and masks of the published algorithm and of the fast solver."""
    results = {setting.label: run(setting) for setting in run.settings}
    published, quick = results["published: 50 DDIM steps"], results["fast solver"]
    masks = quality({}, "defaults")
    report.claim(
        "pixels outside the mask keep their bits",
        published["changed_outside_mask"] == 0 and quick["changed_outside_mask"] == 0,
        f"{published['changed_outside_mask']:g} changed",
    )
    report.claim(
        "the fast solver loses no success (within 0.03)",
        quick["edit_success"] >= published["edit_success"] - 0.03,
        f"{quick['edit_success']:.3f} against {published['edit_success']:.3f}",
    )
    report.claim(
        "edit success of at least 0.80",
        published["edit_success"] >= 0.80,
        f"{published['edit_success']:.3f}",
    )
    report.claim(
        "masks: IoU of at least 0.5 (thesis recipe) and 0.7 (refined)",
        masks["mask_iou"] >= 0.5 and masks["mask_iou_refined"] >= 0.7,
        f"{masks['mask_iou']:.3f} and {masks['mask_iou_refined']:.3f}",
    )


def success_at(points: Sequence[tuple[float, float]], distance: float) -> float:
    """Return the success that a trade-off curve of (distance, success) reaches at `distance`."""
    distances, successes = zip(*sorted(points), strict=True)
    return float(np.interp(distance, distances, np.maximum.accumulate(successes)))


def curves(report: Report, run, plot: Path | None) -> None:
    """Record the trade-off between success and distance to the input of every method."""
    points: dict[str, list[tuple[float, float]]] = {}
    for setting in run.settings:
        means = run(setting)
        points.setdefault(setting.method, []).append((means["l1_input"], means["edit_success"]))
    reach = max(distance for distance, _ in points["diffedit"])
    ours = success_at(points["diffedit"], reach)
    for other in ("sdedit", "encode_decode", "diffedit_no_encode"):
        theirs = success_at(points[other], reach)
        report.claim(
            f"DiffEdit succeeds more often than {METHODS[other].title} at equal distance",
            ours > theirs,
            f"{ours:.3f} against {theirs:.3f} at a mean change of {reach:.1f} of 255",
        )
    if plot is not None:
        draw_curves(points, plot)


def draw_curves(points: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> None:
    """Write the trade-off curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for method, curve in points.items():
        axes.plot(*zip(*sorted(curve), strict=True), marker="o", label=METHODS[method].title)
    axes.set(xlabel="mean change of the picture (0..255)", ylabel="edit success", ylim=(0, 1))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def ablations(report: Report, run, quality) -> None:
    """Record what every choice inside DiffEdit is worth."""
    base = run(Setting("diffedit", "fast solver", run.quick))
    rows = {setting.label: run(setting) for setting in run.settings}
    half = rows["thesis mask, threshold 0.5"]
    for other in (0.25, 0.75):
        row = rows[f"thesis mask, threshold {other:g}"]
        report.claim(
            f"threshold 0.5 trades better than {other:g}",
            half["edit_success"] / half["l1_outside"] > row["edit_success"] / row["l1_outside"]
            if other < 0.5
            else half["edit_success"] > row["edit_success"],
            f"success {half['edit_success']:.3f} against {row['edit_success']:.3f}, "
            f"change outside {half['l1_outside']:.2f} against {row['l1_outside']:.2f}",
        )
    x0 = rows["x0-style compositing"]
    report.claim(
        "compositing encoded latents is nearer to the true edit than the x0-style operator",
        base["l1_true_edit"] < x0["l1_true_edit"],
        f"{base['l1_true_edit']:.2f} against {x0['l1_true_edit']:.2f}",
    )
    with_text = quality({}, "source text as reference")
    without = quality({"reference": "empty"}, "empty reference")
    report.claim(
        "a reference text gives better masks than the empty text",
        with_text["mask_iou_refined"] > without["mask_iou_refined"],
        f"{with_text['mask_iou_refined']:.3f} against {without['mask_iou_refined']:.3f}",
    )
    noise = {
        level: quality({"mask_strength": level}, f"mask noise {level:g}")["mask_iou_refined"]
        for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    }
    moderate = max(value for level, value in noise.items() if level <= 0.6)
    report.claim(
        "mask noise of 0.6 and below is best",
        moderate >= max(noise.values()),
        ", ".join(f"{level:g}: {value:.3f}" for level, value in noise.items()),
    )


class Runner:
    """Binds what every setting shares; calling it runs one setting."""

    def __init__(self, part, report, batches, model, judge, pack, memo) -> None:
        self.settings, self.quick = settings_of(part, pack), fast(pack)
        self._bound = (batches, model, judge, pack, memo)
        self._report = report

    def __call__(self, setting: Setting) -> dict[str, float]:
        """Run one setting and return its means."""
        return run_setting(self._report, setting, *self._bound)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    from pipelines.devices import pick
    from pipelines.packs import find

    options = parser(__doc__, n=200)
    parts = ("headline", "curves", "ablations")
    options.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    options.add_argument("--plot", type=Path, help="draw the trade-off curves here")
    args = options.parse_args(argv)
    pack, device = find("toybox"), pick()
    model = LatentDiffusion.from_folder(pack.component("latent_diffusion").locate(), device)
    judge = SceneJudge.from_folder(pack.component("scene_judge").locate(), device)
    report = Report("diffedit", seed=args.seed, path=args.json)
    report.provenance["model"] = model.fingerprint
    batches = render_batches(draw_queries(args.n, args.seed))
    memo = Memo(4 * 2**30)

    def quality(values: Mapping[str, object], label: str) -> dict[str, float]:
        return mask_quality(report, batches, model, pack, memo, values, label)

    for part in args.parts:
        run = Runner(part, report, batches, model, judge, pack, memo)
        if part == "headline":
            headline(report, run, quality)
        elif part == "curves":
            curves(report, run, args.plot)
        else:
            ablations(report, run, quality)


if __name__ == "__main__":
    main()
