"""Model files that do not ship: found in the visitor's own folder, the hub's cache or the hub.

SEMEDIT_MODELS names a folder with one sub-folder for each model, called like the hub id
("stable-diffusion-v1-5/stable-diffusion-v1-5"), its last part, or the component ("sd15").

Where no commit is known, "main" is asked for. The first download resolves it, and the hub's cache
keeps the answer (refs/main); from then on that commit serves until the cache is deleted, whatever
happens upstream. `origin` reads it off the path, so recipes name it.
"""

from __future__ import annotations

import glob
import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import weights
from pipelines.errors import InputError
from pipelines.results import OnStep, Step

VARIABLE = "SEMEDIT_MODELS"
DOWNLOADING = "downloading"  # the stage told to on_step; index and total are in MB
_FP16 = ".fp16.safetensors"
_WEIGHTS = {".safetensors", ".bin", ".ckpt", ".pt", ".pth"}


@dataclass(frozen=True)
class Repository:
    """Files on the Hugging Face hub.

    Attributes:
        ids: repositories with the same files, the preferred one first.
        files: what is needed. Weights in half precision ("model.fp16.safetensors") serve for the
            full ones, and the other way round.
        licence: of the weights.
        size_bytes: about what a download takes.
        commits: {id: commit} where one is known (see the module).
        sha256: {file: hash} where one is published.
        instead: other sets of files that serve as well in a folder of the visitor's own.
        made_by: the command that makes what nobody publishes; then there are no ids.
        fetched_by: the command that fetches what lies on no hub; then there are no ids either.
    """

    ids: tuple[str, ...]
    files: tuple[str, ...]
    licence: str
    size_bytes: int
    commits: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    instead: tuple[tuple[str, ...], ...] = ()
    made_by: str = ""
    fetched_by: str = ""

    def revision(self, hub_id: str) -> str:
        """Return the commit to take from one of the ids, "main" where none is known."""
        return self.commits.get(hub_id, "main")


def locate(repository: Repository, name: str, on_step: OnStep | None = None) -> Path:
    """Return the folder with all files; downloads what is not here yet.

    Args:
        repository: what is needed.
        name: of the component, one of the names its folder under SEMEDIT_MODELS may have.
        on_step: told about the download, which it may stop.

    Raises:
        InputError: files are missing or damaged, or the hub cannot help.
    """
    folder = here(repository, name) or download(repository, on_step)
    check(folder, repository)
    return folder


def here(
    repository: Repository, name: str, environ: Mapping[str, str] | None = None
) -> Path | None:
    """Return the folder if it is on this machine: the visitor's own, else the hub's cache.

    Raises:
        InputError: the visitor's own folder exists, but files are missing from it.
    """
    folder = own_folder(repository, name, environ)
    if folder is None:
        return cached(repository)
    absent = missing(folder, repository.files)
    if absent and all(missing(folder, files) for files in repository.instead):
        if any(folder.rglob("*.pkl")):
            raise InputError(
                f"The model folder {folder} has a pickle (.pkl), which would run code of its own "
                f"and is never opened. Put {absent[0]} there instead: NVIDIA's networks exist as "
                "checkpoints of rosinality/stylegan2-pytorch, whose convert_weight.py makes them "
                "from a pickle that you trust."
            )
        halves = [path.name for path in folder.glob(f"{glob.escape(absent[0])}.*")]
        raise InputError(
            f"The model folder {folder} has no {absent[0]}"
            + (f", only {halves[0]}, a download that is not over" if halves else "")
            + f". Put it there, or take the folder out of {VARIABLE}."
        )
    return folder


def own_folder(
    repository: Repository, name: str, environ: Mapping[str, str] | None = None
) -> Path | None:
    """Return the folder below SEMEDIT_MODELS that carries one of the model's names."""
    root = (os.environ if environ is None else environ).get(VARIABLE, "")
    if not root:
        return None
    names = [name, *repository.ids, *(hub_id.rpartition("/")[2] for hub_id in repository.ids)]
    folders = (Path(root).expanduser() / one for one in names)
    return next((folder for folder in folders if folder.is_dir()), None)


def cached(repository: Repository) -> Path | None:
    """Return the snapshot in the hub's cache that has all files, of the first id that has one."""
    from huggingface_hub import try_to_load_from_cache

    for hub_id in repository.ids:
        for name in twins(repository.files[0]):
            path = try_to_load_from_cache(hub_id, name, revision=repository.revision(hub_id))
            if isinstance(path, str):
                folder = Path(path).parents[name.count("/")]
                if not missing(folder, repository.files):
                    return folder
    return None


def missing(folder: Path, files: Sequence[str]) -> list[str]:
    """Return the needed files that a folder lacks in either precision, whole or in shards."""
    return [name for name in files if not any((folder / one).is_file() for one in _forms(name))]


def _forms(name: str) -> tuple[str, ...]:
    index = f"{name}.index.json" if name.endswith(".safetensors") else name
    return (*twins(name), index.replace(_FP16, ".safetensors"))


def is_weights(name: str) -> bool:
    """Tell whether a file of that name holds weights."""
    return Path(name).suffix in _WEIGHTS


def weights_files(folder: Path, repository: Repository) -> list[Path]:
    """Return the weights files of a folder that serve, each in one precision, shards one by one."""
    sets = (repository.files, *repository.instead)
    names = next((files for files in sets if not missing(folder, files)), ())
    found: list[Path] = []
    for name in filter(is_weights, names):
        whole = [folder / one for one in twins(name) if (folder / one).is_file()]
        found += whole[:1] or sorted((folder / name).parent.glob("*-of-*.safetensors"))
    return found


