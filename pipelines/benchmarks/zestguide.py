"""Do the methods paint what was painted? Layouts with a known truth, all methods, same seeds.

    python -m pipelines.benchmarks zestguide --n 200 --json assets/results/zestguide.jsonl

A layout is the true label map of a held-out scene. Eval-all keeps every thing, Eval-filtered those
of at least 5 % of the picture, Eval-few one to three of these, drawn (thesis, section 6.4.1). The
text is the scene's whole caption. Metrics:

    miou                    of the segmentation network's reading with the layout, over classes;
                            external_classifier is led by the very network that scores it
    class_colour_accuracy   of the judge, over all things that the text names
    frechet_distance        to held-out renders, on the judge's features, not Inception's
    cost_ratio_to_ddim      time of one picture against plain sampling, in turns, one run

Parts: `headline` compares the methods in the settings asked for, `ablations` varies ZestGuide on
Eval-few, `cost` times batches of one. `--steps` below 50 is quicker, for all methods alike.
"""

from __future__ import annotations

import dataclasses
import functools
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from pipelines.benchmarks.report import Report, parser
from pipelines.data.captions import caption, describe
from pipelines.data.scenes import CLASSES, Scene, render, sample_scene
from pipelines.layouts import Layout, Segment
from pipelines.metrics.frechet import JudgeFeatures
from pipelines.metrics.scene_accuracy import things_right
from pipelines.metrics.segmentation import MeanIoU
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.segmenter import SceneSegmenter
from pipelines.packs import Pack
from pipelines.painting import Paintings
from pipelines.params import build
from pipelines.registry import METHODS, Method, methods
from pipelines.training.scene_data import HELD_OUT, SIZE_PX

