"""Nearest neighbours by inner product over FAISS: exact for small sets, compressed for large ones.

Johnson, Douze, Jegou. Billion-scale similarity search with GPUs. https://arxiv.org/abs/1702.08734

The compressed index keeps one byte a dimension (scalar quantiser) in inverted lists and reads a few
of them for each query; loaded from disk it is memory-mapped, so that only those are read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor

INDEX, FACTS = "vectors.faiss", "vectors.json"
TRAINED_ON = 48  # vectors for each list; FAISS asks for 39 and more
PROBED_SHARE, PROBED_AT_LEAST = 1 / 24, 8


class VectorIndex:
    """Vectors (N, D) in the order added; thread-safe once nothing is added any more."""

    def __init__(self, index: faiss.Index, kind: str) -> None:
        """Wrap a FAISS index over inner products."""
        self._index, self.kind = index, kind

    @classmethod
    def exact(cls, vectors: Tensor) -> VectorIndex:
        """Return an index that compares with every vector (N, D)."""
        made = cls(faiss.IndexFlatIP(vectors.shape[1]), "exact")
        made.add(vectors)
        return made

    @classmethod
    def compressed(cls, sample: Tensor, expected: int) -> VectorIndex:
        """Return an empty index for about `expected` vectors that are like `sample` (M, D).

        About sqrt(expected) lists, of which PROBED_SHARE, at least PROBED_AT_LEAST, are read for a
        query; a sample of TRAINED_ON vectors for each list is enough.
        """
        lists = 2 ** round(math.log2(max(math.sqrt(expected), 4)))
        lists = min(lists, max(1, len(sample) // TRAINED_ON))
        index = faiss.index_factory(sample.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(_array(sample[: TRAINED_ON * lists]))
        index.nprobe = max(PROBED_AT_LEAST, round(PROBED_SHARE * lists))
        return cls(index, "compressed")

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._index.d)

    def add(self, vectors: Tensor) -> None:
        """Append vectors (M, D)."""
        self._index.add(_array(vectors))

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return inner products and row numbers (B, k), the largest first.

        Row -1 stands where the lists read by a compressed index hold fewer than k vectors.
        """
        scores, rows = self._index.search(_array(queries), k)
        return torch.from_numpy(scores), torch.from_numpy(rows)

    def save(self, folder: Path) -> None:
        """Write the index and its kind."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{INDEX}.part"
        faiss.write_index(self._index, str(temporary))
        temporary.replace(folder / INDEX)
        facts = {"kind": self.kind, "dim": self.dim, "vectors": len(self)}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> VectorIndex:
        """Open what `save` wrote; a compressed index stays on disk and is read as needed."""
        facts = json.loads((folder / FACTS).read_text())
        mapped = faiss.IO_FLAG_MMAP if facts["kind"] == "compressed" else 0
        return cls(faiss.read_index(str(folder / INDEX), mapped), facts["kind"])


def _array(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.detach().cpu().float().numpy())
