"""Render the training set of scenes once, to memory-mapped files that every script reads.

    python -m pipelines.training.scene_data --count 40000 --workers 2

Two CPU cores render about 80 scenes a second; an interrupted run continues where it stopped.
Scene i is `sample_scene(i)`; held-out scenes start at seed `HELD_OUT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from pipelines.data.captions import caption
from pipelines.data.scenes import CLASSES, Render, Scene, render, sample_scene
from pipelines.training.rendered import (
    CHUNK,
    HELD_OUT,
    SIZE_PX,
    RenderedSet,
    write_chunk,
    write_set,
)

__all__ = ["CHUNK", "HELD_OUT", "SIZE_PX", "SceneSet", "class_indices", "thing_parts"]

CAPTIONS_PER_SCENE = 4
MOST_THINGS = 3


class SceneSet(RenderedSet):
    """Rendered scenes; in their label maps 0 = background, i = the scene's thing i - 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "scenes", __name__)
        self.scenes = [Scene.from_dict(record["scene"]) for record in self.records]

    def captions(self) -> list[list[str]]:
        """Return CAPTIONS_PER_SCENE wordings of every scene, each drawn on its own."""
        return [
            [caption(scene, CAPTIONS_PER_SCENE * i + k) for k in range(CAPTIONS_PER_SCENE)]
            for i, scene in enumerate(self.scenes)
        ]


def class_indices(scenes: Sequence[Scene]) -> torch.Tensor:
    """Return the index of the class of every thing, (N, MOST_THINGS); -1 where there is none."""
    rows = [[CLASSES.index(thing.class_name) for thing in scene.things] for scene in scenes]
    return torch.tensor([row + [-1] * (MOST_THINGS - len(row)) for row in rows])


def thing_parts(labels: torch.Tensor, cell_px: int = 8) -> torch.Tensor:
    """Return what part of each cell shows thing i, (B, MOST_THINGS, H / cell, W / cell) in [0, 1].

    `labels` are label maps (B, H, W), 0 = background, i = the scene's thing i - 1.
    """
    shown = [(labels == i + 1).float().unsqueeze(1) for i in range(MOST_THINGS)]
    return F.avg_pool2d(torch.cat(shown, 1), cell_px)


def _render_seed(seed: int) -> tuple[dict, Render]:
    scene = sample_scene(seed)
    return {"scene": scene.to_dict()}, render(scene, SIZE_PX)


def render_chunk(folder: Path, first: int, count: int = CHUNK) -> int:
    """Render `count` scenes from seed `first` on unless their files are there; return `first`."""
    return write_chunk(folder, first, count, records="scenes", render=_render_seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Render `--count` scenes into `<work>/scenes`."""
    write_set(argv, __doc__, records="scenes", render=_render_seed, count=40_000)


if __name__ == "__main__":
    main()
