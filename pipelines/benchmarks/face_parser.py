"""How well the face parser reads held-out renders: mean IoU, and of every part.

python -m pipelines.benchmarks face_parser [--n 500] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.benchmarks.segmenter import record_miou
from pipelines.data.faces import render_face, sample_face
from pipelines.models.face_parser import FaceParser
from pipelines.training.common import TOYBOX
from pipelines.training.rendered import SIZE_PX


def faces(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return renders (B, 128, 128, 3) uint8 and where their parts are (B, 128, 128)."""
    renders = [render_face(sample_face(i), SIZE_PX) for i in range(first, first + count)]
    images = torch.from_numpy(np.stack([r.image for r in renders]))
    return images, torch.from_numpy(np.stack([r.labels for r in renders])).long()


def main(argv: Sequence[str] | None = None) -> None:
    """Record how well the parts of faces are found."""
    from pipelines.devices import pick

    more = parser(__doc__, n=500)
    more.add_argument("--parser", type=Path, default=TOYBOX / "face_parser")
    args = more.parse_args(argv)
    report = Report("face_parser", seed=args.seed, path=args.json)
    record_miou(report, FaceParser.from_folder(args.parser, pick()), faces, args.n)


if __name__ == "__main__":
    main()
