import numpy as np
import pytest

from pipelines.errors import InputError
from pipelines.layouts import MAX_SEGMENTS, Layout, Segment, check_layout, nearest_labels


def two_bars():
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 4:12] = 2
    labels[:, 20:28] = 5
    return labels


def test_segments_are_numbered_anew_in_the_order_of_the_palette():
    texts = ["", " a  horse ", "", "", "a cat"]
    layout = check_layout("at night", texts, two_bars())
    assert layout.segments == (Segment("a horse"), Segment("a cat"))
    assert (layout.labels[:, 4:12] == 1).all()
    assert (layout.labels[:, 20:28] == 2).all()
    assert (layout.labels > 0).sum() == 2 * 8 * 32


@pytest.mark.parametrize(
    ("texts", "change", "phrase"),
    [
        (["", "a horse", "", "", ""], None, "Segment 5 is painted but has no words"),
        (["a dog", "a horse", "", "", "a cat"], None, "Segment 1 has words but no paint"),
        (["", "a horse", "", "", "a cat"], "clear", "Nothing is painted"),
        (["", "a horse", "", "", ", !"], None, "Segment 5 is painted but has no words"),
        (["", "a horse", "", "", "a cat"], "dot", "Segment 5 is too small"),
        (["", "a horse", "", "", "a" * 2000], None, "below 1000 characters"),
    ],
)
def test_bad_paintings_get_a_sentence(texts, change, phrase):
    labels = two_bars()
    if change == "clear":
        labels[:] = 0
    if change == "dot":
        labels[labels == 5] = 0
        labels[3, 3] = 5
    with pytest.raises(InputError, match=phrase):
        check_layout("at night", texts, labels)


def test_a_segment_that_another_covers_gets_a_sentence():
    labels = two_bars()
    labels[labels == 5] = 2
    with pytest.raises(InputError, match="Segment 5 .* another segment may cover it"):
        check_layout("at night", ["", "a horse", "", "", "a cat"], labels)


def test_too_many_segments_get_a_sentence():
    labels = np.arange(MAX_SEGMENTS + 1, dtype=np.uint8).repeat(8)[None].repeat(8, 0) + 1
    with pytest.raises(InputError, match="At most"):
        check_layout("", ["a cat"] * (MAX_SEGMENTS + 1), labels)


@pytest.mark.parametrize(
    ("prompt", "words", "text"),
    [
        ("a horse at night", ["a horse"], "a horse at night"),
        ("at night", ["a horse", "a cat"], "at night, a horse, a cat"),
        ("A Horse, at night", ["a horse"], "A Horse, at night"),
        ("seahorses at night", ["horse"], "seahorses at night, horse"),
        ("", ["a cat", "a cat"], "a cat"),
        ("a red, car at night", ["a red car"], "a red, car at night, a red car"),
        ("a cat a dog at night", ["a cat, a dog"], "a cat a dog at night, a cat, a dog"),
    ],
)
def test_words_the_prompt_does_not_say_are_appended_once(prompt, words, text):
    segments = tuple(Segment(word) for word in words)
    assert Layout(prompt, segments, np.zeros((4, 4), np.uint8)).text == text


def test_painted_colours_mean_the_nearest_of_the_palette():
    palette = [(255, 0, 0), (0, 0, 255)]
    painted = np.zeros((2, 3, 4), np.uint8)
    painted[0] = [(250, 8, 3, 255), (10, 0, 240, 255), (255, 0, 0, 100)]  # the last is a faint rim
    painted[1, 0] = (200, 30, 90, 130)
    assert nearest_labels(painted, palette).tolist() == [[1, 2, 0], [1, 0, 0]]
