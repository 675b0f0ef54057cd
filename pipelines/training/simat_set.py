"""Make the retrieval set that ships: scenes, thumbnails, and what the CLIPs make of them.

    python -m pipelines.training.simat_set --clip assets/toybox/clip_vit assets/toybox/clip_resnet

The scenes and thumbnails are made when they are not there (about four minutes of one core), the
renders are kept in `--work`; then each CLIP embeds them (half a minute to a minute each). It trains
nothing: `pipelines.training.adaptation_heads` comes before or after it, in any order.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.data.scenes import Scene, render
from pipelines.data.simat_scenes import CANDIDATES, build, sample_scenes, triplet_of
from pipelines.data.spec import WORDS
from pipelines.devices import Device
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.retrieval_set import (
    SCENES,
    THUMBNAILS,
    read_scenes,
    write_encoded,
    write_scenes,
    write_thumbnails,
)
from pipelines.training.adaptation_heads import CHUNK, embed_batches, embed_texts
from pipelines.training.common import DEFAULT_WORK, TOYBOX
from pipelines.training.scene_data import SIZE_PX


def renders(scenes: Sequence[Scene], work: Path) -> np.ndarray:
    """Return the pictures (N, 128, 128, 3) uint8, memory-mapped from `<work>/simat_renders.npy`.

    An interrupted run continues where it stopped: no rendered scene is black all over.
    """
    path = work / "simat_renders.npy"
    if not path.exists() or len(np.load(path, mmap_mode="r")) != len(scenes):
        work.mkdir(parents=True, exist_ok=True)
        shape = (len(scenes), SIZE_PX, SIZE_PX, 3)
        temporary = path.with_name("simat_renders_part.npy")
        is_begun = temporary.exists() and np.load(temporary, mmap_mode="r").shape == shape
        images = np.lib.format.open_memmap(temporary, "r+" if is_begun else "w+", np.uint8, shape)
        for i, scene in enumerate(scenes):
            if not images[i].any():
                images[i] = render(scene, SIZE_PX).image
        images.flush()
        temporary.replace(path)
    return np.load(path, mmap_mode="r")


def encode(encoder: DualEncoder, scenes: Sequence[Scene], images: np.ndarray, folder: Path) -> None:
    """Write what a CLIP makes of the pictures, of the triplets' captions and of WORDS."""
    triplets = [one for scene in scenes if (one := triplet_of(scene)) is not None]
    batches = (
        torch.from_numpy(np.array(images[i : i + CHUNK])).permute(0, 3, 1, 2) / 127.5 - 1
        for i in range(0, len(images), CHUNK)
    )
    write_encoded(
        folder / encoder.name,
        encoder.fingerprint,
        images=embed_batches(encoder, batches),
        captions=embed_texts(encoder, list(build(triplets).captions.values())),
        words=embed_texts(encoder, WORDS),
    )


def main(argv: Sequence[str] | None = None) -> Path:
    """Make what is missing, encode with every CLIP named; return the folder."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, default=DEFAULT_WORK, help="where renders are kept")
    options.add_argument("--out", type=Path, default=TOYBOX / "retrieval")
    options.add_argument("--clip", type=Path, nargs="*", default=[], help="open_clip folders")
    options.add_argument("--candidates", type=int, default=CANDIDATES)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = options.parse_args(argv)
    if not (args.out / SCENES).exists():
        write_scenes(args.out, sample_scenes(args.candidates))
    scenes = read_scenes(args.out)
    if not (args.out / THUMBNAILS).exists():
        write_thumbnails(args.out, renders(scenes, args.work))
    shown = [one for scene in scenes if (one := triplet_of(scene)) is not None]
    print(f"{len(scenes)} scenes, {len(set(shown))} triplets, {len(build(shown).queries)} queries")
    for folder in args.clip:
        device = Device(args.device, torch.device(args.device), torch.float32)
        encoder = DualEncoder.from_folder(folder, device)
        encode(encoder, scenes, renders(scenes, args.work), args.out)
        print(f"encoded with {encoder.name} {encoder.fingerprint}")
    return args.out


if __name__ == "__main__":
    main()
