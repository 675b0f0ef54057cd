"""Where model files are looked for, and what is said when they cannot be had."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_hub import COMMIT, served

from pipelines import hub, packs, weights
from pipelines.errors import Cancelled, InputError
from pipelines.hub import Repository
from pipelines.packs import PACKS

FILES = ("config.json", "unet/model.fp16.safetensors")
REPOSITORY = Repository(("first/model", "mirror/model"), FILES, "MIT", 3_000_000)


def safetensors(size_bytes=16):
    """A file whose one tensor has that size."""
    header = {"a": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size_bytes)


def whole(size_bytes=16, weights="unet/model.fp16.safetensors"):
    return {"config.json": b"{}", weights: safetensors(size_bytes), "notes.bin": b"not needed"}


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_download_is_told_recorded_and_not_repeated(monkeypatch, tmp_path):
    steps = []
    with served({"first/model": whole(3_000_000)}, monkeypatch, tmp_path) as requests:
        folder = hub.locate(REPOSITORY, "model", steps.append)
        assert [(step.stage, step.total) for step in steps[-1:]] == [("downloading", 3)]
        assert [step.index for step in steps] == sorted({step.index for step in steps})
        assert steps[-1].index == 3
        assert hub.origin(folder) == f"first/model@{COMMIT}"
        assert not (folder / "notes.bin").exists()
        asked = len(requests)
        assert hub.locate(REPOSITORY, "model") == folder
        assert len(requests) == asked


def test_full_precision_serves_where_half_is_not_there(monkeypatch, tmp_path):
    plain = whole(weights="unet/model.safetensors")
    with served({"first/model": plain}, monkeypatch, tmp_path):
        folder = hub.locate(REPOSITORY, "model")
    assert hub.weights_in(folder / "unet", "model.safetensors").name == "model.safetensors"


@pytest.mark.parametrize("first", ["gone", "gated", {"config.json": b"{}"}], ids=str)
def test_the_next_id_is_tried(monkeypatch, tmp_path, first):
    with served({"first/model": first, "mirror/model": whole()}, monkeypatch, tmp_path):
        folder = hub.locate(REPOSITORY, "model")
        assert hub.origin(folder) == f"mirror/model@{COMMIT}"
        assert hub.here(REPOSITORY, "model") == folder


@pytest.mark.parametrize(
    ("mirrors", "reason"),
    [
        ({"first/model": "gone", "mirror/model": "gone"}, "first/model is gone; mirror/model is"),
        (
            {"first/model": "gated"},
            r"accept its licence: visit https://huggingface\.co/first/model",
        ),
        ({"first/model": {"config.json": b"{}"}}, r"first/model has no unet/model\.fp16"),
    ],
    ids=["gone", "gated", "incomplete"],
)
def test_what_cannot_be_had_has_its_reason(monkeypatch, tmp_path, mirrors, reason):
    with served(mirrors, monkeypatch, tmp_path):
        with pytest.raises(InputError, match=reason) as caught:
            hub.locate(REPOSITORY, "model")
    for part in (
        "first/model (about 3 MB, MIT) is not on this machine",
        "`hf download first/model config.json unet/model.fp16.safetensors`",
        "SEMEDIT_MODELS",
        "toybox",
    ):
        assert part in str(caught.value)


def test_without_a_network_it_says_so(monkeypatch, tmp_path):
    with served({}, monkeypatch, tmp_path):
        pass  # the port is closed again: nobody answers
    with pytest.raises(InputError, match="the hub cannot be reached"):
        hub.locate(REPOSITORY, "model")


def test_a_download_can_be_stopped_and_taken_up_again(monkeypatch, tmp_path):
    def stop(step):
        raise Cancelled

    with served({"first/model": whole(5_000_000)}, monkeypatch, tmp_path):
        with pytest.raises(Cancelled):
            hub.locate(REPOSITORY, "model", stop)
        assert hub.here(REPOSITORY, "model") is None
        assert hub.locate(REPOSITORY, "model").is_dir()


@pytest.mark.parametrize("name", ["first/model", "model", "component", "mirror/model"])
def test_the_visitors_own_folder_comes_first(monkeypatch, tmp_path, name):
    own = write(tmp_path / "own" / name, whole())
    with served({"first/model": whole()}, monkeypatch, tmp_path / "cache") as requests:
        monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
        assert hub.locate(REPOSITORY, "component") == own
        assert requests == []
    assert hub.origin(own) == own.name


def test_an_own_folder_that_is_not_complete_is_named(tmp_path):
    write(tmp_path / "model", {"config.json": b"{}"})
    with pytest.raises(InputError, match=r"model has no unet/model\.fp16.*SEMEDIT_MODELS"):
        hub.here(REPOSITORY, "model", {hub.VARIABLE: str(tmp_path)})
    other = dataclasses.replace(REPOSITORY, instead=(("config.json",),))
    assert hub.here(other, "model", {hub.VARIABLE: str(tmp_path)}) == tmp_path / "model"


def test_an_unfinished_download_in_an_own_folder_is_named(tmp_path):
    write(tmp_path / "model", {"config.json": b"{}", f"{FILES[1]}.part": safetensors()})
    with pytest.raises(
        InputError, match=r"only model\.fp16\.safetensors\.part, a download that is"
    ):
        hub.here(REPOSITORY, "model", {hub.VARIABLE: str(tmp_path)})


def test_a_cut_off_checkpoint_is_named_before_it_is_opened(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(100)}, tmp_path / "weights.pt")
    content = (tmp_path / "weights.pt").read_bytes()
    repository = Repository(("first/model",), ("weights.pt",), "MIT", 1)
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path))
    write(tmp_path / "model", {"weights.pt": content})
    hub.locate(repository, "model")
    write(tmp_path / "model", {"weights.pt": content[:-30]})
    with pytest.raises(InputError, match=r"weights\.pt is damaged or was cut off half-way"):
        hub.locate(repository, "model")


def test_downloads_of_the_app_can_be_stopped():
    code = "import app; from huggingface_hub import constants; assert constants.HF_HUB_DISABLE_XET"
    subprocess.run([sys.executable, "-c", code], cwd=Path(hub.__file__).parents[1], check=True)


def test_damaged_weights_are_named_before_they_are_opened(monkeypatch, tmp_path):
    files = whole(1000)
    files[FILES[1]] = files[FILES[1]][:500]
    write(tmp_path / "model", files)
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"model\.fp16\.safetensors has 500 bytes.*cut off"):
        hub.locate(REPOSITORY, "model")
    write(tmp_path / "model", whole())
    hashed = dataclasses.replace(REPOSITORY, sha256={FILES[1]: "0" * 64})
    with pytest.raises(InputError, match="not the file that was published"):
        hub.locate(hashed, "model")


def test_the_command_names_a_pinned_revision():
    pinned = dataclasses.replace(REPOSITORY, commits={"first/model": "a" * 40})
    assert hub.command(pinned).endswith(f"--revision {'a' * 40}")


def test_each_id_is_asked_for_its_own_commit(monkeypatch, tmp_path):
    commits = {"first/model": "a" * 40, "mirror/model": COMMIT}
    pinned = dataclasses.replace(REPOSITORY, commits=commits)
    with served({"first/model": "gone", "mirror/model": whole()}, monkeypatch, tmp_path) as asked:
        folder = hub.locate(pinned, "model")
        assert hub.origin(folder) == f"mirror/model@{COMMIT}"
        assert hub.here(pinned, "model") == folder
    assert any(path.startswith(f"/api/models/mirror/model/revision/{COMMIT}") for path in asked)
    moved = dataclasses.replace(pinned, commits={"mirror/model": "b" * 40})
    assert hub.here(moved, "model") is None


def test_a_sum_is_read_once_and_off_the_cache_for_nothing(monkeypatch, tmp_path):
    content = whole()
    sums = {FILES[1]: hashlib.sha256(content[FILES[1]]).hexdigest()}
    hashed = dataclasses.replace(REPOSITORY, sha256=sums)
    read = []
    real = weights.sha256
    monkeypatch.setattr(weights, "sha256", lambda path: read.append(path) or real(path))
    with served({"first/model": content}, monkeypatch, tmp_path / "cache"):
        hub.locate(hashed, "model")
    assert read == []
    own = write(tmp_path / "own" / "model", content)
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
    assert hub.locate(hashed, "model") == hub.locate(hashed, "model") == own
    assert read == [own / FILES[1]]
    (own / FILES[1]).write_bytes(safetensors(17))
    with pytest.raises(InputError, match="not the file that was published"):
        hub.locate(hashed, "model")


@pytest.mark.parametrize("pack", PACKS.values(), ids=lambda pack: pack.name)
def test_every_repository_needs_its_files_and_no_others(pack):
    for part in pack.components.values():
        if part.repository is not None:
            assert hub.missing(packs.ASSETS, part.repository.files) == list(part.repository.files)
