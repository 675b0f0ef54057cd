"""Do the methods paint what was painted? Layouts with a known truth, all methods, same seeds.

    python -m pipelines.benchmarks zestguide --n 200 --json assets/results/zestguide.jsonl

A layout is the true label map of a held-out scene. Eval-all keeps every thing, Eval-filtered those
of at least 5 % of the picture, Eval-few one to three of these, drawn (thesis, section 6.4.1). The
text is the scene's whole caption. Metrics:

    miou                    of the segmentation network's reading with the layout, over classes;
                            external_classifier is led by the very network that scores it, and
                            render is the scene itself: the bound that this network sets
    class_colour_accuracy   of the judge, over all things that the text names
    frechet_distance        to held-out renders, on the judge's features, not Inception's
    cost_ratio_to_ddim      time of one picture against plain sampling, in turns, one run

Parts: `headline` compares the methods in the settings asked for, `ablations` varies ZestGuide on
Eval-few, `cost` times batches of one. A run that was cut goes on with `--append` and those of the
`--methods` and `--settings` that are missing.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from pipelines.benchmarks.memory import peak_mib
from pipelines.benchmarks.report import Report, parser
from pipelines.data.captions import caption, describe
from pipelines.data.scenes import CLASSES, Render, Scene, render, sample_scene
from pipelines.devices import pick
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
TIMED = 9
REAL = 1000
CLOSED = 0.75
"""Part of plain sampling's gap to the scenes themselves that a method that obeys should close: to
double its mIoU is out of reach where it has more than half of theirs."""

Paint = Callable[[Sequence["Case"]], Tensor]
"""cases -> pictures (B, 3, S, S) in [-1, 1]."""
Run = Callable[[str, Mapping[str, object], Sequence["Case"], str], None]
"""Measures (method or "render", parameters, cases, setting)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A layout with its truth: the class of each pixel, (S, S), 0 = not in the layout.

    Attributes:
        render: the scene itself, (3, S, S) in [-1, 1].
    """

    layout: Layout
    classes: Tensor
    render: Tensor
    caption: str
    seed: int


def draw_cases(n: int, seed: int, setting: str) -> list[Case]:
    """Return n cases of held-out scenes; scenes that keep no segment are passed over."""
    cases: list[Case] = []
    scene_seed = HELD_OUT + 2_000_000 * (seed + 1)
    while len(cases) < n:
        scene = sample_scene(scene_seed)
        made = render(scene, SIZE_PX)
        kept = kept_things(scene, made.labels, setting, np.random.default_rng(scene_seed))
        if kept:
            cases.append(case_of(scene, made, kept, len(cases)))
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


def case_of(scene: Scene, made: Render, kept: Sequence[int], seed: int) -> Case:
    """Return the case whose layout keeps some things of a scene."""
    labels = made.labels
    painted = np.zeros_like(labels)
    classes = torch.zeros(labels.shape, dtype=torch.long)
    segments = []
    for new, i in enumerate(kept, 1):
        painted[labels == i] = new
        classes[torch.from_numpy(labels == i)] = 1 + CLASSES.index(scene.things[i - 1].class_name)
        segments.append(Segment(describe(scene.things[i - 1])))
    layout = Layout(caption(scene), tuple(segments), painted)
    return Case(layout, classes, to_images(made.image[None])[0], caption(scene), seed)


def to_images(pixels: np.ndarray) -> Tensor:
    """Return uint8 pixels (B, S, S, 3) as images (B, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def measure(
    report: Report,
    name: str,
    paint: Paint,
    cases: Sequence[Case],
    setting: str,
    segmenter: SceneSegmenter,
    judge: SceneJudge,
    frechet: FrechetInceptionDistance,
) -> None:
    """Paint all cases and record how the pictures do."""
    frechet.reset()
    score = MeanIoU(1 + len(CLASSES))
    right: list[float] = []
    for first in range(0, len(cases), BATCH):
        part = cases[first : first + BATCH]
        images = paint(part)
        frechet.update(images, real=False)
        seen = segmenter(images).argmax(1)
        wanted = torch.stack([case.classes for case in part])
        for one, truth in zip(seen, wanted, strict=True):
            asked = torch.isin(one, truth.unique())  # other things of the text do not count
            score.add((one * asked)[None], truth[None])
        answers = things_right(judge, judge(images), [case.caption for case in part])
        right += [float(answer) for row in answers for answer in row]
    error, n = score.standard_error(report.seed), len(cases)
    report.add("miou", name, score.value(), setting=setting, n=n, spread=error)
    report.add("class_colour_accuracy", name, right, setting=setting)
    report.add("frechet_distance", name, float(frechet.compute()), setting=setting, n=n)


def renders(cases: Sequence[Case]) -> Tensor:
    """Return the scenes that the layouts come from: what no method can be expected to pass."""
    return torch.stack([case.render for case in cases])


def painter(
    model: LatentDiffusion, segmenter: SceneSegmenter, name: str, values: Mapping[str, object]
) -> Paint:
    """Return what paints a batch of cases with one method."""
    method = METHODS[name]
    params = build(method.load_params(), values)
    function = bound(method, segmenter)

    def paint(cases: Sequence[Case]) -> Tensor:
        layouts, seeds = [case.layout for case in cases], [case.seed for case in cases]
        return function(model, layouts, params, seeds=seeds).images

    return paint


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
        yield to_images(pixels)


def distance_to_renders(judge: SceneJudge) -> FrechetInceptionDistance:
    """Return the Frechet distance to REAL renders."""
    frechet = FrechetInceptionDistance(JudgeFeatures(judge), reset_real_features=False)
    for real in real_pictures(HELD_OUT + 1_000_000, REAL):
        frechet.update(real, real=True)
    return frechet


def headline(run: Run, n: int, seed: int, settings: Sequence[str], names: Sequence[str]) -> None:
    """Compare methods in settings of the thesis, beside the scenes that the layouts come from."""
    for setting in settings:
        cases = draw_cases(n, seed, setting)
        run("render", {}, cases, setting)
        for name in names:
            run(name, {}, cases, setting)


def claims(report: Report, setting: str = "eval-few") -> None:
    """Record which conclusions of the thesis hold, of those whose methods were measured."""

    def compare(claim: str, others: Sequence[str], metric: str, holds: Callable[..., bool]) -> None:
        values = [report.value(metric, name, setting) for name in ("zestguide", *others)]
        if None not in values:
            evidence = " against ".join(f"{value:.3f}" for value in values)
            report.claim(f"ZestGuide {claim} ({setting})", holds(*values), evidence)

    compare(
        "at least doubles the mIoU of plain sampling",
        ("plain_sampling",), "miou", lambda ours, plain: ours >= 2 * plain,
    )  # fmt: skip
    compare(
        f"closes at least {CLOSED:.0%} of the gap in mIoU from plain sampling to the scenes "
        "themselves",
        ("plain_sampling", "render"),
        "miou",
        lambda ours, plain, render: ours - plain >= CLOSED * (render - plain),
    )
    for other in ("paint_with_words", "multidiffusion", "external_classifier"):
        compare(
            f"follows layouts better than {METHODS[other].title}",
            (other,), "miou", lambda ours, other: ours > other,
        )  # fmt: skip
    compare(
        "paints the words no worse than plain sampling (within 0.05)",
        ("plain_sampling",), "class_colour_accuracy", lambda ours, plain: ours >= plain - 0.05,
    )  # fmt: skip
    compare(
        "is better with paint-with-words than without",
        ("zestguide_pww",), "miou", lambda ours, both: both > ours,
    )  # fmt: skip


def ablations(run: Run, n: int, seed: int, defaults: Mapping[str, object]) -> None:
    """Vary one choice of ZestGuide at a time on eval-few (Table 6.2 to 6.4, Figures 6.9, 6.10)."""
    cases = draw_cases(n, seed, "eval-few")
    choices: dict[str, Sequence[object]] = {
        "loss": ("plain", "normalised"),
        "tau": (0.1, 0.25, 0.5, 1.0),
        "eta": (0.1, 0.3, 1.0, 3.0),
        "averaging": ("layers", "heads"),
        "layers": ("16", "32", "all", "encoder", "decoder"),
        "normalise_gradient": (False,),
    }
    shipped = vars(build(METHODS["zestguide"].load_params(), defaults))
    run("zestguide", {}, cases, "eval-few, as shipped")
    for name, options in choices.items():
        for value in options:
            if value != shipped[name]:
                run("zestguide", {name: value}, cases, f"eval-few, {name} {value}")
    for loss in ("both", "plain", "normalised"):
        run("zestguide_pww", {"loss": loss}, cases, f"eval-few, loss {loss}")


def cost(
    report: Report,
    model: LatentDiffusion,
    segmenter: SceneSegmenter,
    pack: Pack,
    common: Mapping[str, object],
    seed: int,
) -> None:
    """Time one picture of every method against plain sampling, in turns.

    With as many threads as OMP_NUM_THREADS says: a gradient of batch one keeps two cores less busy
    than the guided prediction of plain sampling, a batch of two.
    """
    threads = torch.get_num_threads()
    where = f"one picture, {threads} thread{'s' * (threads != 1)}"
    cases = draw_cases(TIMED, seed, "eval-few")
    seconds: dict[str, list[float]] = {}
    for case in [cases[0], *cases]:  # the first round warms up
        for method in methods("layouts"):
            values = {**pack.defaults.get(method.name, {}), **common}
            paint = painter(model, segmenter, method.name, values)
            started = time.perf_counter()
            paint([case])
            seconds.setdefault(method.name, []).append(time.perf_counter() - started)
    plain = seconds["plain_sampling"]
    medians = {}
    for name, row in seconds.items():
        ratios = [one / other for one, other in zip(row[1:], plain[1:], strict=True)]
        medians[name] = statistics.median(ratios)
        error = statistics.stdev(ratios) / len(ratios) ** 0.5
        report.add("cost_ratio_to_ddim", name, medians[name], setting=where, n=TIMED, spread=error)
    ours, theirs = medians["zestguide"], medians["external_classifier"]
    report.claim(
        f"ZestGuide at tau 0.5 costs at most 1.5 times plain DDIM ({where})",
        ours <= 1.5,
        f"{ours:.2f}",
    )
    report.claim(
        f"ZestGuide costs less than guidance by the segmentation network ({where})",
        ours < theirs,
        f"{ours:.2f} against {theirs:.2f} times plain DDIM",
    )
    report.add("peak_mib", "all methods", peak_mib(pick()), setting="whole process")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    from pipelines.packs import find

    parts = ("headline", "ablations", "cost")
    names = [method.name for method in methods("layouts")]
    options = parser(__doc__, n=200)
    options.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    options.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options.add_argument("--methods", nargs="+", choices=names, default=names)
    options.add_argument("--steps", type=int, help="DDIM steps of every method; the pack's if left")
    options.add_argument("--append", action="store_true", help="go on with the records of the file")
    args = options.parse_args(argv)
    pack: Pack = find("toybox")
    device = pick()
    model = LatentDiffusion.from_folder(pack.component("latent_diffusion").locate(), device)
    segmenter = SceneSegmenter.from_folder(pack.component("scene_segmenter").locate(), device)
    judge = SceneJudge.from_folder(pack.component("scene_judge").locate(), device)
    report = Report("zestguide", seed=args.seed, path=args.json, append=args.append)
    common = {} if args.steps is None else {"num_steps": args.steps}
    steps = args.steps or pack.defaults["plain_sampling"]["num_steps"]
    report.provenance |= {"model": model.fingerprint, "steps": steps}
    frechet = distance_to_renders(judge) if args.parts != ["cost"] else None

    def run(name: str, values: Mapping[str, object], cases: Sequence[Case], setting: str) -> None:
        values = {**pack.defaults.get(name, {}), **common, **values}
        paint = renders if name == "render" else painter(model, segmenter, name, values)
        measure(report, name, paint, cases, setting, segmenter, judge, frechet)

    for part in args.parts:
        if part == "headline":
            headline(run, args.n, args.seed, args.settings, args.methods)
            claims(report)
        elif part == "ablations":
            ablations(run, args.n, args.seed, pack.defaults["zestguide"])
        else:
            cost(report, model, segmenter, pack, common, args.seed)


if __name__ == "__main__":
    main()
