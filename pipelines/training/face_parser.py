"""Train the face parser, which tells LELSD where the parts of a clay face are.

    python -m pipelines.training.face_parser --minutes 30

Sees faces with noise and blur, so that it parses generated pictures as it parses renders, and
mirrored half of the time. Its logits have twice the published resolution: brows and earrings are
two or three pixels high. `python -m pipelines.benchmarks face_parser` prints its mean IoU on
held-out renders. Train a second one (`--seed 1 --out FOLDER`) to judge directions with masks that
took no part in finding them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.data.faces import PARTS
from pipelines.models.face_parser import FaceParser
from pipelines.models.segmenter import Segmenter
from pipelines.training.common import TOYBOX, parser
from pipelines.training.face_data import FaceSet
from pipelines.training.scene_judge import disturb
from pipelines.training.segmentation import label_loss, train_segmenter, untrained

STRIDE = 2


def build() -> FaceParser:
    """Return an untrained parser of every part of the faces but the background."""
    return FaceParser(untrained(PARTS[1:], stride=STRIDE))


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the parser's pack entry; return its folder."""
    args = parser(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    faces = FaceSet(args.work / "faces")

    def loss_of_batch(segmenter: Segmenter) -> torch.Tensor:
        rows = rng.integers(len(faces), size=args.batch)
        flips = rng.random(args.batch) < 0.5
        images = disturb(faces.batch(rows, flips), rng).to(args.device)
        return label_loss(segmenter, images, faces.labels(rows, flips).long().to(args.device))

    name = "face_parser" if args.seed == 0 else f"face_parser_{args.seed}"
    folder = args.out or TOYBOX / name
    return train_segmenter(args, build().to(args.device), loss_of_batch, name=name, folder=folder)


if __name__ == "__main__":
    main()