BATCH = 20
SETTINGS = ("eval-all", "eval-filtered", "eval-few")
SMALL = 0.05
TIMED = 5
REAL = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A layout with its truth: the class of each pixel, (S, S), 0 = not in the layout."""

    layout: Layout
    classes: Tensor
    caption: str
    seed: int


def draw_cases(n: int, seed: int, setting: str) -> list[Case]:
    """Return n cases of held-out scenes; scenes that keep no segment are passed over."""
    cases: list[Case] = []
    scene_seed = HELD_OUT + 2_000_000 * (seed + 1)
    while len(cases) < n:
        scene = sample_scene(scene_seed)
        labels = render(scene, SIZE_PX).labels
        kept = kept_things(scene, labels, setting, np.random.default_rng(scene_seed))
        if kept:
            cases.append(case_of(scene, labels, kept, len(cases)))
        scene_seed += 1
    return cases


def kept_things(
    scene: Scene, labels: np.ndarray, setting: str, rng: np.random.Generator
) -> list[int]:
    """Return the labels of the things that the layout of this setting keeps."""
    areas = {i: float((labels == i).mean()) for i in range(1, len(scene.things) + 1)}
    least = 0.0 if setting == "eval-all" else SMALL
    kept = [i for i, area in areas.items() if area > least]
    if setting == "eval-few" and kept:
        count = int(rng.integers(1, min(3, len(kept)) + 1))
        kept = sorted(int(i) for i in rng.choice(kept, count, replace=False))
    return kept


def case_of(scene: Scene, labels: np.ndarray, kept: Sequence[int], seed: int) -> Case:
    """Return the case whose layout keeps some things of a scene."""
    painted = np.zeros_like(labels)
    classes = torch.zeros(labels.shape, dtype=torch.long)
    segments = []
    for new, i in enumerate(kept, 1):
        painted[labels == i] = new
        classes[torch.from_numpy(labels == i)] = 1 + CLASSES.index(scene.things[i - 1].class_name)
        segments.append(Segment(describe(scene.things[i - 1])))
    return Case(Layout(caption(scene), tuple(segments), painted), classes, caption(scene), seed)


@torch.no_grad()
def run_setting(
    report: Report,
    name: str,
    values: Mapping[str, object],
    cases: Sequence[Case],
    setting: str,
    model: LatentDiffusion,
    segmenter: SceneSegmenter,
    judge: SceneJudge,
    frechet: FrechetInceptionDistance,
) -> dict[str, float]:
    """Paint all cases with one method, record and return its numbers."""
    method = METHODS[name]
    params = build(method.load_params(), values)
    paint = bound(method, segmenter)
    frechet.reset()
    score = MeanIoU(1 + len(CLASSES))
    right: list[float] = []
    for first in range(0, len(cases), BATCH):
        part = cases[first : first + BATCH]
        layouts = [case.layout for case in part]
        seeds = [case.seed for case in part]
        painted = paint(model, layouts, params, seeds=seeds)
        frechet.update(painted.images, real=False)
        seen = segmenter(painted.images).argmax(1)
        wanted = torch.stack([case.classes for case in part])
        for one, truth in zip(seen, wanted, strict=True):
            asked = torch.isin(one, truth.unique())  # other things of the text do not count
            score.add((one * asked)[None], truth[None])
        answers = things_right(judge, judge(painted.images), [case.caption for case in part])
        right += [float(answer) for row in answers for answer in row]
    miou = report.add("miou", name, score.value(), setting=setting, n=len(cases))
    accuracy = report.add("class_colour_accuracy", name, right, setting=setting)
    distance = float(frechet.compute())
    report.add("frechet_distance", name, distance, setting=setting, n=len(cases))
    return {"miou": miou, "accuracy": accuracy}


def bound(method: Method, segmenter: SceneSegmenter) -> Callable[..., Paintings]:
    """Return the function of a method, with the segmentation network where it takes one."""
    function = method.load()
    if "segmenter" in method.takes:
        function = functools.partial(function, segmenter=segmenter)
    return function


def real_pictures(first: int, count: int) -> Iterator[Tensor]:
    """Yield renders of held-out scenes that no layout comes from, (B, 3, S, S) in [-1, 1]."""
    for start in range(first, first + count, BATCH):
        seeds = range(start, min(start + BATCH, first + count))
        pixels = np.stack([render(sample_scene(seed), SIZE_PX).image for seed in seeds])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def frechet_to_renders(report: Report, judge: SceneJudge, n: int) -> FrechetInceptionDistance:
    """Return the distance to REAL renders; record that of n other renders."""
    frechet = FrechetInceptionDistance(JudgeFeatures(judge), reset_real_features=False)
    for real in real_pictures(HELD_OUT + 1_000_000, REAL):
        frechet.update(real, real=True)
    for real in real_pictures(HELD_OUT + 1_100_000, n):
        frechet.update(real, real=False)
    report.add("frechet_distance", "render", float(frechet.compute()), n=n)
    return frechet


def headline(report: Report, run, n: int, seed: int, settings: Sequence[str]) -> None:
    """Compare all methods in settings of the thesis; the claims are about eval-few."""
    names = [method.name for method in methods("layouts")]
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for setting in settings:
        cases = draw_cases(n, seed, setting)
        rows[setting] = {name: run(name, {}, cases, setting) for name in names}
    if "eval-few" in rows:
        claims(report, rows["eval-few"])


def claims(report: Report, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Record which conclusions of the thesis hold on eval-few."""
    best = max(("zestguide", "zestguide_pww"), key=lambda name: rows[name]["miou"])
    plain, ours = rows["plain_sampling"], rows[best]
    report.claim(
        "ZestGuide at least doubles the mIoU of plain sampling (eval-few)",
        ours["miou"] >= 2 * plain["miou"],
        f"{best}: {ours['miou']:.3f} against {plain['miou']:.3f}",
    )
    for other in ("paint_with_words", "multidiffusion", "external_classifier"):
        report.claim(
            f"ZestGuide follows layouts better than {METHODS[other].title} (eval-few)",
            ours["miou"] > rows[other]["miou"],
            f"{ours['miou']:.3f} against {rows[other]['miou']:.3f}",
        )
    report.claim(
        "ZestGuide paints the words no worse than plain sampling (within 0.05, eval-few)",
        ours["accuracy"] >= plain["accuracy"] - 0.05,
        f"{ours['accuracy']:.3f} against {plain['accuracy']:.3f}",
    )
    report.claim(
        "ZestGuide with paint-with-words is better than without (eval-few)",
        rows["zestguide_pww"]["miou"] > rows["zestguide"]["miou"],
        f"{rows['zestguide_pww']['miou']:.3f} against {rows['zestguide']['miou']:.3f}",
    )


