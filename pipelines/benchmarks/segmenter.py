"""How well the segmentation network reads held-out renders: mean IoU, and of every class.

python -m pipelines.benchmarks segmenter [--n 500] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipelines.benchmarks.report import Report, parser
from pipelines.data.scenes import CLASSES, render, sample_scene
from pipelines.metrics.segmentation import MeanIoU
from pipelines.models.segmenter import SceneSegmenter
from pipelines.training.scene_data import HELD_OUT, SIZE_PX, class_indices
from pipelines.training.scene_segmenter import class_maps

BATCH = 25


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Record the mean IoU on renders that no training saw."""
    from pipelines.devices import pick
    from pipelines.packs import find

    args = parser(__doc__, n=500).parse_args(argv)
    folder = find("toybox").component("scene_segmenter").locate()
    segmenter = SceneSegmenter.from_folder(folder, pick())
    report = Report("segmenter", seed=args.seed, path=args.json)
    score = MeanIoU(1 + len(CLASSES))
    first = HELD_OUT + 500_000 * args.seed
    for start in range(first, first + args.n, BATCH):
        scenes = [sample_scene(i) for i in range(start, min(start + BATCH, first + args.n))]
        renders = [render(scene, SIZE_PX) for scene in scenes]
        images = torch.from_numpy(np.stack([r.image for r in renders])).permute(0, 3, 1, 2)
        labels = torch.from_numpy(np.stack([r.labels for r in renders]))
        seen = segmenter(images.float() / 127.5 - 1).argmax(1)
        score.add(seen, class_maps(class_indices(scenes), labels))
    report.add("miou", "segmenter", score.value(), n=args.n)
    for k, value in sorted(score.by_class().items(), key=lambda row: row[1]):
        report.add("iou", "segmenter", value, setting=CLASSES[k - 1], n=args.n)


if __name__ == "__main__":
    main()
