"""Write the tables of README and of the model cards from the records in assets/results.

    python -m pipelines.benchmarks tables

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. A test runs this and fails
where a file drifts from the records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "assets" / "results"
Records = list[dict[str, Any]]


def read(name: str, results: Path = RESULTS) -> Records:
    """Return the records of one benchmark, an empty list where it has not been run."""
    path = results / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measurements(records: Records, names: Sequence[str] | None = None) -> str:
    """Return the measured values as a table, those of `names` or all."""
    rows = [
        f"| {r['metric']} | {r['method']} | {r['setting']} | {value_of(r)} | {r['n']} |"
        for r in records
        if "metric" in r and (names is None or r["metric"] in names)
    ]
    head = "| metric | method | setting | value (± standard error) | n |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def value_of(record: dict[str, Any]) -> str:
    """Return value and spread with three digits after the point."""
    spread = "" if record["spread"] is None else f" ± {record['spread']:.3f}"
    return f"{record['value']:.3f}{spread}"


def claims(records: Records) -> str:
    """Return the claims as a table."""
    rows = [
        f"| {r['claim']} | {'yes' if r['holds'] else '**no**'} | {r['evidence']} |"
        for r in records
        if "claim" in r
    ]
    return "\n".join(["| claim | holds here | evidence |", "|---|---|---|", *rows])


def origin(name: str, records: Records) -> str:
    """Return the sentence that says where the numbers come from."""
    if not records:
        return f"`{name}` has not been run yet."
    first = records[0]
    parts = [f"seed {next(r['seed'] for r in records if 'seed' in r)}"]
    parts += [
        f"{key} {first[key]}" for key in ("steps", "model", "generator", "commit") if key in first
    ]
    command = COMMANDS.get(name, name)
    return f"From `python -m pipelines.benchmarks {command}` ({', '.join(parts)})."


BENCHMARKS = {
    "diffedit": "DiffEdit",
    "flexit": "FlexIT",
    "zestguide": "Segmentation to image",
    "simat": "Retrieval",
    "clip2gan": "CLIP2GAN",
    "lelsd": "LELSD",
    "sliders": "Face sliders",
    "latency": "Speed",
    "photo": "Published sizes",
    "page": "The page",
    "faithfulness": "The scene model and its judge",
    "masks": "Choosing the refined mask",
    "segmenter": "The segmentation network",
    "face_parser": "The face parser",
    "face_judges": "The judges of faces",
    "clip": "The CLIPs",
    "clip_faces": "The CLIP of faces",
    "perceptual": "The perceptual distances",
    "retrieval": "The retrieval index",
    "renderer": "The renderer",
    "solvers": "The fast solver",
}
"""What is reported, in this order, under which title."""
COMMANDS = {"clip_faces": "clip --world faces", "photo": "photo --steps 2 --no-warm-up"}
"""The command whose records are in a file, where it is not the file's name."""


def overview(results: Path = RESULTS) -> str:
    """Return README's results: every claim and whether it holds."""
    parts = []
    for name, title in BENCHMARKS.items():
        records = read(name, results)
        if any("claim" in record for record in records):
            parts += [f"### {title}", origin(name, records), claims(records)]
    missing = [f"`{name}`" for name in BENCHMARKS if not read(name, results)]
    parts += [f"Not run yet: {', '.join(missing)}."] if missing else []
    return "\n\n".join(parts)


def everything(results: Path = RESULTS) -> str:
    """Return every number of every benchmark."""
    parts = []
    for name, title in BENCHMARKS.items():
        if records := read(name, results):
            parts += [f"## {title}", origin(name, records), measurements(records)]
    return "\n\n".join(parts)


def card(benchmark: str, method: str, results: Path = RESULTS, *, setting: str = ".*") -> str:
    """Return the numbers of a model card: what a benchmark says of methods.

    Args:
        method: names, separated by spaces.
        setting: a regular expression of the whole setting.
    """
    records = read(benchmark, results)
    chosen = [
        r
        for r in records
        if r.get("method") in method.split() and re.fullmatch(setting, r["setting"])
    ]
    return f"{origin(benchmark, records)}\n\n{measurements(chosen)}"


