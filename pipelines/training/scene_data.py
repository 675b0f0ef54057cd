"""Render the training set of scenes once, to memory-mapped files that every script reads.

    python -m pipelines.training.scene_data --count 40000 --workers 2

Two CPU cores render about 80 scenes a second; an interrupted run continues where it stopped.
Scene i is `sample_scene(i)`; held-out scenes start at seed `HELD_OUT`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from pipelines.data.captions import caption
from pipelines.data.scenes import CLASSES, Scene, render, sample_scene
from pipelines.training.common import DEFAULT_WORK

HELD_OUT = 1_000_000_000
CHUNK = 250
SIZE_PX = 128
CAPTIONS_PER_SCENE = 4
MOST_THINGS = 3


class SceneSet:
    """Images (N, 128, 128, 3) uint8 and label maps (N, 128, 128) on disk, with their scenes."""

    def __init__(self, folder: Path) -> None:
        chunks = sorted(folder.glob("images_*.npy"))
        if not chunks:
            raise ValueError(f"no rendered scenes in {folder}: run pipelines.training.scene_data")
        self.images = [np.load(chunk, mmap_mode="r") for chunk in chunks]
        self.label_maps = [
            np.load(chunk.with_name(chunk.name.replace("images", "labels")), mmap_mode="r")
            for chunk in chunks
        ]
        self.chunk = len(self.images[0])
        self.scenes: list[Scene] = []
        for chunk in chunks:
            lines = chunk.with_name(chunk.name.replace("images", "scenes")).with_suffix(".json")
            self.scenes += [Scene.from_dict(r["scene"]) for r in json.loads(lines.read_text())]

    def __len__(self) -> int:
        return len(self.scenes)

    def captions(self) -> list[list[str]]:
        """Return CAPTIONS_PER_SCENE wordings of every scene, each drawn on its own."""
        return [
            [caption(scene, CAPTIONS_PER_SCENE * i + k) for k in range(CAPTIONS_PER_SCENE)]
            for i, scene in enumerate(self.scenes)
        ]

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> torch.Tensor:
        """Return images (B, 3, 128, 128) in [-1, 1], channels last, mirrored where `flips`."""
        stacked = self._rows(self.images, indices, flips).permute(0, 3, 1, 2)
        return stacked.float().div_(127.5).sub_(1)

    def labels(self, indices: Sequence[int], flips: Sequence[bool]) -> torch.Tensor:
        """Return label maps (B, 128, 128) uint8, 0 = background, i = the scene's thing i - 1."""
        return self._rows(self.label_maps, indices, flips)

    def _rows(
        self, files: Sequence[np.ndarray], indices: Sequence[int], flips: Sequence[bool]
    ) -> torch.Tensor:
        rows = [files[i // self.chunk][i % self.chunk] for i in indices]
        rows = [row[:, ::-1] if flip else row for row, flip in zip(rows, flips, strict=True)]
        return torch.from_numpy(np.stack(rows))


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


def render_chunk(folder: Path, first: int, count: int = CHUNK) -> int:
    """Render `count` scenes from seed `first` on unless their files are there; return `first`."""
    target = folder / f"images_{first:07d}.npy"
    if target.exists():
        return first
    scenes = [sample_scene(seed) for seed in range(first, first + count)]
    renders = [render(scene, SIZE_PX) for scene in scenes]
    records = [{"scene": scene.to_dict()} for scene in scenes]
    target.with_name(f"scenes_{first:07d}.json").write_text(json.dumps(records))
    np.save(target.with_name(f"labels_{first:07d}.npy"), np.stack([r.labels for r in renders]))
    temporary = target.with_name(f"part_{first:07d}.npy")
    np.save(temporary, np.stack([r.image for r in renders]))
    temporary.replace(target)
    return first


def main(argv: Sequence[str] | None = None) -> None:
    """Render `--count` scenes into `<work>/scenes`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options.add_argument("--count", type=int, default=40_000)
    options.add_argument("--first", type=int, default=0, help="seed of the first scene")
    options.add_argument("--workers", type=int, default=2)
    args = options.parse_args(argv)
    folder = args.work / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(args.first, args.first + args.count, CHUNK)
    with ProcessPoolExecutor(args.workers) as pool:
        for done, first in enumerate(pool.map(render_chunk, [folder] * len(starts), starts)):
            print(f"{(done + 1) * CHUNK} scenes rendered, up to seed {first + CHUNK}", flush=True)


if __name__ == "__main__":
    main()
