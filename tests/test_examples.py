import numpy as np
import pytest
from PIL import Image

from pipelines import examples, verdicts
from pipelines.data.captions import VOCABULARY, caption


@pytest.fixture(scope="module")
def shelf():
    return examples.examples()


def test_the_first_example_is_horse_to_zebra(shelf):
    first = shelf[0]
    assert (first.name, first.title) == ("horse-to-zebra", "horse → zebra")
    assert (first.source_text, first.target_text) == (
        "a horse on the grass",
        "a zebra on the grass",
    )
    assert 6 <= len(shelf) <= 8


def test_examples_say_what_they_show_and_name_one_true_region(shelf):
    for example in shelf:
        assert example.source_text == caption(example.toy.scene)
        assert not verdicts.unknown_words((example.source_text, example.target_text), VOCABULARY)
        truth = verdicts.true_mask(
            example.toy.scene, example.toy.labels, example.source_text, example.target_text
        )
        assert 0.03 < truth.mean() < 0.95, example.name


def test_examples_on_disk_are_those_of_the_command(shelf, tmp_path):
    examples.write(tmp_path)
    written = examples.examples.__wrapped__(tmp_path)
    for old, new in zip(shelf, written, strict=True):
        assert old.toy.scene == new.toy.scene
        assert (old.source_text, old.target_text) == (new.source_text, new.target_text)
        # fast arithmetic differs in the last bit between processors
        change = np.abs(np.asarray(old.toy.image, int) - np.asarray(new.toy.image, int))
        assert (change > 2).mean() < 0.001, old.name
        assert (old.toy.labels != new.toy.labels).mean() < 0.001, old.name


def test_a_toy_is_its_seed():
    one, same, other = (examples.new_toy(seed) for seed in (5, 5, 6))
    assert isinstance(one.image, Image.Image)
    assert one.scene == same.scene != other.scene
    assert one.image.tobytes() == same.image.tobytes()
    assert set(np.unique(one.labels)) <= set(range(len(one.scene.things) + 1))
