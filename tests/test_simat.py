"""In a space where a picture is the sum of its parts, arithmetic must be exact."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from pipelines import simat
from pipelines.models.retrieval_index import VectorIndex

SUBJECTS, OBJECTS = 4, 5
PAIRS = list(itertools.product(range(SUBJECTS), range(OBJECTS)))
BASIS = torch.eye(SUBJECTS + OBJECTS)
WORDS = BASIS[:SUBJECTS]
PICTURES = torch.stack([F.normalize(BASIS[s] + BASIS[SUBJECTS + o], dim=0) for s, o in PAIRS])
EXACT_SCALE = 0.5**0.5  # of a part in a unit vector of two


@pytest.fixture(scope="module")
def index():
    return VectorIndex.exact(PICTURES)


def queries():
    """Every picture with every other subject: (row, word, wanted word, wanted row)."""
    return [
        (PAIRS.index((s, o)), s, t, PAIRS.index((t, o)))
        for s, o in PAIRS
        for t in range(SUBJECTS)
        if t != s
    ]


def test_the_delta_of_two_words_exchanges_the_subject_and_keeps_the_object(index):
    rows, before, after, wanted = map(list, zip(*queries(), strict=True))
    deltas = simat.word_delta(WORDS[before], WORDS[after])
    found = simat.simat(index, PICTURES[rows], deltas, scale=EXACT_SCALE, k=3, itself=rows)
    assert found.rows[:, 0].tolist() == wanted
    torch.testing.assert_close(found.scores[:, 0], torch.ones(len(rows)))


def test_the_moved_point_is_not_normalised_again(index):
    deltas = simat.word_delta(WORDS[:1], WORDS[1:2])
    moved = simat.transform(PICTURES[:1], deltas, 3.0)
    torch.testing.assert_close(moved, PICTURES[:1] + 3 * deltas)
    found = simat.simat(index, PICTURES[:1], deltas, scale=3.0, k=4, itself=[0])
    expected = (moved @ PICTURES[1:].T).topk(4).values
    torch.testing.assert_close(found.scores, expected)


def test_without_a_change_it_is_the_image_baseline_and_never_the_picture_itself(index):
    rows = list(range(len(PAIRS)))
    none = torch.zeros(1, SUBJECTS + OBJECTS)
    unmoved = simat.simat(index, PICTURES, none, scale=1.0, k=6, itself=rows)
    alone = simat.image_only(index, PICTURES, 6, itself=rows)
    assert torch.equal(unmoved.rows, alone.rows)
    assert not (unmoved.rows == torch.tensor(rows).unsqueeze(1)).any()
    assert alone.rows.shape == (len(rows), 6)


def test_leaving_itself_out_is_what_brute_force_does():
    generator = torch.Generator().manual_seed(3)
    vectors = F.normalize(torch.randn(50, 6, generator=generator), dim=1)
    points = torch.randn(50, 6, generator=generator)  # rarely closest to their own row
    found = simat.nearest(VectorIndex.exact(vectors), points, 5, itself=range(50))
    products = points @ vectors.T
    products.fill_diagonal_(-torch.inf)
    assert torch.equal(found.rows, products.topk(5).indices)


def test_a_small_index_gives_what_it_has():
    index = VectorIndex.exact(PICTURES[:3])
    assert simat.nearest(index, PICTURES[:1], 10).rows.shape == (1, 3)
    rows = simat.nearest(index, PICTURES[:1], 10, itself=[0]).rows
    assert sorted(rows[0].tolist()) == [1, 2]


def test_sentences_average_to_the_delta_of_their_word_where_captions_are_sums():
    """Captions are the pictures' own vectors here; each pair differs in the subject alone."""
    pairs = [(PAIRS.index((0, o)), PAIRS.index((2, o))) for o in range(OBJECTS)]
    delta = simat.sentence_delta(PICTURES, pairs)
    torch.testing.assert_close(delta, EXACT_SCALE * simat.word_delta(WORDS[0], WORDS[2]))


def test_baselines_with_captions(index):
    rows, before, after, wanted = map(list, zip(*queries(), strict=True))
    found = simat.text_to_image(index, PICTURES[wanted], 1, itself=rows)
    assert found.rows[:, 0].tolist() == wanted
    deltas = simat.word_delta(WORDS[before], WORDS[after])
    noisy = PICTURES[rows] + 0.1 * torch.randn(
        len(rows), SUBJECTS + OBJECTS, generator=torch.Generator().manual_seed(0)
    )
    through = simat.image_to_text_to_image(
        index, noisy, PICTURES, deltas, scale=EXACT_SCALE, k=1, itself=rows
    )
    assert through.rows[:, 0].tolist() == wanted  # the noise is gone with the picture


def test_adapting_is_head_then_unit_length():
    embeds = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(simat.adapt(embeds, None), torch.tensor([[0.6, 0.8]]))
    doubled = simat.adapt(embeds, lambda x: x + torch.tensor([1.0, -4.0]))
    torch.testing.assert_close(doubled, torch.tensor([[1.0, 0.0]]))
