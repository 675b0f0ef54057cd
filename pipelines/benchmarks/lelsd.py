"""Do directions change their part and nothing else? LELSD and its baselines at equal LPIPS.

    python -m pipelines.benchmarks lelsd --n 16 --json assets/results/lelsd.jsonl

Every direction moves the same held-out faces that show the part, half of them forwards and half
backwards, as far as LPIPS 0.1, 0.2 and 0.3 (Pajouheshgar et al. 2022, sec. 4.2). Metrics:

    localization_score  eq. 2, the mean over layers and the picture, masks averaged
    leakage             part of the squared change of the pixels outside the part, before and after
    reached             part of the faces that the direction can move that far
    seconds             to train one LELSD direction
    similarity          |cosine| of two directions for one part, found together

Directions are those of `--directions`, found now where they are missing. First-order
directions live in LELSD's own space, StyleSpace's channels in S. `--judge` names a second face
parser that no direction was found with: without it the masks that judge are the searched one's.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.devices import Device
from pipelines.directions import Codes, Direction, PartParser, apply, check, load, lpips_strengths
from pipelines.lelsd import lelsd
from pipelines.local_directions import first_order, random_direction, stylespace
from pipelines.method_params import LELSDParams
from pipelines.metrics.localization import combined, leakage, localization_scores
from pipelines.models.face_parser import FaceParser
from pipelines.noise import sub_seed
from pipelines.training.common import TOYBOX
from pipelines.training.lelsd_directions import Models, add_folders, open_models

TARGETS = (0.1, 0.2, 0.3)
BASELINES = ("stylespace", "first_order", "random")
PATIENCE = 40  # faces drawn for one that shows the part
TRAINING_LIMIT_S = 120
ALIKE = 0.3  # |cosine| above which two directions are one
ROBUST = 0.05
LAST = 20  # batches whose score is what a training ended with

Scores = dict[tuple[str, str, float], float]  # (method, part, LPIPS) -> localization score


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the parser: the common options, the networks, and what is compared."""
    more = parser(description, n=16)
    add_folders(more)
    more.add_argument("--judge", type=Path, help="folder of a parser used for scoring only")
    more.add_argument("--directions", type=Path, default=TOYBOX / "lelsd")
    more.add_argument("--parts", nargs="+", help="all of the parser's by default")
    more.add_argument("--space", default=LELSDParams().space, choices=("w", "w+", "s"))
    switch = argparse.BooleanOptionalAction
    more.add_argument("--trainings", action=switch, default=True, help="vary training, K too")
    more.add_argument("--pictures", type=int, default=8, help="that baselines are found with")
    return more


def faces_with(
    models: Models, judge: PartParser, part: str, count: int, seed: int
) -> Tensor | None:
    """Return codes in W+ (n, L, w_dim) of fresh faces that show a part; None where none does."""
    kept: list[Tensor] = []
    for i in range(count * PATIENCE):
        codes = models.generator.draw("w+", [sub_seed(seed, "face", part, i)])
        if judge.part_masks(models.generator.features("w+", codes)[0], part).any():
            kept.append(torch.stack(list(codes), 1))
        if len(kept) == count:
            break
    return torch.cat(kept) if kept else None


def stored(args: argparse.Namespace, models: Models, file: str) -> Direction | None:
    """Return a direction of the folder; None where it is not there."""
    path = args.directions / f"{file}.safetensors"
    if not path.exists():
        return None
    direction = load(path)
    check(direction, models.generator)
    return direction


def found_by(
    args: argparse.Namespace, models: Models, parts: Sequence[str], method: str
) -> Mapping[str, Direction]:
    """Return a direction for each part: the stored ones, or all found now where one is missing."""
    index = "0" if method == "lelsd" else method
    known = {part: stored(args, models, f"{part}_{index}") for part in parts}
    if all(known.values()):
        return {part: direction for part, direction in known.items() if direction is not None}
    generator, shared = models.generator, {"seed": args.seed, "pictures": args.pictures}
    if method == "stylespace":
        return stylespace(generator, models.parser, parts, **shared)
    if method == "first_order":
        return first_order(generator, models.parser, parts, space=args.space, **shared)
    if method == "random":
        seed = args.seed
        return {p: random_direction(generator, p, space=args.space, seed=seed) for p in parts}
    params = LELSDParams(space=args.space)
    return {
        part: known[part] or lelsd(generator, models.parser, part, params, seed=args.seed)[0]
        for part in parts
    }


