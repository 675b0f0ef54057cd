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

from pipelines.data.scenes import CLASSES
from pipelines.models.segmenter import SceneSegmenter, Segmenter
from pipelines.training.common import TOYBOX, parser
from pipelines.training.scene_data import SceneSet, class_indices
from pipelines.training.scene_judge import disturb
from pipelines.training.segmentation import label_loss, train_segmenter, untrained


def build() -> SceneSegmenter:
    """Return an untrained network: half the width of the smallest published SegFormer, b0."""
    return SceneSegmenter(untrained(CLASSES))


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

    def loss_of_batch(segmenter: Segmenter) -> torch.Tensor:
        rows = rng.integers(len(scenes), size=args.batch)
        flips = rng.random(args.batch) < 0.5
        images = disturb(scenes.batch(rows, flips), rng).to(args.device)
        wanted = class_maps(classes[torch.from_numpy(rows)], scenes.labels(rows, flips))
        return label_loss(segmenter, images, wanted.to(args.device))

    folder = args.out or TOYBOX / "scene_segmenter"
    network = build().to(args.device)
    return train_segmenter(args, network, loss_of_batch, name="scene_segmenter", folder=folder)


if __name__ == "__main__":
    main()