def check(folder: Path, repository: Repository, *, reads_all: bool = True) -> None:
    """Refuse weights that are cut off or, where a hash is published, not the published ones.

    Unless it `reads_all`, hashes are those by which the hub's cache names its files.
    """
    for name in {*repository.files, *(one for files in repository.instead for one in files)}:
        for one in twins(name):
            path = folder / one
            if is_weights(one) and path.is_file():
                weights.check_whole(path)
            is_told = reads_all or weights.blob_sha256(path)
            if path.is_file() and one in repository.sha256 and is_told:
                weights.check_sha256(path, repository.sha256[one])


def twins(name: str) -> tuple[str, ...]:
    """Return the names under which the same weights may lie, the given one first."""
    if name.endswith(_FP16):
        return name, name.removesuffix(_FP16) + ".safetensors"
    if name.endswith(".safetensors"):
        return name, name.removesuffix(".safetensors") + _FP16
    return (name,)


def weights_in(folder: Path, name: str) -> Path:
    """Return the weights file of a folder, in whichever precision it is there.

    Raises:
        InputError: it is there in neither, or not in one piece.
    """
    found = [folder / one for one in twins(name) if (folder / one).is_file()]
    if not found:
        raise InputError(
            f"{folder} has no {name}. Only safetensors are read: convert other weights first."
        )
    return found[0]


def origin(folder: Path) -> str:
    """Return where files came from: "owner/name@commit" in the hub's cache, else the folder."""
    cache = folder.parents[1].name if len(folder.parents) > 1 else ""
    if folder.parent.name == "snapshots" and cache.startswith("models--"):
        return f"{cache.removeprefix('models--').replace('--', '/')}@{folder.name}"
    return folder.name


def command(repository: Repository) -> str:
    """Return the shell command that fetches the files into the hub's cache, or makes them."""
    if repository.made_by or repository.fetched_by:
        return repository.made_by or repository.fetched_by
    hub_id = repository.ids[0]
    commit = ["--revision", repository.commits[hub_id]] if hub_id in repository.commits else []
    return shlex.join(["hf", "download", hub_id, *repository.files, *commit])


def about(repository: Repository) -> str:
    """Return id, size and licence in a few words."""
    return (
        f"{repository.ids[0]} (about {megabytes(repository.size_bytes)} MB, {repository.licence})"
    )


def megabytes(nbytes: int) -> int:
    """Return bytes as whole MB, at least 1."""
    return max(1, round(nbytes / 1e6))


def download(repository: Repository, on_step: OnStep | None = None) -> Path:
    """Return the snapshot with all files, fetched from the first id that has them.

    Raises:
        InputError: none can be had; the sentence has id, size, licence and command.
    """
    from huggingface_hub import errors

    if repository.made_by:
        raise InputError(
            f"Nobody publishes this model: it is trained here, by `{repository.made_by}`. Name the "
            f"folder that has it in {VARIABLE}. The toybox pack works without it."
        )
    if repository.fetched_by:
        raise InputError(
            f"This model ({repository.licence}) is on no hub: run `{repository.fetched_by}` with "
            f"{VARIABLE} naming your folder of models. Everything else works without it."
        )
    # of the HTTP library that this hub client uses: httpx, or its successor
    unreachable: tuple[type[Exception], ...] = (OSError, *errors.HfHubHTTPError.__bases__)

    reasons = []
    for hub_id in repository.ids:
        try:
            return _download(hub_id, repository, on_step)
        except errors.GatedRepoError:
            reasons.append(
                f"{hub_id} asks you to accept its licence: visit https://huggingface.co/{hub_id}, "
                "then run `hf auth login`"
            )
        except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
            offline = isinstance(error, errors.LocalEntryNotFoundError)
            reasons.append("the hub cannot be reached" if offline else f"{hub_id} is gone")
        except errors.RevisionNotFoundError:
            reasons.append(f"{hub_id} has no revision {repository.revision(hub_id)}")
        except _Incomplete as error:
            reasons.append(f"{hub_id} has no {error}")
        except unreachable:
            reasons.append("the hub cannot be reached")
            break
    raise InputError(
        f"The model {about(repository)} is not on this machine, and could not be downloaded: "
        f"{'; '.join(dict.fromkeys(reasons))}. Connect the machine to the internet and try again, "
        f"or run `{command(repository)}`, or name a folder that has it in {VARIABLE}. The toybox "
        "pack works without it."
    )


class _Incomplete(Exception):
    """A repository lacks a file; the message is its name."""


def _download(hub_id: str, repository: Repository, on_step: OnStep | None) -> Path:
    """Fetch the files from one repository, each in the precision that is there."""
    from huggingface_hub import HfApi, snapshot_download

    revision = repository.revision(hub_id)
    info = HfApi().model_info(hub_id, revision=revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    wanted = []
    for name in repository.files:
        found = next((one for one in twins(name) if one in sizes), None)
        if found is None:
            raise _Incomplete(name)
        wanted.append(found)
    total_bytes = sum(sizes[name] for name in wanted)
    bar = None if on_step is None else _progress(on_step, total_bytes)
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted, tqdm_class=bar))


def _progress(on_step: OnStep, total_bytes: int) -> type[Any]:
    """Return the class of progress bars, drawn nowhere, that tell `on_step`; it may raise."""
    from tqdm.auto import tqdm

    lock, told = threading.Lock(), [-1]
    total = megabytes(total_bytes)

    class Told(tqdm):  # type: ignore[misc]  # tqdm comes without types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"
            self.done_bytes = 0.0
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            with lock:  # files are fetched side by side
                self.done_bytes += n or 0
                done = min(total, int(self.done_bytes / 1e6))
                is_news = self.counts_bytes and done > told[0]
                told[0] = max(told[0], done) if is_news else told[0]
            if is_news:
                on_step(Step(DOWNLOADING, done, total))

    return Told