def measure(
    models: Models, judge: PartParser, direction: Direction, w_plus: Tensor, target: float
) -> tuple[list[float], list[float]]:
    """Return score and leakage of every face that the direction moves as far as `target`."""
    generator = models.generator
    codes: Codes = generator.codes_of(direction.space, w_plus)
    signs = torch.ones(len(w_plus), device=w_plus.device)
    signs[1::2] = -1
    strengths = lpips_strengths(direction, generator, models.perceptual, codes, target, signs)
    reached = ~strengths.isnan()
    if not reached.any():
        return [], []
    codes = tuple(code[reached] for code in codes)
    images, features = generator.features(direction.space, codes)
    moved = apply(direction, codes, strengths[reached])
    edited_images, edited = generator.features(direction.space, moved)
    masks = [judge.part_masks(side, direction.part) for side in (images, edited_images)]
    scores = localization_scores(
        [*features, images], [*edited, edited_images], combined(*masks, "average")
    )
    leaks = leakage(images, edited_images, combined(*masks, "union"))
    return scores.mean(0).tolist(), leaks.tolist()


def compare(
    report: Report,
    models: Models,
    judge: PartParser,
    directions: Mapping[str, Mapping[str, Direction]],
    faces: Mapping[str, Tensor],
) -> tuple[Scores, Scores]:
    """Record every method on every part at every distance; return scores and leakages."""
    scores: Scores = {}
    leaks: Scores = {}
    for method, target in itertools.product(directions, TARGETS):
        every: tuple[list[float], list[float], list[float]] = ([], [], [])
        for part, w_plus in faces.items():
            score, leak = measure(models, judge, directions[method][part], w_plus, target)
            setting = f"{part}, LPIPS {target}"
            every[2].append(len(score) / len(w_plus))
            if score:
                scores[method, part, target] = report.add(
                    "localization_score", method, score, setting=setting
                )
                leaks[method, part, target] = report.add("leakage", method, leak, setting=setting)
                every[0].append(statistics.fmean(score))
                every[1].append(statistics.fmean(leak))
        names = ("localization_score", "leakage", "reached")
        for name, values in zip(names, every, strict=True):
            if values:
                report.add(name, method, values, setting=f"mean of parts, LPIPS {target}")
    return scores, leaks


def claims(report: Report, scores: Scores, leaks: Scores, start: str) -> None:
    """Record whether LELSD is more local than its baselines, and where the gap is widest."""
    gaps: dict[float, list[float]] = {target: [] for target in TARGETS}
    for metric, values, sign in (("localization", scores, 1), ("leakage", leaks, -1)):
        for method in BASELINES:
            pairs = [
                (part, target, sign * (values["lelsd", part, target] - theirs))
                for (name, part, target), theirs in values.items()
                if name == method and ("lelsd", part, target) in values
            ]
            if not pairs:
                continue
            worse = [f"{part} at {target}" for part, target, gain in pairs if gain <= 0]
            gain = statistics.fmean(gain for _, _, gain in pairs)
            report.claim(
                f"LELSD has the better {metric} than {method} on every part at equal LPIPS",
                not worse,
                f"better by {gain:.3f} on average, on {len(pairs) - len(worse)} of {len(pairs)}"
                + (f"; not on {', '.join(worse)}" if worse else "")
                + f"; generator {start}",
            )
            if metric == "localization" and method != "random":
                for _, target, gain in pairs:
                    gaps[target].append(gain)
    means = [statistics.fmean(gaps[target]) for target in TARGETS if gaps[target]]
    if len(means) > 1:
        report.claim(
            "First-order methods fall further behind as edits grow",
            means[-1] > means[0],
            f"gap of the localization score at LPIPS {TARGETS[0]} and up: "
            + ", ".join(f"{mean:.3f}" for mean in means),
        )


