"""Weights files of every broken kind: each refused with a sentence of its own."""

import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipelines import weights
from pipelines.errors import InputError


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.fixture
def whole(network, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    return path


class Attack:
    """Writes a file when it is unpickled: what a malicious checkpoint does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_whole_file_comes_back_to_the_bit(network, whole):
    assert weights.check_safetensors(whole)["0.weight"]["shape"] == [4, 3]
    tensors = weights.read_tensors(whole)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    weights.load_tensors(other, tensors, whole)
    assert all(
        torch.equal(other.state_dict()[name], network.state_dict()[name]) for name in tensors
    )


@pytest.mark.parametrize("kept", [4, 20, -8])
def test_a_truncated_file_is_named(whole, kept):
    whole.write_bytes(whole.read_bytes()[:kept])
    expected = "no safetensors file" if kept == 4 else "cut off half-way"
    with pytest.raises(InputError, match=rf"model\.safetensors .*{expected}.*fetch it again"):
        weights.read_tensors(whole)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + b"x" * 60,
        (2).to_bytes(8, "little") + b"[]",
        b"\x02" + b"\0" * 7 + b"{,",
    ],
    ids=["empty", "zip", "list", "no json"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no safetensors file"):
        weights.check_safetensors(path)


def test_a_pointer_without_its_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3438167536\n")
    with pytest.raises(InputError, match="Git LFS pointer.*git lfs pull"):
        weights.check_safetensors(path)


def test_a_wrong_hash_is_refused(whole):
    weights.check_sha256(whole, weights.sha256(whole))
    with pytest.raises(InputError, match="not the file that was published.*sha256"):
        weights.check_sha256(whole, "0" * 64)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt"])
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(tmp_path, name):
    path, mark = tmp_path / name, tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Attack(mark)}, path)
    with pytest.raises(InputError, match="pickle that would run code"):
        weights.read_tensors(path)
    path.write_bytes(pickle.dumps(Attack(mark), protocol=2))
    with pytest.raises(InputError, match="pickle that would run code"):
        weights.read_tensors(path)
    assert not mark.exists()


def test_a_lightning_checkpoint_gives_its_tensors(tmp_path):
    path = tmp_path / "last.ckpt"
    states = [{"lr": 0.1, "step": torch.tensor(3)}]
    torch.save({"epoch": 3, "optimizer_states": states, "state_dict": {"a": torch.ones(2)}}, path)
    assert set(weights.read_tensors(path)) == {"a"}


def test_a_checkpoint_cut_off_or_without_tensors_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1000)}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut off half-way"):
        weights.read_tensors(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="no tensors by name"):
        weights.read_tensors(path)


def test_a_torchscript_archive_is_refused(tmp_path):
    """OpenAI publishes its CLIPs so: an archive with code."""
    path = tmp_path / "RN50.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("RN50/constants.pkl", b"\x80\x02.")
        archive.writestr("RN50/code/__torch__.py", "import os")
    with pytest.raises(InputError, match=r"RN50\.pt (was not opened|is damaged)"):
        weights.read_tensors(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("1.bias"), r"not complete: 1 tensors are missing, such as “1\.bias”"),
        (lambda t: t.update(extra=t["1.bias"]), "no place for, such as “extra”"),
        (
            lambda t: t.update({"1.weight": torch.ones(5, 4)}),
            r"another architecture.*“1\.weight” is \(5, 4\), expected \(2, 4\)",
        ),
        (
            lambda t: t.update(conv=t.pop("0.weight")),
            r"belongs to another architecture: it has “conv” and no “0\.weight”",
        ),
    ],
    ids=["missing", "strange", "shape", "names"],
)
def test_tensors_that_do_not_fit_are_named(network, whole, change, sentence):
    tensors = weights.read_tensors(whole)
    change(tensors)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=sentence):
        weights.load_tensors(network, tensors, whole)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_fingerprint_follows_names_and_bytes(whole):
    first = weights.fingerprint(whole.parent)
    assert first == weights.fingerprint(whole.parent)
    whole.write_bytes(whole.read_bytes()[:-1] + b"\x01")
    changed = weights.fingerprint(whole.parent)
    assert changed != first
    whole.rename(whole.with_name("other.safetensors"))
    assert weights.fingerprint(whole.parent) not in (first, changed)
