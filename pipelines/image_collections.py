"""A visitor's own pictures: zip files, folders or single files, read with care, then embedded.

Nothing is unpacked: members of a zip file are read one by one, their names are only shown.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from pipelines import images, recipes
from pipelines.errors import InputError
from pipelines.results import OnStep, Step

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.models.dual_encoder import DualEncoder

MAX_PICTURES = 2000
MAX_FILE_BYTES = 20 * 2**20
MAX_TOTAL_BYTES = 400 * 2**20
THUMBNAIL_PX = 192
BATCH = 32
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """One picture file: the name to show, and how to get its bytes."""

    name: str
    nbytes: int
    read: Callable[[], bytes]


@dataclass(frozen=True, eq=False)
class Collection:
    """Pictures ready to be retrieved from.

    Attributes:
        clip, fingerprint: which CLIP embedded them, as (pack, role) and by its weights.
        rows: {fingerprint of a picture: its place}.
        names, thumbnails: of every picture; thumbnails are WebP files.
        embeds: (N, D) raw unit vectors; heads are applied later.
        left_out: names of files that could not be read as pictures.
    """

    clip: tuple[str, str]
    fingerprint: str
    rows: Mapping[str, int]
    names: Sequence[str]
    thumbnails: Sequence[bytes]
    embeds: Tensor
    left_out: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def thumbnail(self, row: int) -> Image.Image:
        """Return a picture, RGB, at most THUMBNAIL_PX wide and high."""
        with Image.open(io.BytesIO(self.thumbnails[row]), formats=["WEBP"]) as image:
            return image.convert("RGB")


def members(paths: Sequence[str | Path]) -> list[Member]:
    """Return the picture files in zip files, folders and files; hidden files are passed over.

    Raises:
        InputError: there is none, there are too many or too much, or a zip file is damaged.
    """
    found: list[Member] = []
    for path in map(Path, paths):
        found += _zipped(path) if path.suffix.lower() == ".zip" else _on_disk(path)
    if not found:
        raise InputError("There are no pictures in it. Please send PNG, JPEG or WebP files.")
    if len(found) > MAX_PICTURES:
        raise InputError(
            f"These are {len(found)} pictures; at most {MAX_PICTURES} can be indexed here. Please "
            "send fewer."
        )
    if sum(member.nbytes for member in found) > MAX_TOTAL_BYTES:
        raise InputError(
            f"The pictures take more than {MAX_TOTAL_BYTES // 2**20} MB together. Please make them "
            "smaller or send fewer."
        )
    return found


def _is_picture(name: PurePosixPath | Path) -> bool:
    is_hidden = name.name.startswith(".") or "__MACOSX" in name.parts
    return name.suffix.lower() in _SUFFIXES and not is_hidden


def _on_disk(path: Path) -> Iterator[Member]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and not file.is_symlink() and _is_picture(file):
            yield Member(file.name, file.stat().st_size, file.read_bytes)


def _zipped(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError as error:
        raise InputError("The zip file did not arrive. Please choose it again.") from error
    except _BROKEN as error:
        raise InputError("The zip file is damaged. Please pack the pictures again.") from error
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if entry.is_dir() or not _is_picture(name):
            continue
        if entry.flag_bits & 1:
            raise InputError("The zip file has a password. Please pack it without one.")
        yield Member(name.name, entry.file_size, _reader(path, entry))


def _reader(path: Path, entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        """Read what the directory promised and not a byte more."""
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            return file.read(min(entry.file_size, MAX_FILE_BYTES) + 1)

    return read


def open_member(member: Member) -> Image.Image:
    """Return the picture of a file, as `images.decode` does.

    Raises:
        InputError: it is too large, damaged or no picture.
    """
    if member.nbytes > MAX_FILE_BYTES:
        raise InputError(f"{member.name} is larger than {MAX_FILE_BYTES // 2**20} MB.")
    try:
        content = member.read()
    except _BROKEN as error:
        raise InputError(f"{member.name} is damaged.") from error
    if len(content) > member.nbytes:
        raise InputError(f"{member.name} is longer than its archive says.")
    with tempfile.NamedTemporaryFile(suffix=".picture") as file:
        file.write(content)
        file.flush()
        return images.decode(file.name)


def collect(
    encoder: DualEncoder, found: Sequence[Member], clip: tuple[str, str], on_step: OnStep
) -> Collection:
    """Decode and embed picture files in batches; each picture's central square is what is seen.

    Raises:
        InputError: not one of them can be read.
    """
    import torch

    names, thumbnails, left_out, embeds = [], [], [], []
    rows: dict[str, int] = {}
    for first in range(0, len(found), BATCH):
        squares = []
        for member in found[first : first + BATCH]:
            try:
                picture = open_member(member)
            except InputError:  # named below the results
                left_out.append(member.name)
                continue
            square, _ = images.fit(picture, encoder.image_size_px)
            squares.append(square)
            rows.setdefault(recipes.fingerprint(picture), len(names))
            names.append(member.name)
            thumbnails.append(_thumbnail(picture))
        if squares:
            with torch.no_grad():
                pixels = images.to_tensor(squares, encoder.image_size_px)
                embeds.append(encoder.embed_images(pixels).cpu())
        on_step(Step("indexing", min(first + BATCH, len(found)), len(found)))
    if not embeds:
        raise InputError("None of the files is a picture that can be read here.")
    return Collection(
        clip, encoder.fingerprint, rows, names, thumbnails, torch.cat(embeds), left_out
    )


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
