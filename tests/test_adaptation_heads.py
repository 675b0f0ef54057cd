import os
import pickle

import pytest
import torch
from shared_data import shared_data
from torch import nn
from torch.nn import functional as F

from pipelines.errors import InputError
from pipelines.models.adaptation_heads import (
    EPSILON,
    AdaptationHeads,
    load_heads,
    load_published_heads,
    load_word_bank,
    save_heads,
)

PUBLISHED, WORDS = "simat_data/head_clip_t=0.1.pt", "simat_data/simat_words_clip.ptd"


def near_identity(seed, dim=16):
    return AdaptationHeads.near_identity(dim, torch.Generator().manual_seed(seed))


def test_training_starts_near_the_identity():
    heads, dim = near_identity(0), 16
    away = heads.image.weight - torch.eye(dim)
    assert 0 < away.abs().max() <= EPSILON / dim**0.5
    assert heads.text.bias.abs().max() <= EPSILON / dim**0.5
    assert torch.equal(near_identity(0).text.weight, heads.text.weight)
    assert not torch.equal(heads.image.weight, heads.text.weight)


def test_all_temperatures_of_a_clip_come_back_from_one_file(tmp_path):
    made = {"0.1": near_identity(1), "1": near_identity(2)}
    save_heads(tmp_path, made, {"clip": "abc"})
    heads, facts = load_heads(tmp_path)
    assert (facts["clip"], list(heads)) == ("abc", ["0.1", "1"])
    for tau, pair in made.items():
        for name, value in pair.state_dict().items():
            expected = value.half().float()
            assert torch.equal(heads[tau].state_dict()[name], expected)
    assert not any(p.requires_grad for p in heads["1"].parameters())


def test_the_published_heads_load_and_adapt_the_published_words():
    heads = load_published_heads(shared_data(PUBLISHED))
    bank = load_word_bank(shared_data(WORDS))
    assert heads.image.weight.shape == heads.text.weight.shape == (512, 512)
    assert len(bank) == 131
    words = {word: F.normalize(heads.text(vector), dim=0) for word, vector in bank.items()}
    analogy = words["girl"] - words["boy"], words["woman"] - words["man"]
    unlike = words["girl"] - words["boy"], words["pizza"] - words["table"]
    assert F.cosine_similarity(*analogy, dim=0) > 0.5
    assert F.cosine_similarity(*unlike, dim=0).abs() < 0.3


class Program:
    """What a malicious file would hold: unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("load", [load_published_heads, load_word_bank])
def test_a_file_with_a_program_is_refused_and_does_not_run(tmp_path, load):
    marker = tmp_path / "it_ran"
    contents = {
        "alone.pt": Program(marker),
        "among.pt": {"img_head": nn.Linear(2, 2), "txt_head": Program(marker)},
        "listed.pt": [("boy", torch.zeros(2)), ("girl", Program(marker))],
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=f"{name} was not opened"):
            load(tmp_path / name)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Program(marker)))
    with pytest.raises(InputError, match="was not opened"):
        load(tmp_path / "plain.pt")
    assert not marker.exists()
    with pytest.raises(FileExistsError):  # the files would have done it
        marker.mkdir()
        pickle.loads(pickle.dumps(Program(marker)))


def hooked():
    layer = nn.Linear(2, 2)
    layer._forward_hooks[0] = os.getcwd
    return layer


def crippled():
    layer = nn.Linear(2, 2)
    layer._parameters["weight"] = None
    return layer


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ({"img_head": nn.Linear(2, 2)}, "two linear heads"),
        ({"img_head": nn.Linear(2, 2), "txt_head": nn.Linear(3, 3)}, "two linear heads"),
        ({"img_head": nn.Linear(2, 3), "txt_head": nn.Linear(2, 3)}, "two linear heads"),
        ({"img_head": crippled(), "txt_head": nn.Linear(2, 2)}, "two linear heads"),
        ({"img_head": nn.Linear(2, 2), "txt_head": torch.zeros(2, 2)}, "two linear heads"),
        ([nn.Linear(2, 2)] * 2, "two linear heads"),
        ({"img_head": hooked(), "txt_head": hooked()}, "was not opened"),
        ({"img_head": nn.Conv2d(2, 2, 1), "txt_head": nn.Linear(2, 2)}, "was not opened"),
    ],
)
def test_other_contents_are_refused_with_a_sentence(tmp_path, content, phrase):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(InputError, match=phrase):
        load_published_heads(tmp_path / "file.pt")


def test_other_word_banks_are_refused_with_a_sentence(tmp_path):
    for content in ({"boy": torch.zeros(2)}, [("boy", 3)], [("boy", torch.zeros(2), 1)]):
        torch.save(content, tmp_path / "words.ptd")
        with pytest.raises(InputError, match="no list of words"):
            load_word_bank(tmp_path / "words.ptd")
    (tmp_path / "empty.ptd").touch()
    with pytest.raises(InputError, match="was not opened"):
        load_word_bank(tmp_path / "empty.ptd")
    with pytest.raises(InputError, match="no file"):
        load_word_bank(tmp_path / "absent.ptd")
