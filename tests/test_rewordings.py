import pytest

from pipelines.data.captions import caption, parse
from pipelines.data.rewordings import contradictions, rewordings
from pipelines.data.scenes import sample_scene
from pipelines.data.spec import CLASSES, COLOURS, PLACES


def test_a_zebra_may_have_been_a_horse_and_articles_stay_right():
    found = rewordings("a zebra on the grass")
    assert "a horse on the grass" in found
    assert "an orange on the grass" in found
    assert "a zebra at night" in found
    assert "a zebra on the grass" not in found
    assert len(found) == len(set(found)) == len(CLASSES) - 1 + len(PLACES) - 1


def test_the_colour_orange_and_the_fruit_are_told_apart():
    found = rewordings("an orange orange at night")
    assert "an orange pear at night" in found  # the fruit changed
    assert "a red orange at night" in found  # the colour changed
    assert "an orange at night" in found  # the colour left out
    assert not any("red red" in text for text in found)


def test_zebras_take_no_colour():
    assert "a zebra in a room" in rewordings("a red striped horse in a room")
    assert not any(f"{colour} zebra" in t for colour in COLOURS for t in rewordings("a zebra"))


def test_every_rewording_of_a_caption_reads_as_one_change():
    for seed in range(40):
        scene = sample_scene(seed)
        text = caption(scene)
        before = parse(text)
        for other in rewordings(text):
            after = parse(other)
            assert not after.unknown
            assert len(after.things) == len(before.things)
            changed = sum(a != b for a, b in zip(before.things, after.things, strict=True))
            assert changed + (before.place != after.place) == 1, (text, other)


@pytest.mark.parametrize("text", ["A zebra on the grass!", "“a zebra” on the grass.", "a zebra?"])
def test_punctuation_hides_no_word(text):
    found = rewordings(text)
    assert any(other.startswith("a horse") for other in found)
    assert "grass" not in text or "a zebra on the beach" in found


def test_nothing_known_gives_nothing():
    assert rewordings("flamingo") == []
    assert rewordings("") == []


def test_contradictions_replace_a_word_and_add_none():
    text = "a red horse on the beach"
    others = contradictions(text)
    assert "a blue horse on the beach" in others
    assert "a red cow on the beach" in others
    assert "a red horse on the grass" in others
    assert not {"a horse on the beach", "a red striped horse on the beach"} & set(others)
    assert set(others) < set(rewordings(text))