def ablations(report: Report, run, n: int, seed: int) -> None:
    """Vary one choice of ZestGuide at a time on eval-few (Table 6.2, 6.3, Figures 6.9, 6.10)."""
    cases = draw_cases(n, seed, "eval-few")
    choices: dict[str, Sequence[object]] = {
        "loss": ("both", "plain", "normalised"),
        "tau": (0.1, 0.25, 0.5, 1.0),
        "eta": (0.1, 0.3, 1.0, 3.0),
        "averaging": ("global", "layers", "heads"),
        "layers": ("16", "32", "16 and 32", "all"),
        "normalise_gradient": (True, False),
    }
    for with_words in (0.0, 0.4):
        for parameter, options in choices.items():
            if with_words and parameter != "loss":
                continue
            for value in options:
                values = {parameter: value, "paint_with_words": with_words}
                setting = f"eval-few, {parameter} {value}"
                setting += ", with paint-with-words" if with_words else ""
                run("zestguide", values, cases, setting)


def cost(
    report: Report, model: LatentDiffusion, segmenter: SceneSegmenter, pack: Pack, seed: int
) -> None:
    """Time one picture of every method against plain sampling, in turns."""
    cases = draw_cases(TIMED, seed, "eval-few")
    seconds: dict[str, list[float]] = {}
    for case in [cases[0], *cases]:  # the first round warms up
        for method in methods("layouts"):
            params = build(method.load_params(), pack.defaults.get(method.name, {}))
            paint = bound(method, segmenter)
            started = time.perf_counter()
            paint(model, [case.layout], params, seeds=[case.seed])
            seconds.setdefault(method.name, []).append(time.perf_counter() - started)
    medians = {name: statistics.median(row[1:]) for name, row in seconds.items()}
    for name, median in medians.items():
        ratio = median / medians["plain_sampling"]
        report.add("cost_ratio_to_ddim", name, ratio, setting="one picture", n=TIMED)
    ratio = medians["zestguide"] / medians["plain_sampling"]
    report.claim(
        "ZestGuide at tau 0.5 costs at most 1.5 times plain DDIM", ratio <= 1.5, f"{ratio:.2f}"
    )
    report.claim(
        "ZestGuide costs less than guidance by the segmentation network",
        medians["zestguide"] < medians["external_classifier"],
        f"{medians['zestguide']:.2f} s against {medians['external_classifier']:.2f} s (medians)",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.add("peak_mib", "all methods", peak, setting="one picture, whole process")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    from pipelines.devices import pick
    from pipelines.packs import find

    parts = ("headline", "ablations", "cost")
    options = parser(__doc__, n=200)
    options.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    options.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options.add_argument("--steps", type=int, default=50, help="DDIM steps of every method")
    args = options.parse_args(argv)
    pack: Pack = find("toybox")
    device = pick()
    model = LatentDiffusion.from_folder(pack.component("latent_diffusion").locate(), device)
    segmenter = SceneSegmenter.from_folder(pack.component("scene_segmenter").locate(), device)
    judge = SceneJudge.from_folder(pack.component("scene_judge").locate(), device)
    report = Report("zestguide", seed=args.seed, path=args.json)
    report.provenance |= {"model": model.fingerprint, "steps": args.steps}
    frechet = frechet_to_renders(report, judge, args.n) if args.parts != ["cost"] else None

    def run(
        name: str, values: Mapping[str, object], cases: Sequence[Case], setting: str
    ) -> dict[str, float]:
        values = {"num_steps": args.steps, **pack.defaults.get(name, {}), **values}
        return run_setting(report, name, values, cases, setting, model, segmenter, judge, frechet)

    for part in args.parts:
        if part == "headline":
            headline(report, run, args.n, args.seed, args.settings)
        elif part == "ablations":
            ablations(report, run, args.n, args.seed)
        else:
            cost(report, model, segmenter, pack, args.seed)


if __name__ == "__main__":
    main()
