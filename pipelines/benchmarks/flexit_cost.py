"""FlexIT's time: a step against the release's loop over crops, and edits of 32 and 160 steps.

`python -m pipelines.benchmarks flexit --parts cost` times both sides in turns, on the same weights
and one picture. The loop is the release's: its networks are the libraries' own, untouched, and
every crop is resized and goes through every network by itself. It is spared what could be: its
weights ask for no gradient, and turn and crop are one sampling there too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.benchmarks.diffedit import Batch
from pipelines.benchmarks.report import Report
from pipelines.flexit import DRAWS, augmented, flexit, target_points
from pipelines.method_params import FlexITParams
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.noise import seeded_uniform, sub_seed
from pipelines.packs import Pack
from pipelines.params import build

TIMED = 5
STEPS = 4
"""Of a timed run; the picture and texts are read anew in each."""
LIMITS = {32: 5.0, 160: 20.0}
"""Seconds that an edit of so many steps may take on two cores."""


def measure_cost(
    report: Report,
    pack: Pack,
    model: LatentDiffusion,
    further: Mapping[str, Any],
    batch: Batch,
    seed: int,
) -> None:
    """Record and claim both; `further` has FlexIT's `clips` and `perceptual`."""
    plain = plain_networks(pack, further["clips"])
    image, texts = batch.images[:1], (batch.source[:1], batch.target[:1])

    def edit(params: FlexITParams) -> None:
        flexit(model, image, *texts, params, seeds=[seed], **further)

    def loop(params: FlexITParams) -> None:
        crop_by_crop(model, plain, further, image, *texts, params, seed)

    report.provenance["threads"] = torch.get_num_threads()
    for d in (1, 8):
        times = seconds_per_step((edit, loop), d)
        for name, seconds in zip(("flexit", "loop"), times, strict=True):
            report.add("seconds_per_step", name, seconds, setting=f"d = {d}", n=TIMED)
        ratio = times[0] / times[1]
        report.add("ratio_to_loop", "flexit", ratio, setting=f"d = {d}", n=TIMED)
    report.claim(
        "a step takes at most half of the time of a loop over crops (d = 8)",
        ratio <= 0.5,
        f"{times[0]:.3f} s against {times[1]:.3f} s",
    )
    for steps, limit in LIMITS.items():
        spent = seconds_of(edit, build(FlexITParams, {"num_steps": steps}))
        report.add("seconds", "flexit", spent, setting=f"{steps} steps")
        report.claim(
            f"an edit of {steps} steps takes at most {limit:g} s on two cores",
            spent <= limit,
            f"{spent:.1f} s with {torch.get_num_threads()} threads",
        )


def seconds_per_step(variants: Sequence[Callable[[FlexITParams], None]], d: int) -> list[float]:
    """Return the median seconds per step of variants that run in turns, d augmentations."""
    params = build(FlexITParams, {"augmentations": d, "num_steps": STEPS, "snapshot_every": 0})
    rounds = [[seconds_of(run, params) for run in variants] for _ in range(TIMED + 1)]
    return [median(row[1:]) / STEPS for row in zip(*rounds, strict=True)]  # the first warms up


def seconds_of(run: Callable[[FlexITParams], None], params: FlexITParams) -> float:
    """Return how long a run takes."""
    started = time.perf_counter()
    run(params)
    return time.perf_counter() - started


def plain_networks(pack: Pack, roles: Mapping[str, object]) -> dict[str, open_clip.CLIP]:
    """Return the CLIPs of a pack as open_clip opens their folders."""
    folders = {role: pack.component(role).locate() for role in roles}
    return {
        role: open_clip.create_model(f"local-dir:{folder}", precision="fp32")
        .eval()
        .requires_grad_(False)
        for role, folder in folders.items()
    }


@torch.no_grad()
def crop_by_crop(
    model: LatentDiffusion,
    plain: Mapping[str, open_clip.CLIP],
    further: Mapping[str, Any],
    image: Tensor,
    source: list[str],
    target: list[str],
    params: FlexITParams,
    seed: int,
) -> Tensor:
    """Return latents of one picture, optimised as the release does: every crop on its own."""
    clips, lpips = further["clips"], further["perceptual"].network
    latents0 = model.encode_images(image)
    points = target_points(clips, image, source, target, params)
    latents = latents0
    for step in range(params.num_steps + 1):
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            decoded = model.decode_latents(leaf)
            products = []
            for name, clip in clips.items():
                stream = sub_seed(seed, "augmentation", step, name)
                draws = seeded_uniform((params.augmentations, DRAWS), [stream], image)
                crops = [augmented(clip.preprocess(decoded), one) for one in draws.split(1, 1)]
                embeds = [F.normalize(plain[name].encode_image(crop), dim=-1) for crop in crops]
                products.append((sum(embeds) / len(embeds) * points[name]).sum())
            moved = (leaf - latents0).norm(dim=1).sum() / latents0.norm(dim=1).sum()
            loss = -sum(products) / len(products) + params.latent_weight * moved
            loss = loss + params.perceptual_weight * lpips(decoded, image).sum()
        if step == params.num_steps:
            break
        (gradient,) = torch.autograd.grad(loss, leaf)
        latents = latents - params.learning_rate * latents0.norm() * gradient / gradient.norm()
    return latents
