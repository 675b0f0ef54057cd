"""Train the segmentation network of toy scenes, which scores layouts.

    python -m pipelines.training.scene_segmenter --minutes 20

Sees scenes with noise and blur, as the judge does. Its own mean IoU on held-out renders is printed
by `python -m pipelines.benchmarks segmenter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipelines.data.scenes import CLASSES
from pipelines.models.segmenter import SceneSegmenter
from pipelines.training.common import TOYBOX, Average, Progress, parser, train, write_json
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_data import SceneSet, class_indices
from pipelines.training.scene_judge import disturb


def build() -> SceneSegmenter:
    """Return an untrained network: half the width of the smallest published SegFormer, b0."""
    names = dict(enumerate(("background", *CLASSES)))
    config = SegformerConfig(
        hidden_sizes=(24, 48, 96, 128),
        num_attention_heads=(1, 2, 4, 4),
        depths=(2, 2, 2, 2),
        sr_ratios=(4, 2, 1, 1),
        decoder_hidden_size=96,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    return SceneSegmenter(SegformerForSemanticSegmentation(config))


def class_maps(classes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the class of each pixel (B, H, W), 0 = background, k + 1 = CLASSES[k].

    `classes` (B, things) are class indices of the scene's things, `labels` its label map.
    """
    by_label = F.pad(classes + 1, (1, 0))  # label 0 is the background
    return by_label.gather(1, labels.flatten(1).long()).view(labels.shape)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the segmenter's pack entry; return its folder."""
    args = parser(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    scenes = SceneSet(args.work / "scenes")
    classes = class_indices(scenes.scenes)
    segmenter = build().to(args.device)
    average = Average(segmenter, 0.998)
    outer = "patch_embeddings", "classifier"
    optimizers = muon_and_adamw(segmenter.named_parameters(), 2e-3, outer)

    def loss_of_step(progress: Progress):
        rows = rng.integers(len(scenes), size=args.batch)
        flips = rng.random(args.batch) < 0.5
        images = disturb(scenes.batch(rows, flips), rng).to(args.device)
        wanted = class_maps(classes[torch.from_numpy(rows)], scenes.labels(rows, flips))
        logits = segmenter.network(images).logits  # a quarter of the size
        wanted = wanted.to(args.device)[:, 1::4, 1::4]
        loss = F.cross_entropy(logits, wanted)
        return loss, {"loss": loss.item()}

    progress = train(
        args,
        name="scene_segmenter",
        parts={"segmenter": segmenter, "average": average.module},
        optimizers=optimizers,
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(segmenter, p.step),
        decay_from=0.5,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    folder = args.out or TOYBOX / "scene_segmenter"
    average.module.network.half().save_pretrained(folder)
    write_json(folder / "training_log.json", progress.log)
    return folder


if __name__ == "__main__":
    main()
