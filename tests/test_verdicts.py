import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import examples, verdicts
from pipelines.data.captions import VOCABULARY
from pipelines.images import Window, to_tensor


@pytest.fixture(scope="module")
def shelf():
    return {example.name: example for example in examples.examples()}


def truth(example, source, target):
    return verdicts.true_mask(example.toy.scene, example.toy.labels, source, target)


def test_unknown_words_are_named_once_with_the_closest_known_one():
    found = verdicts.unknown_words(["a flamingo and a hors", "a flamingo, red"], VOCABULARY)
    assert list(found) == ["flamingo", "hors"]
    assert found["hors"] == "horse"
    assert verdicts.unknown_words(["лошадь 12"], VOCABULARY) == {"лошадь": ""}
    assert verdicts.unknown_words(["anything"], None) == {}


def test_word_groups_cover_the_nouns_and_adjectives():
    listed = {
        word for group in verdicts.word_groups().values() for p in group for word in p.split()
    }
    assert listed <= set(VOCABULARY)
    assert {"zebra", "purple", "striped", "moon", "beside"} <= listed


def test_true_mask_is_the_thing_that_the_texts_disagree_about(shelf):
    pair = shelf["cow-to-sheep"]
    labels = pair.toy.labels
    assert (truth(pair, pair.source_text, pair.target_text) == (labels == 1)).all()
    redder = pair.source_text.replace("green tree", "red tree")
    assert (truth(pair, pair.source_text, redder) == (labels == 2)).all()
    assert (truth(pair, "", redder.replace("cow", "sheep")) == (labels > 0)).all()


def test_true_mask_of_a_new_place_is_the_background(shelf):
    bear = shelf["beach-to-snow"]
    mask = truth(bear, bear.source_text, bear.target_text)
    assert (mask == (bear.toy.labels == 0)).all()
    assert (truth(bear, "", bear.target_text) == mask).all()


def test_nobody_knows_the_mask_of_a_thing_that_is_not_there(shelf):
    horse = shelf["horse-to-zebra"]
    assert truth(horse, horse.source_text, horse.source_text) is None
    assert truth(horse, "a car on the grass", "a bus on the grass") is None


def test_the_judge_looks_at_the_square_that_was_edited(untrained_judge, shelf):
    wide = Image.new("RGB", (384, 128))
    wide.paste(shelf["horse-to-zebra"].toy.image, (256, 0))
    seen = []
    watching = untrained_judge.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for window in (Window(1.0, 0.5, 1.0), Window(0.0, 0.5, 1.0)):
        verdicts.judged(untrained_judge, wide, "a horse", "a zebra", window)
    watching.remove()
    whole = to_tensor([shelf["horse-to-zebra"].toy.image], 128)
    assert torch.equal(seen[0].cpu(), whole) and not torch.equal(seen[1].cpu(), whole)


def test_overlap():
    left, right = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    assert verdicts.overlap(left, right) == 1
    left[:, :2] = 1
    right[:, 1:3] = 1
    assert verdicts.overlap(left, right) == pytest.approx(4 / 12)


def test_judge_names_why_it_cannot_judge(untrained_judge, shelf):
    image = shelf["horse-to-zebra"].toy.image
    unknown = verdicts.judged(untrained_judge, image, "a horse", "a flamingo")
    assert unknown.success is None
    assert "flamingo" in unknown.reason
    nothing = verdicts.judged(untrained_judge, image, "a horse", "a picture of")
    assert nothing.success is None
    known = verdicts.judged(untrained_judge, image, "a horse", "a zebra")
    assert known.success in (True, False)
