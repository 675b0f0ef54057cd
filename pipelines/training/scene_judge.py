"""Train the judge of toy scenes, which measures faithfulness and edit success.

    python -m pipelines.training.scene_judge --minutes 10

Sees scenes with noise and blur, so that it judges decoded pictures as it judges renders, and is
told where each class is, which it learns from faster than from names alone. Its own score on
held-out renders is printed by `python -m pipelines.benchmarks faithfulness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.scenes import CLASSES, COLOURS, PLACES, Scene
from pipelines.models.judge import SceneJudge, Verdict
from pipelines.training.common import TOYBOX, Average, Progress, parser, train, write_json
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_data import SceneSet, class_indices, thing_parts

IGNORED = -100


def targets(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return presence (N, K) float, colour (N, K) index (or IGNORED) and place (N,) index.

    Where two things share a class, its colour is left out.
    """
    presence = torch.zeros(len(scenes), len(CLASSES))
    colour = torch.full((len(scenes), len(CLASSES)), IGNORED)
    place = torch.tensor([PLACES.index(scene.place) for scene in scenes])
    for i, scene in enumerate(scenes):
        names = [thing.class_name for thing in scene.things]
        for thing in scene.things:
            k = CLASSES.index(thing.class_name)
            presence[i, k] = 1
            if names.count(thing.class_name) == 1:
                named = thing.colour is not None
                colour[i, k] = COLOURS.index(thing.colour) if named else len(COLOURS)
    return presence, colour, place


def class_masks(classes: Tensor, labels: Tensor) -> Tensor:
    """Return what part of each 8-pixel cell shows each class, (B, K, H / 8, W / 8) in [0, 1].

    `classes` (B, MOST_THINGS) names the class of every thing by its index, -1 for none; `labels`
    (B, H, W) are the label maps.
    """
    named = F.one_hot(classes + 1, len(CLASSES) + 1)[..., 1:].float()  # (B, things, K)
    return torch.einsum("btk,bthw->bkhw", named, thing_parts(labels)).clamp_(max=1)


def judge_loss(
    verdict: Verdict, presence: Tensor, colour: Tensor, place: Tensor, masks: Tensor
) -> Tensor:
    """Return the summed losses of the four questions."""
    shown = F.binary_cross_entropy_with_logits(verdict.maps, masks)
    seen = F.binary_cross_entropy_with_logits(verdict.presence, presence)
    coloured = F.cross_entropy(verdict.colour.flatten(0, 1), colour.flatten(), ignore_index=IGNORED)
    return 10 * seen + 10 * shown + coloured + 0.3 * F.cross_entropy(verdict.place, place)


def disturb(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the images with noise, and blurred three times in ten."""
    images = images + torch.randn_like(images) * 0.05 * rng.random()
    if rng.random() < 0.3:
        images = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    return images


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the judge's pack entry; return its folder."""
    args = parser(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    scenes = SceneSet(args.work / "scenes")
    answers = targets(scenes.scenes)
    classes = class_indices(scenes.scenes)
    config = {"classes": list(CLASSES), "colours": list(COLOURS), "places": list(PLACES)}
    judge = SceneJudge(**config).to(args.device, memory_format=torch.channels_last)
    average = Average(judge, 0.998)
    outer = "class_embedding", "maps", "place"
    optimizers = muon_and_adamw(judge.named_parameters(), 2e-3, outer)

    def loss_of_step(progress: Progress):
        rows = rng.integers(len(scenes), size=args.batch)
        flips = rng.random(args.batch) < 0.5
        images = scenes.batch(rows, flips)
        masks = class_masks(classes[torch.from_numpy(rows)], scenes.labels(rows, flips))
        images = images.to(args.device, memory_format=torch.channels_last)
        expected = [answer[torch.from_numpy(rows)].to(args.device) for answer in answers]
        loss = judge_loss(judge(disturb(images, rng)), *expected, masks.to(args.device))
        return loss, {"loss": loss.item()}

    progress = train(
        args,
        name="scene_judge",
        parts={"judge": judge, "average": average.module},
        optimizers=optimizers,
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(judge, p.step),
        decay_from=0.4,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    folder = args.out or TOYBOX / "scene_judge"
    write_json(folder / "config.json", config)
    weights = {k: v.contiguous() for k, v in average.module.cpu().state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