def trainings(
    report: Report, args: argparse.Namespace, models: Models, part: str, w_plus: Tensor
) -> None:
    """Train a direction with each way of joining masks; record seconds and what that changes."""
    reached: dict[str, float] = {}
    seconds: list[float] = []
    for mask in ("average", "union", "intersection"):
        params = LELSDParams(space=args.space, mask=mask)
        started = time.monotonic()
        (one,) = lelsd(models.generator, models.parser, part, params, seed=args.seed)
        seconds.append(time.monotonic() - started)
        score, _ = measure(models, models.parser, one, w_plus, TARGETS[0])
        if score:
            setting = f"{part}, masks: {mask}, LPIPS {TARGETS[0]}"
            reached[mask] = report.add("localization_score", "lelsd", score, setting=setting)
    report.add("seconds", "lelsd", seconds, setting=f"{part}, {args.device}")
    report.claim(
        f"A direction is trained in {TRAINING_LIMIT_S} s or less",
        max(seconds) <= TRAINING_LIMIT_S,
        f"{max(seconds):.0f} s, the longest of {len(seconds)} trainings",
    )
    if len(reached) > 1:
        report.claim(
            "How masks become one hardly matters",
            max(reached.values()) - min(reached.values()) < ROBUST,
            "localization " + ", ".join(f"{mask} {score:.3f}" for mask, score in reached.items()),
        )


def distinctness(report: Report, args: argparse.Namespace, models: Models, part: str) -> None:
    """Train two directions for one part together and record how alike they are."""
    params = LELSDParams(space=args.space, num_directions=2)
    pair = lelsd(models.generator, models.parser, part, params, seed=args.seed)
    layers = zip(pair[0].vectors, pair[1].vectors, strict=True)
    cosines = [torch.cosine_similarity(u, v, 0).abs().item() for u, v in layers]
    similarity = report.add("similarity", "lelsd", cosines, setting=f"{part}, 2 directions")
    ends = (statistics.fmean(direction.scores[-LAST:]) for direction in pair)
    report.claim(
        "Two directions for one part are distinct",
        similarity < ALIKE,
        f"mean |cosine| over layers {similarity:.3f}, localization in training "
        + " and ".join(f"{end:.3f}" for end in ends),
    )


def start_of(models: Models) -> str:
    """Return how the generator was trained, in words that follow its name."""
    if models.is_warm_started is None:
        return "trained in a way that its folder does not tell"
    if models.is_warm_started:
        return "warm-started from known parameters, so weaker evidence"
    return "trained as a plain GAN"


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Compare the methods, then time and vary LELSD's training."""
    args = options(__doc__).parse_args(argv)
    models = open_models(args)
    judge: PartParser = models.parser
    if args.judge is not None:
        device = Device(args.device, torch.device(args.device), torch.float32)
        judge = FaceParser.from_folder(args.judge, device)
    report = Report("lelsd", seed=args.seed, path=args.json)
    report.provenance["generator"] = start_of(models)
    print(f"generator {start_of(models)}", flush=True)
    wanted = args.parts or models.parser.parts
    found = {part: faces_with(models, judge, part, args.n, args.seed + 1) for part in wanted}
    faces = {part: w_plus for part, w_plus in found.items() if w_plus is not None}
    for part in found.keys() - faces.keys():
        print(f"left out, on none of {args.n * PATIENCE} faces: {part}", flush=True)
    parts = tuple(faces)
    methods = "lelsd", *BASELINES
    directions = {method: found_by(args, models, parts, method) for method in methods}
    scores, leaks = compare(report, models, judge, directions, faces)
    claims(report, scores, leaks, start_of(models))
    if args.trainings:
        trainings(report, args, models, parts[0], faces[parts[0]])
        distinctness(report, args, models, parts[0])


if __name__ == "__main__":
    main()
