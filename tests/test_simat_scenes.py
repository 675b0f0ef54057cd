import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
from shared_data import shared_data

from pipelines.data import simat_db
from pipelines.data.captions import parse
from pipelines.data.scenes import sample_scene
from pipelines.data.simat_scenes import (
    FIELDS,
    OBJECTS_KEPT,
    QUERIES_PER_IMAGE,
    Triplet,
    agrees,
    build,
    changes,
    sample_scenes,
    sentence_pairs,
    triplet_of,
    wanted_triplet,
)
from pipelines.data.spec import Scene
from pipelines.errors import InputError
from pipelines.metrics.simat import inverse_sqrt_weights, simat_score, standard_error


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(candidates=700)


@pytest.fixture(scope="module")
def toys(scenes):
    return build([triplet_of(scene) for scene in scenes])


def test_scenes_are_pairs_and_survive_json(scenes):
    assert all(len(scene.things) == 2 and scene.relation for scene in scenes)
    told = json.loads(json.dumps([scene.to_dict() for scene in scenes]))
    assert [Scene.from_dict(one) for one in told] == scenes


def test_triplets_pass_the_filters(toys):
    counts = Counter(toys.triplets)
    assert min(counts.values()) >= 2
    objects = Counter((one.subj, one.rel) for one in counts)
    assert max(objects.values()) <= OBJECTS_KEPT
    assert all(not parse(text).unknown for text in toys.captions.values())


def test_every_query_has_an_answer_and_its_picture_is_none(scenes, toys):
    present = set(toys.triplets)
    for query in toys.queries:
        source = toys.triplets[query.image]
        assert query.wanted in present
        assert getattr(source, query.field) == query.value != query.target
        assert replace(source, **{query.field: query.target}) == query.wanted
        assert not query.wanted.holds(scenes[query.image])
    assert {query.field for query in toys.queries} == set(FIELDS)
    assert max(Counter(query.image for query in toys.queries).values()) == QUERIES_PER_IMAGE
    assert len(set(toys.queries)) == len(toys.queries)


def test_halves_share_no_picture(toys):
    halves = {query.image: query.is_test for query in toys.queries}
    assert all(halves[query.image] == query.is_test for query in toys.queries)
    assert abs(sum(halves.values()) - len(halves) / 2) < 0.1 * len(halves)
    assert build(toys.triplets).queries == toys.queries
    assert build(toys.triplets, seed=1).queries != toys.queries


def test_changes_are_those_that_differ_in_one_field():
    present = [Triplet(s, r, o) for s, r, o in ("abc", "dbc", "aec", "abf", "def")]
    found = changes(present)
    first = {(field, "".join(vars(other).values())) for field, other in found[present[0]]}
    assert first == {("subj", "dbc"), ("rel", "aec"), ("obj", "abf")}
    assert found[present[-1]] == []


def test_sentences_change_in_one_word():
    captions = [Triplet(s, "on", o) for s in ("cat", "dog") for o in ("car", "bus")]
    assert sentence_pairs(captions, "subj", "cat", "dog") == [(0, 2), (1, 3)]
    assert sentence_pairs(captions, "obj", "bus", "car") == [(1, 0), (3, 2)]
    assert sentence_pairs(captions, "subj", "cat", "bear") == []


def scene(subj, rel, obj, place="on the grass", colour=None):
    base = sample_scene(3, count=2, relation=rel, place=place)
    things = zip(base.things, (subj, obj), (colour, None), strict=True)
    dressed = [
        replace(thing, class_name=name, colour=paint, pattern="plain")
        for thing, name, paint in things
    ]
    return replace(base, things=tuple(dressed))


def test_beside_holds_both_ways_and_nothing_else_does():
    for relation in ("beside", "in front of", "on", "under"):
        shown = scene("cat", relation, "mushroom")
        assert Triplet("cat", relation, "mushroom").holds(shown)
        assert Triplet("mushroom", relation, "cat").holds(shown) == (relation == "beside")
        assert not Triplet("dog", relation, "mushroom").holds(shown)


