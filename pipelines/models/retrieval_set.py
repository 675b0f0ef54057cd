"""The shipped retrieval set: toy scenes with thumbnails, and what each CLIP makes of them.

A folder holds `scenes.json.gz`, `thumbnails.safetensors` (WebP files one after another) and, for
every CLIP, a folder of its name with `embeddings.safetensors` and adaptation heads. Examples are in
`examples.json` once `pipelines.training.simat_examples` has chosen some.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from pipelines.data.captions import caption
from pipelines.data.simat_scenes import SimatSet, build, triplet_of
from pipelines.data.spec import WORDS, Scene
from pipelines.devices import Device
from pipelines.models.adaptation_heads import FACTS, AdaptationHeads, load_heads

SCENES, THUMBNAILS, EMBEDDINGS = (
    "scenes.json.gz",
    "thumbnails.safetensors",
    "embeddings.safetensors",
)
EXAMPLES = "examples.json"
THUMBNAIL_PX, THUMBNAIL_QUALITY = 96, 60


@dataclass(frozen=True)
class Example:
    """One click: a picture of the set and a change."""

    row: int
    value: str
    target: str


@dataclass(frozen=True, eq=False)
class Encoded:
    """What one CLIP makes of the set, float32 unit vectors on the CPU.

    Attributes:
        images: (N, D) of the scenes at 128 px.
        captions: (M, D) of the triplets' captions, in the order of `SimatSet.captions`.
        words: (W, D) of WORDS.
        heads: by temperature, as text; empty while none are trained.
        fingerprint: of the CLIP's weights.
    """

    images: Tensor
    captions: Tensor
    words: Tensor
    heads: Mapping[str, AdaptationHeads]
    fingerprint: str

    @property
    def nbytes(self) -> int:
        """Bytes of vectors and heads."""
        vectors = (self.images, self.captions, self.words)
        return sum(v.nbytes for v in vectors) + sum(h.nbytes for h in self.heads.values())


class RetrievalSet:
    """Scenes to retrieve from; never modified.

    Attributes:
        scenes: in the order of all rows.
        simat: their triplets and queries.
        captions: full ones, of every scene.
        caption_rows: of the triplets' captions, by their text.
        encoded: by the name of the CLIP.
        examples: queries that were answered rightly.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        thumbnails: Sequence[bytes],
        encoded: Mapping[str, Encoded],
        examples: Sequence[Example] = (),
    ) -> None:
        """Annotate the scenes and draw their queries, the same ones every time."""
        self.scenes = list(scenes)
        shown = [triplet_of(scene) for scene in scenes]
        self.simat: SimatSet = build([one for one in shown if one is not None])
        self.caption_rows = {text: row for row, text in enumerate(self.simat.captions.values())}
        self.captions = [caption(scene) for scene in scenes]
        self.encoded = dict(encoded)
        self.examples = list(examples)
        self._thumbnails = thumbnails

    def __len__(self) -> int:
        return len(self.scenes)

    def thumbnail(self, row: int) -> Image.Image:
        """Return a scene's picture, RGB, THUMBNAIL_PX square."""
        with Image.open(io.BytesIO(self._thumbnails[row]), formats=["WEBP"]) as image:
            return image.convert("RGB")

    @property
    def nbytes(self) -> int:
        """Bytes of thumbnails, vectors and heads."""
        pictures = sum(len(one) for one in self._thumbnails)
        return pictures + sum(one.nbytes for one in self.encoded.values())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> RetrievalSet:
        """Load the set; it stays on the CPU, whatever the device."""
        scenes = read_scenes(folder)
        packed = load_file(folder / THUMBNAILS)
        pieces = np.split(packed["webp"], packed["ends"][:-1])
        found = sorted(path.parent for path in folder.glob(f"*/{EMBEDDINGS}"))
        encoded = {path.name: read_encoded(path) for path in found}
        return cls(scenes, [piece.tobytes() for piece in pieces], encoded, read_examples(folder))


def read_scenes(folder: Path) -> list[Scene]:
    """Return the scenes that `write_scenes` wrote."""
    with gzip.open(folder / SCENES, "rt", encoding="utf-8") as file:
        return [Scene.from_dict(one) for one in json.load(file)]


def write_scenes(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write the scenes' descriptions; the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([scene.to_dict() for scene in scenes], separators=(",", ":"))
    (folder / SCENES).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def write_thumbnails(folder: Path, images: Sequence[np.ndarray]) -> None:
    """Write pictures (H, H, 3) uint8 small and packed into one file."""
    size = THUMBNAIL_PX, THUMBNAIL_PX
    files = []
    for array in images:
        small = Image.fromarray(np.asarray(array)).resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=6)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    ends = np.cumsum([len(file) for file in files])
    save_file({"webp": np.concatenate(files), "ends": ends}, folder / THUMBNAILS)


def read_examples(folder: Path) -> list[Example]:
    """Return the examples that `write_examples` wrote; none before it did."""
    path = folder / EXAMPLES
    entries = json.loads(path.read_text())["examples"] if path.is_file() else []
    return [Example(**entry) for entry in entries]


def write_examples(folder: Path, examples: Sequence[Example], facts: Mapping[str, Any]) -> None:
    """Write examples, and by what they were chosen."""
    entries = [asdict(one) for one in examples]
    (folder / EXAMPLES).write_text(json.dumps({**facts, "examples": entries}, indent=1) + "\n")


def read_encoded(folder: Path) -> Encoded:
    """Return what one CLIP makes of the set.

    Raises:
        ValueError: the vectors are of other words than this code's, or the heads of another CLIP.
    """
    with safe_open(folder / EMBEDDINGS, "pt") as file:
        fingerprint = file.metadata()["clip"]
        parts = {name: file.get_tensor(name).float() for name in ("images", "captions", "words")}
    heads, facts = load_heads(folder) if (folder / FACTS).is_file() else ({}, {"clip": fingerprint})
    if facts["clip"] != fingerprint or len(parts["words"]) != len(WORDS):
        raise ValueError(f"{folder} is out of date: run pipelines.training.simat_set")
    parts = {name: torch.nn.functional.normalize(value, dim=1) for name, value in parts.items()}
    return Encoded(**parts, heads=heads, fingerprint=fingerprint)


def write_encoded(folder: Path, fingerprint: str, **parts: Tensor) -> None:
    """Write `images`, `captions` and `words` of one CLIP, float16."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half().contiguous() for name, value in parts.items()}
    save_tensors(halves, folder / EMBEDDINGS, metadata={"clip": fingerprint})