def training(folder: str) -> str:
    """Return the curve of a model's training from its log, a dozen rows of it."""
    told = ROOT / folder / "training.json"
    alone = ROOT / folder / "training_log.json"
    log = json.loads(told.read_text())["log"] if told.exists() else json.loads(alone.read_text())
    rows = log[:: max(1, len(log) // 12)]
    rows += [] if rows and rows[-1] is log[-1] else log[-1:]
    names = [name for name in log[-1] if name not in ("step", "rate")] if log else []
    lines = [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in rows]
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines])


TOYS = "assets/toybox"
SCENES = "autoencoder scene_model"
CLIPS = "clip_vit", "clip_resnet", "clip_resnet_large"
FACES: dict[str, Callable[[], str]] = {
    "clip_faces": partial(card, "clip_faces", "clip_faces"),
    "face_stylegan2": partial(
        card, "clip2gan", "random render", setting="ignores the text|the truth"
    ),
    "face_inversion": partial(
        card, "clip2gan", "edit copy", setting="published, inverted, beta 0|the source"
    ),
    "latent_mapper": partial(
        card, "clip2gan", "generate render random", setting="noise .*|the truth|ignores the text"
    ),
    "caption_mapper": partial(
        card, "clip2gan", "generate render edit", setting="captions, .*|the truth"
    ),
    "face_parser": partial(card, "face_parser", "face_parser"),
    "face_judge": partial(card, "face_judges", "face_judge"),
    "face_identity": partial(card, "face_judges", "face_identity"),
    "face_identity_eval": partial(card, "face_judges", "face_identity_eval"),
    "lelsd": partial(
        card, "lelsd", "lelsd stylespace first_order random", setting="mean of parts, .*"
    ),
}

TABLES: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("README.md", "results", overview),
    ("assets/results/README.md", "results", everything),
    (f"{TOYS}/scenes/README.md", "numbers", lambda: card("faithfulness", SCENES)),
    (f"{TOYS}/scenes/README.md", "training", lambda: training(f"{TOYS}/scenes")),
    (f"{TOYS}/scene_judge/README.md", "numbers", lambda: card("faithfulness", "render")),
    (f"{TOYS}/scene_segmenter/README.md", "numbers", lambda: card("segmenter", "segmenter")),
    (f"{TOYS}/scene_segmenter/README.md", "training", lambda: training(f"{TOYS}/scene_segmenter")),
    *((f"{TOYS}/{clip}/README.md", "numbers", partial(card, "clip", clip)) for clip in CLIPS),
    *(
        (f"{TOYS}/{clip}/README.md", "training", partial(training, f"{TOYS}/{clip}"))
        for clip in CLIPS
    ),
    *(
        (
            f"{TOYS}/{net}/README.md",
            "numbers",
            partial(card, "perceptual", f"{net} {net}_uniform l2"),
        )
        for net in ("lpips_loss", "lpips_eval")
    ),
    *((f"{TOYS}/{name}/README.md", "numbers", table) for name, table in FACES.items()),
    *(
        (f"{TOYS}/{name}/README.md", "training", partial(training, f"{TOYS}/{name}"))
        for name in FACES
        if name != "lelsd"
    ),
)


def filled(text: str, name: str, table: str) -> str:
    """Return `text` with the table called `name` replaced.

    Raises:
        ValueError: the text has no such place, or several.
    """
    pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text)
    if count != 1:
        raise ValueError(f"need one place for the table {name!r}, found {count}")
    return replaced


def main(argv: Sequence[str] | None = None) -> None:
    """Rewrite every table."""
    for file, name, table in TABLES:
        path = ROOT / file
        path.write_text(filled(path.read_text(), name, table()))
        print(f"wrote {name} in {file}")


if __name__ == "__main__":
    main()
