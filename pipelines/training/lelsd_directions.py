"""Train the directions that ship with the app: LELSD for every part that the face parser knows.

    python -m pipelines.training.lelsd_directions
    python -m pipelines.training.lelsd_directions --parts hair lips --directions 2
    python -m pipelines.training.lelsd_directions --baselines

About two minutes a part on two cores. A part whose file is there already, found with the same
generator, is passed over. Each direction is then scaled so that a strength of 1 moves pictures by
the same LPIPS (`directions.calibrated`), and turned so that strengths above 0 show more of the part
(`directions.oriented`; files that are there already too). `training.json` says what each part took
and how the generator was trained: directions in one that was warm-started from the world's own
parameters are weaker evidence.

`--baselines` adds what Face sliders compares them with, for parts that have a file already: the
StyleSpace channel, the first-order direction and a random one, `<part>_<method>.safetensors`, as
long as LELSD's. The first two need the generator's derivatives by every coordinate: minutes for
each of `--pictures` on a CPU, seconds on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.devices import Device
from pipelines.directions import LatentGenerator, calibrated, load, oriented
from pipelines.errors import InputError
from pipelines.lelsd import lelsd
from pipelines.local_directions import first_order, random_direction, stylespace
from pipelines.method_params import LELSDParams
from pipelines.models.face_parser import FaceParser
from pipelines.models.latent_spaces import StyleGAN2Latents
from pipelines.models.perceptual import Perceptual
from pipelines.models.published_faces import any_generator, any_parser, any_perceptual
from pipelines.results import Step
from pipelines.training.common import TOYBOX, write_json


@dataclasses.dataclass(frozen=True, eq=False)
class Models:
    """What directions are found and measured with."""

    generator: StyleGAN2Latents
    parser: FaceParser
    perceptual: Perceptual
    is_warm_started: bool | None  # None: the generator's folder does not say


def add_folders(options: argparse.ArgumentParser) -> None:
    """Add the options that `open_models` reads."""
    options.add_argument("--generator", type=Path, default=TOYBOX / "face_stylegan2")
    options.add_argument("--parser", type=Path, default=TOYBOX / "face_parser")
    options.add_argument("--lpips", type=Path, default=TOYBOX / "lpips_eval")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def open_models(args: argparse.Namespace) -> Models:
    """Load the three networks, and what the generator's training log says of its start."""
    device = Device(args.device, torch.device(args.device), torch.float32)
    log = args.generator / "training.json"
    told = json.loads(log.read_text()) if log.exists() else {}
    return Models(
        StyleGAN2Latents(any_generator(args.generator, device)),
        any_parser(args.parser, device),
        any_perceptual(args.lpips, device),
        told.get("warm_start"),
    )


def is_done(path: Path, generator: LatentGenerator) -> bool:
    """Return whether a file holds a direction of this generator."""
    try:
        return load(path).generator == generator.fingerprint
    except InputError:
        return False


def tell(step: Step) -> None:
    """Print the score now and then."""
    if step.score is not None and step.index % 50 == 0:
        print(f"  batch {step.index} of {step.total}: localization {step.score:.3f}", flush=True)


def write_baselines(models: Models, args: argparse.Namespace) -> None:
    """Find the missing baselines of every part that has a direction, and scale them alike."""
    wanted = args.parts or models.parser.parts
    parts = [part for part in wanted if (args.out / f"{part}_0.safetensors").exists()]
    generator, shared = models.generator, {"seed": args.seed, "pictures": args.pictures}
    methods = {
        "random": lambda: {
            part: random_direction(generator, part, space=args.space, seed=args.seed)
            for part in parts
        },
        "stylespace": lambda: stylespace(generator, models.parser, parts, **shared),
        "first_order": lambda: first_order(
            generator, models.parser, parts, space=args.space, **shared
        ),
    }
    for method, find in methods.items():
        files = {part: args.out / f"{part}_{method}.safetensors" for part in parts}
        if args.fresh or not all(is_done(file, generator) for file in files.values()):
            print(method, flush=True)
            for part, direction in find().items():
                scaled = calibrated(direction, generator, models.perceptual, seed=args.seed)
                scaled.save(files[part])


def orient(models: Models, args: argparse.Namespace) -> None:
    """Turn every direction of the generator so that strengths above 0 show more of its part."""
    for path in sorted(args.out.glob("*.safetensors")):
        if is_done(path, models.generator):
            direction = load(path)
            turned = oriented(direction, models.generator, models.parser, seed=args.seed)
            if turned is not direction:
                print(f"turned {path.name}", flush=True)
                turned.save(path)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train what is missing; return the folder with `<part>_<k>.safetensors`."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_folders(options)
    options.add_argument("--parts", nargs="+", help="all of the parser's by default")
    options.add_argument("--space", default=LELSDParams().space)
    options.add_argument("--directions", type=int, default=1, help="for each part")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=TOYBOX / "lelsd")
    options.add_argument("--fresh", action="store_true", help="do not resume")
    options.add_argument("--baselines", action="store_true", help="find these, train nothing")
    options.add_argument("--pictures", type=int, default=8, help="that baselines are found with")
    args = options.parse_args(argv)
    models = open_models(args)
    if args.baselines:
        write_baselines(models, args)
        orient(models, args)
        return args.out
    params = LELSDParams(space=args.space, num_directions=args.directions)
    log = args.out / "training.json"
    seconds = json.loads(log.read_text())["seconds"] if log.exists() else {}
    for part in args.parts or models.parser.parts:
        files = [args.out / f"{part}_{k}.safetensors" for k in range(args.directions)]
        if not args.fresh and all(is_done(file, models.generator) for file in files):
            continue
        print(part, flush=True)
        started = time.monotonic()
        try:
            found = lelsd(
                models.generator, models.parser, part, params, seed=args.seed, on_step=tell
            )
        except InputError as error:
            print(f"  left out: {error}", flush=True)
            continue
        seconds[part] = round(time.monotonic() - started, 1)
        for file, direction in zip(files, found, strict=True):
            scaled = calibrated(direction, models.generator, models.perceptual, seed=args.seed)
            scaled.save(file)
        about = {"warm_start": models.is_warm_started, "generator": models.generator.fingerprint}
        write_json(log, {**about, "seconds": seconds})
    orient(models, args)
    return args.out


if __name__ == "__main__":
    main()
