"""Render the training set of faces once, to memory-mapped files that every script reads.

    python -m pipelines.training.face_data --count 40000 --workers 2

An interrupted run continues where it stopped. Face i is `sample_face(i)`; held-out faces start at
seed `HELD_OUT` of `pipelines.training.rendered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.data import face_statements
from pipelines.data.faces import CHOICES, RANGES, Face, FaceRender, render_face, sample_face
from pipelines.data.faces.captions import caption
from pipelines.training.rendered import CHUNK, SIZE_PX, RenderedSet, write_chunk, write_set

CAPTIONS_PER_FACE = 4


class FaceSet(RenderedSet):
    """Rendered faces; the label maps hold places in `faces.PARTS`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "faces", __name__)
        self.faces = [Face.from_dict(record["face"]) for record in self.records]

    def captions(self) -> list[list[str]]:
        """Return CAPTIONS_PER_FACE wordings of every face, each drawn on its own."""
        return [
            [caption(face, CAPTIONS_PER_FACE * i + k) for k in range(CAPTIONS_PER_FACE)]
            for i, face in enumerate(self.faces)
        ]

    def truth(self) -> torch.Tensor:
        """Return what `face_statements.truth` says of every face, (N, S)."""
        return torch.tensor([face_statements.truth(face) for face in self.faces])


def attribute_values(faces: Sequence[Face]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the continuous attributes (N, len(RANGES)) and indices of the discrete (N, K)."""
    numbers = [[getattr(face, name) for name in RANGES] for face in faces]
    indices = [[list(CHOICES[n]).index(getattr(face, n)) for n in CHOICES] for face in faces]
    return torch.tensor(numbers), torch.tensor(indices)


def _render_seed(seed: int) -> tuple[dict, FaceRender]:
    face = sample_face(seed)
    return {"face": face.to_dict()}, render_face(face, SIZE_PX)


def render_chunk(folder: Path, first: int, count: int = CHUNK) -> int:
    """Render `count` faces from seed `first` on unless their files are there; return `first`."""
    return write_chunk(folder, first, count, records="faces", render=_render_seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Render `--count` faces into `<work>/faces`."""
    write_set(argv, __doc__, records="faces", render=_render_seed, count=40_000)


if __name__ == "__main__":
    main()
