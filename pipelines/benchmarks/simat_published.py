"""The published SIMAT as a `Lab` of the benchmark, for whoever has its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pipelines import images
from pipelines.benchmarks.simat import Lab
from pipelines.data.simat_db import Published, read
from pipelines.devices import pick
from pipelines.errors import InputError
from pipelines.models.adaptation_heads import load_published_heads
from pipelines.models.dual_encoder import DualEncoder
from pipelines.training.adaptation_heads import CHUNK, embed_batches, embed_texts

ORACLE = "oscar_similarity_matrix.pt"


def published_lab(folder: Path, clip: Path, heads: Path | None) -> Lab:
    """Embed the published pictures, captions and words with a CLIP.

    Raises:
        InputError: files of the set, or pictures, are missing.
    """
    published = read(folder)
    encoder = DualEncoder.from_folder(clip, pick())
    queries = published.simat.queries
    words = sorted({word for q in queries for word in (q.value, q.target)})
    return Lab(
        clip.name,
        published.simat,
        embed_batches(encoder, _pictures(published, folder, encoder.image_size_px)),
        embed_texts(encoder, list(published.simat.captions.values())),
        dict(zip(words, embed_texts(encoder, words), strict=True)),
        {} if heads is None else {"0.1": load_published_heads(heads)},
        _oracle(published, folder),
    )


def _pictures(published: Published, folder: Path, size_px: int) -> Iterator[Tensor]:
    rows = range(len(published.region_ids))
    for first in range(0, len(rows), CHUNK):
        paths = [published.image_path(folder, row) for row in rows[first : first + CHUNK]]
        if missing := [path for path in paths if not path.is_file()]:
            raise InputError(
                f"The picture {missing[0].name} is missing from {folder}/images. Please run the "
                "release's prepare_dataset.py with the Visual Genome pictures first."
            )
        yield images.to_tensor([images.fit(images.decode(p), size_px)[0] for p in paths], size_px)


def _oracle(published: Published, folder: Path) -> Tensor:
    """Return OSCAR's word (M, N) bool where the folder has it, else that of the annotations."""
    captions = list(published.simat.captions)
    if not (folder / ORACLE).is_file():
        return torch.tensor([[one == s for s in published.simat.triplets] for one in captions])
    # published (pictures by dataset_id, rows of captions.txt): probability that the caption is true
    scores = torch.load(folder / ORACLE, map_location="cpu", weights_only=True)
    texts = (folder / "captions.txt").read_text().splitlines()
    columns = [texts.index(published.simat.captions[one]) for one in captions]
    return (scores[list(published.dataset_ids)][:, columns] > 0.5).T