@pytest.mark.parametrize(
    ("value", "target", "result", "expected"),
    [
        ("cat", "dog", scene("dog", "on", "car"), True),
        ("cat", "dog", scene("cat", "on", "car"), False),
        ("cat", "dog", scene("dog", "beside", "car"), False),
        ("car", "bus", scene("cat", "on", "bus"), True),
        ("on", "beside", scene("car", "beside", "cat"), True),
        ("on the grass", "at night", scene("cat", "on", "car", "at night"), True),
        ("on the grass", "at night", scene("dog", "on", "car", "at night"), False),
        ("red", "blue", scene("cat", "on", "car", colour="blue"), True),
        ("red", "blue", scene("cat", "on", "car"), False),
        ("cat", "beside", scene("cat", "on", "car"), None),
        ("horse", "zebra", scene("zebra", "on", "car"), None),
        ("blue", "red", scene("cat", "on", "car"), None),
    ],
)
def test_the_oracle_reads_the_scene(value, target, result, expected):
    assert agrees(scene("cat", "on", "car", colour="red"), value, target, result) is expected


def test_without_a_relation_the_toys_are_compared():
    alone = sample_scene(2, count=1)
    alone = replace(alone, things=(replace(alone.things[0], class_name="cat", colour="red"),))
    assert wanted_triplet(alone, "cat", "dog") is None
    assert agrees(alone, "cat", "dog", scene("car", "on", "bus")) is False
    assert agrees(alone, "cat", "dog", scene("dog", "on", "bus")) is True
    assert agrees(alone, alone.place, "at night", scene("cat", "on", "bus", "at night")) is True


def test_score_is_the_weighted_accuracy():
    words = ["cat", "cat", "cat", "cat", "dog"]
    weights = inverse_sqrt_weights(words)
    assert weights == [0.5, 0.5, 0.5, 0.5, 1.0]
    assert simat_score([True, False, False, False, True], weights) == pytest.approx(0.5)
    assert standard_error([True, False] * 50, [1.0] * 100) == pytest.approx(0.05)
    assert standard_error([True] * 5, weights) == 0


def test_the_published_set_reads_as_published():
    folder = shared_data("simat_db")
    published = simat_db.read(folder)
    queries = published.simat.queries
    assert len(queries) == 17_996
    assert Counter(q.is_test for q in queries) == {True: 9_063, False: 8_933}
    assert Counter(q.field for q in queries) == {"obj": 13_765, "subj": 3_753, "rel": 478}
    assert len(set(published.simat.triplets)) == 645
    assert (
        len({q.image for q in queries if q.is_test} & {q.image for q in queries if not q.is_test})
        == 0
    )
    # norm2: how many queries of both halves replace the same word
    assert Counter(q.value for q in queries) == Counter(
        {q.value: n for q, n in zip(queries, published.norm2, strict=True)}
    )
    expected = [n**-0.5 for n in published.norm2]
    assert inverse_sqrt_weights([q.value for q in queries]) == pytest.approx(expected)
    # norm: how many changes of its picture exist before the oracle's filter
    possible = changes(published.simat.triplets)
    triplets = [published.simat.triplets[q.image] for q in queries]
    assert [len(possible[one]) for one in triplets] == list(published.norm)
    assert all(q.wanted in possible for q in queries)


def test_captions_and_files_of_the_published_set():
    published = simat_db.read(shared_data("simat_db"))
    first = published.simat.queries[0]
    assert published.simat.captions[first.wanted] == "A dog laying on a rug."
    assert published.simat.captions[published.simat.triplets[first.image]] == (
        "A dog laying on a pillow."
    )
    path = published.image_path(shared_data("simat_db"), first.image)
    assert path.parts[-3:] == ("images", "A dog laying in pillow", "61.jpg")


def test_another_folder_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no triplets.csv"):
        simat_db.read(tmp_path)
    for name in ("triplets.csv", "transfos.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([["region_id", "subj"], [1, "cat"]])
    (tmp_path / "captions.txt").write_text("A cat.")
    with pytest.raises(InputError, match="not those that SIMAT published"):
        simat_db.read(tmp_path)
