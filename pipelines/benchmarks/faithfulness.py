"""Does the scene model paint what a caption says, and how far can the judge be believed.

    python -m pipelines.benchmarks faithfulness --n 500 --sheet samples.png

Held-out canonical captions, one sample each, the pack's default guidance. `class_colour_accuracy`
counts every named thing; `two_object_accuracy` captions with two things, both right. The method
`render` is the judge on true renders: the ceiling. `psnr_db` is the autoencoder's, by picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.data.captions import caption, parse
from pipelines.data.scenes import Scene, render, sample_scene
from pipelines.diffusion.guidance import classifier_free
from pipelines.diffusion.solvers import SOLVERS
from pipelines.images import to_pil
from pipelines.metrics.scene_accuracy import place, things_right
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_noise
from pipelines.training.scene_data import HELD_OUT

BATCH = 25


def held_out_scenes(n: int, seed: int) -> list[Scene]:
    """Return n scenes that no training run has seen."""
    return [sample_scene(HELD_OUT + 1_000_000 * seed + i) for i in range(n)]


def rendered(scenes: Sequence[Scene]) -> Tensor:
    """Return the renders (B, 3, 128, 128) in [-1, 1]."""
    arrays = [torch.from_numpy(render(scene).image) for scene in scenes]
    return torch.stack(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def sampled(
    model: LatentDiffusion,
    captions: Sequence[str],
    seeds: Sequence[int],
    *,
    guidance_scale: float,
    num_steps: int,
    solver: str,
) -> Tensor:
    """Return pictures (B, 3, S, S) in [-1, 1] of captions, sampled from noise of the seeds."""
    like = torch.empty((), device=model.device)
    latents = seeded_noise(model.latent_shape, seeds, like)
    denoise = classifier_free(
        model.eps, model.embed_text(captions), model.embed_text([""]), guidance_scale
    )
    grid = model.schedule.grid(num_steps)
    return model.decode_latents(SOLVERS[solver][1](denoise, latents, grid, model.schedule))


@torch.no_grad()
def score(
    report: Report,
    method: str,
    judge: SceneJudge,
    captions: Sequence[str],
    pictures: Callable[[slice], Tensor],
    setting: str = "",
) -> None:
    """Judge the pictures of all captions, made batch by batch, and record the accuracies."""
    things: list[float] = []
    places: list[float] = []
    by_count: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for first in range(0, len(captions), BATCH):
        part = slice(first, min(first + BATCH, len(captions)))
        verdict = judge(pictures(part))
        right = things_right(judge, verdict, captions[part])
        for i, answers in enumerate(right):
            parsed = parse(captions[part][i])
            things += [float(answer) for answer in answers]
            by_count[len(answers)].append(float(all(answers)))
            places.append(float(place(judge, verdict, i) == parsed.place))
    report.add("class_colour_accuracy", method, things, setting=setting)
    report.add("place_accuracy", method, places, setting=setting)
    for count, name in ((1, "one"), (2, "two"), (3, "three")):
        if by_count[count]:
            report.add(f"{name}_object_accuracy", method, by_count[count], setting=setting)


@torch.no_grad()
def reconstruction_psnr(model: LatentDiffusion, scenes: Sequence[Scene]) -> list[float]:
    """Return the peak signal-to-noise ratio in dB of every scene through the autoencoder."""
    values: list[float] = []
    for first in range(0, len(scenes), BATCH):
        images = rendered(scenes[first : first + BATCH])
        error = model.decode_latents(model.encode_images(images)) - images
        values += (10 * (4 / error.square().mean((1, 2, 3))).log10()).tolist()
    return values


def sheet(pictures: Tensor, columns: int, path: Path) -> None:
    """Write pictures (B, 3, S, S) as one contact sheet."""
    size = pictures.shape[-1]
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * size, rows * size))
    for i, picture in enumerate(to_pil(pictures)):
        whole.paste(picture, (i % columns * size, i // columns * size))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the records and the sheet that were asked for."""
    from pipelines.devices import pick
    from pipelines.packs import find

    options = parser(__doc__, n=500)
    options.add_argument("--guidance", type=float, nargs="+", default=[3.0])
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--solver", default="ddim", choices=list(SOLVERS))
    options.add_argument(
        "--sheet", type=Path, help="write 48 samples here, pairs of reconstructions beside it"
    )
    args = options.parse_args(argv)
    pack, device = find("toybox"), pick()
    model = LatentDiffusion.from_folder(pack.component("latent_diffusion").locate(), device)
    judge = SceneJudge.from_folder(pack.component("scene_judge").locate(), device)
    report = Report("faithfulness", seed=args.seed, path=args.json)
    report.provenance["model"] = model.fingerprint
    scenes = held_out_scenes(args.n, args.seed)
    captions = [caption(scene) for scene in scenes]
    score(report, "render", judge, captions, lambda part: rendered(scenes[part]))
    report.add("psnr_db", "autoencoder", reconstruction_psnr(model, scenes))
    if args.sheet:
        originals = rendered(scenes[:16])
        with torch.no_grad():
            decoded = model.decode_latents(model.encode_images(originals))
        pairs = torch.cat([originals[:8], decoded[:8], originals[8:], decoded[8:]])
        sheet(pairs, 8, args.sheet.with_name("reconstructions.png"))
    for guidance in args.guidance:
        kept: list[Tensor] = []

        def pictures(part: slice, scale: float = guidance, kept: list[Tensor] = kept) -> Tensor:
            seeds = list(range(args.n))[part]
            settings = {"guidance_scale": scale, "num_steps": args.steps, "solver": args.solver}
            kept.append(sampled(model, captions[part], seeds, **settings))
            return kept[-1]

        setting = f"guidance {guidance:g}, {args.steps} {args.solver} steps"
        score(report, "scene_model", judge, captions, pictures, setting)
        if args.sheet and guidance == args.guidance[0]:
            sheet(torch.cat(kept)[:48], 8, args.sheet)


if __name__ == "__main__":
    main()
