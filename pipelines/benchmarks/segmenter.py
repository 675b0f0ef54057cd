"""How well the segmentation network reads held-out renders: mean IoU, and of every class.

python -m pipelines.benchmarks segmenter [--n 500] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.data.scenes import render, sample_scene
from pipelines.metrics.segmentation import MeanIoU
from pipelines.models.segmenter import SceneSegmenter, Segmenter
from pipelines.training.scene_data import HELD_OUT, SIZE_PX, class_indices
from pipelines.training.scene_segmenter import class_maps

BATCH = 25


def scenes(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return renders (B, 128, 128, 3) uint8 and their class maps (B, 128, 128)."""
    drawn = [sample_scene(i) for i in range(first, first + count)]
    renders = [render(scene, SIZE_PX) for scene in drawn]
    images = torch.from_numpy(np.stack([r.image for r in renders]))
    labels = torch.from_numpy(np.stack([r.labels for r in renders]))
    return images, class_maps(class_indices(drawn), labels)


@torch.no_grad()
def record_miou(
    report: Report,
    segmenter: Segmenter,
    rendered: Callable[[int, int], tuple[Tensor, Tensor]],
    n: int,
) -> None:
    """Record the mean IoU on n renders that no training saw, and the IoU of every class."""
    score = MeanIoU(1 + len(segmenter.classes))
    first = HELD_OUT + 500_000 * report.seed
    for start in range(first, first + n, BATCH):
        images, wanted = rendered(start, min(BATCH, first + n - start))
        pixels = images.to(segmenter.network.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        score.add(segmenter(pixels).argmax(1).cpu(), wanted)
    report.add("miou", report.benchmark, score.value(), n=n)
    for k, value in sorted(score.by_class().items(), key=lambda row: row[1]):
        report.add("iou", report.benchmark, value, setting=segmenter.classes[k - 1], n=n)


def main(argv: Sequence[str] | None = None) -> None:
    """Record how well toys are found."""
    from pipelines.devices import pick
    from pipelines.packs import find

    args = parser(__doc__, n=500).parse_args(argv)
    folder = find("toybox").component("scene_segmenter").locate()
    segmenter = SceneSegmenter.from_folder(folder, pick())
    report = Report("segmenter", seed=args.seed, path=args.json)
    record_miou(report, segmenter, scenes, args.n)


if __name__ == "__main__":
    main()
