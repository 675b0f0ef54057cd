"""Pictures of a procedural world on disk: rendered once, memory-mapped by every script.

A set is a folder of chunks: images_N.npy, labels_N.npy, and a JSON file with one record a picture,
N being the seed of its first one. What is in a record is the world's own affair.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from pipelines.training.common import DEFAULT_WORK

HELD_OUT = 1_000_000_000  # seeds from here on are never trained on
CHUNK = 250
SIZE_PX = 128


class Rendered(Protocol):
    """What a renderer returns: image (H, W, 3) and labels (H, W), uint8."""

    image: np.ndarray
    labels: np.ndarray


Render = Callable[[int], tuple[dict, Rendered]]  # seed -> record in plain JSON types, picture


class RenderedSet:
    """Images (N, 128, 128, 3) uint8 and label maps (N, 128, 128) on disk, with their records."""

    def __init__(self, folder: Path, records: str, script: str) -> None:
        """Open `folder`; `records` names the JSON files, `script` the module that writes them."""
        chunks = sorted(folder.glob("images_*.npy"))
        if not chunks:
            raise ValueError(f"no rendered {records} in {folder}: run {script}")
        self.images = [np.load(chunk, mmap_mode="r") for chunk in chunks]
        self.label_maps = [
            np.load(chunk.with_name(chunk.name.replace("images", "labels")), mmap_mode="r")
            for chunk in chunks
        ]
        self.chunk = len(self.images[0])
        self.records: list[dict] = []
        for chunk in chunks:
            lines = chunk.with_name(chunk.name.replace("images", records)).with_suffix(".json")
            self.records += json.loads(lines.read_text())

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> torch.Tensor:
        """Return images (B, 3, 128, 128) in [-1, 1], channels last, mirrored where `flips`."""
        stacked = self._rows(self.images, indices, flips).permute(0, 3, 1, 2)
        return stacked.float().div_(127.5).sub_(1)

    def labels(self, indices: Sequence[int], flips: Sequence[bool]) -> torch.Tensor:
        """Return label maps (B, 128, 128) uint8, mirrored where `flips`."""
        return self._rows(self.label_maps, indices, flips)

    def _rows(
        self, files: Sequence[np.ndarray], indices: Sequence[int], flips: Sequence[bool]
    ) -> torch.Tensor:
        rows = [files[i // self.chunk][i % self.chunk] for i in indices]
        rows = [row[:, ::-1] if flip else row for row, flip in zip(rows, flips, strict=True)]
        return torch.from_numpy(np.stack(rows))


def write_chunk(folder: Path, first: int, count: int, *, records: str, render: Render) -> int:
    """Render `count` pictures from seed `first` on unless their files are there; return `first`."""
    target = folder / f"images_{first:07d}.npy"
    if target.exists():
        return first
    drawn = [render(seed) for seed in range(first, first + count)]
    lines = json.dumps([record for record, _ in drawn])
    target.with_name(f"{records}_{first:07d}.json").write_text(lines)
    labels = np.stack([picture.labels for _, picture in drawn])
    np.save(target.with_name(f"labels_{first:07d}.npy"), labels)
    temporary = target.with_name(f"part_{first:07d}.npy")
    np.save(temporary, np.stack([picture.image for _, picture in drawn]))
    temporary.replace(target)
    return first


def write_set(
    argv: Sequence[str] | None, doc: str | None, *, records: str, render: Render, count: int
) -> None:
    """Be the command line of a script that renders `--count` pictures into `<work>/<records>`."""
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options.add_argument("--count", type=int, default=count)
    options.add_argument("--first", type=int, default=0, help="seed of the first picture")
    options.add_argument("--workers", type=int, default=2)
    args = options.parse_args(argv)
    folder = args.work / records
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(args.first, args.first + args.count, CHUNK)
    write = partial(write_chunk, folder, count=CHUNK, records=records, render=render)
    with ProcessPoolExecutor(args.workers) as pool:
        for done, first in enumerate(pool.map(write, starts)):
            print(
                f"{(done + 1) * CHUNK} {records} rendered, up to seed {first + CHUNK}", flush=True
            )
