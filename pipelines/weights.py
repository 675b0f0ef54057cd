"""Weights files, looked at before anything in them is used; nothing here runs code from a file.

Each refusal is an `InputError` of its own that names the file. torch is imported when a function
needs it, never with this module.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_HEADER_BYTES = 100_000_000  # as in the safetensors library
_POINTER = b"version https://git-lfs"
_AGAIN = "Delete it and fetch it again."
_ARCHIVE = b"PK"  # what torch writes, but for very old checkpoints


def check_safetensors(path: Path) -> dict[str, Any]:
    """Return the header {tensor: {"dtype", "shape", "data_offsets"}} of a file that is whole.

    Raises:
        InputError: it is a Git LFS pointer, no safetensors file, or shorter than its header says.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if (head + file.read(15)).startswith(_POINTER):
            raise InputError(
                f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder."
            )
        if size_bytes < 8 or length > MAX_HEADER_BYTES:
            raise InputError(f"{path} is no safetensors file. {_AGAIN}")
        file.seek(8)
        text = file.read(length)
    if len(text) < length:
        raise InputError(_cut_off(path, size_bytes, 8 + length))
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise InputError(f"{path} is no safetensors file. {_AGAIN}") from error
    if size_bytes != 8 + length + end:
        raise InputError(_cut_off(path, size_bytes, 8 + length + end))
    return entries


def check_whole(path: Path) -> None:
    """Refuse a file that was cut off, as far as its first and last bytes tell.

    Raises:
        InputError: it was, or is not what its name says.
    """
    if path.suffix == ".safetensors":
        check_safetensors(path)
    elif _head(path) == _ARCHIVE and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged or was cut off half-way. {_AGAIN}")


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Return the hash that the hub's cache named a file by, else that of its bytes, read once."""
    about = path.stat()
    return blob_sha256(path) or _sha256_as_of(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=256)
def _sha256_as_of(path: Path, changed_ns: int, size_bytes: int) -> str:
    return sha256(path)


def check_sha256(path: Path, expected: str, *, reads: bool = False) -> None:
    """Refuse a file that is not the published one; with `reads` whatever name the cache gave it."""
    found = sha256(path) if reads else known_sha256(path)
    if found != expected:
        raise InputError(
            f"{path} is not the file that was published: its sha256 is {found[:12]}…, expected "
            f"{expected[:12]}…. {_AGAIN}"
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a torch checkpoint that holds data only.

    A Lightning checkpoint gives its "state_dict".

    Raises:
        InputError: the file is cut off, would run code, or holds no tensors by name.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        check_safetensors(path)
        return load_file(path)
    loaded = read_checkpoint(path)
    if isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    import torch

    return {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return what a torch checkpoint holds by name, which is data only.

    Raises:
        InputError: the file is cut off, would run code, or holds nothing by name.
    """
    loaded = _unpickled_data(path)
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} holds no tensors by name: it is no checkpoint of a network.")
    return loaded


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give a network all its tensors, strictly; `path` is named where they do not fit.

    Raises:
        InputError: a tensor is missing, has another shape or belongs to another architecture.
    """
    expected = network.state_dict()
    strange = [name for name in tensors if name not in expected]
    shapes = {
        name: (tuple(tensors[name].shape), tuple(wanted.shape))
        for name, wanted in expected.items()
        if name in tensors and tensors[name].shape != wanted.shape
    }
    refuse_misfits(path, [name for name in expected if name not in tensors], strange, shapes)
    network.load_state_dict(tensors, strict=True)


def refuse_misfits(
    path: Path,
    missing: Sequence[str],
    strange: Sequence[str],
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    """Raise the sentence for tensors that do not fit; `shapes` is {name: (found, expected)}.

    Raises:
        InputError: any of the three is not empty.
    """
    if shapes:
        name, (found, expected) = next(iter(shapes.items()))
        raise InputError(
            f"{path} has another architecture than its configuration says: “{name}” is {found}, "
            f"expected {expected}. Choose the file that belongs to this model."
        )
    if missing and strange:
        raise InputError(
            f"{path} belongs to another architecture: it has “{strange[0]}” and no “{missing[0]}”. "
            "Choose the file that belongs to this model."
        )
    if missing:
        raise InputError(
            f"{path} is not complete: {len(missing)} tensors are missing, such as “{missing[0]}”. "
            f"{_AGAIN}"
        )
    if strange:
        raise InputError(
            f"{path} has {len(strange)} tensors that this model has no place for, such as "
            f"“{strange[0]}”. Choose the file that belongs to this model."
        )


def fingerprint(folder: Path, files: Sequence[Path] | None = None) -> str:
    """Return a short hash over names and bytes of weights in a folder: of `files`, or of all."""
    paths = folder.rglob("*.safetensors") if files is None else files
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
        digest.update(str(name).encode())
        digest.update(bytes.fromhex(known_sha256(path)))
    return digest.hexdigest()[:16]


def blob_sha256(path: Path) -> str:
    """Return the hash that the hub's cache named a large file by; "" for every other file."""
    blob = path.resolve()
    is_hash = blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    return blob.name if is_hash else ""


class _Shell:
    """Stands for Lightning's own classes, which its checkpoints name beside the tensors."""


def _unpickled_data(path: Path) -> Any:
    """Return what a torch checkpoint holds, with code refused."""
    import torch

    is_archive = zipfile.is_zipfile(path)
    try:
        strange: list[str] = []
        if is_archive:
            strange = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        elif _head(path) == _ARCHIVE:
            raise EOFError("the archive has no end")
        shells = [(_Shell, name) for name in strange if name.startswith("pytorch_lightning.")]
        with torch.serialization.safe_globals(shells):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was not opened: it is a pickle that would run code of its own, or is damaged. "
            "Choose a safetensors file, or a checkpoint that holds tensors only."
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is damaged or was cut off half-way. {_AGAIN}") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _cut_off(path: Path, found_bytes: int, expected_bytes: int) -> str:
    return (
        f"{path} has {found_bytes} bytes where its header promises {expected_bytes}: it was cut "
        f"off half-way. {_AGAIN}"
    )
