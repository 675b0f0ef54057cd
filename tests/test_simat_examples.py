import json
import shutil

import pytest
import torch
from tiny_pack import CPU

from pipelines import gallery, leases, packs, weights
from pipelines.data.simat_scenes import Transformation, Triplet
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.models.retrieval_set import (
    EXAMPLES,
    Example,
    RetrievalSet,
    read_examples,
    write_examples,
)
from pipelines.training import simat_examples
from pipelines.visits import Session
from pipelines.workbench import Services

WANTED = Triplet("dog", "on", "car")
BY_RIGHT = [  # (field, value, target, results that are right), the best last
    ("subj", "cat", "dog", (True, False, False)),
    ("subj", "cow", "horse", (False, True, True)),
    ("subj", "dog", "sheep", (True, True, False)),
    ("subj", "bear", "fish", (True, False, True)),
    ("rel", "on", "under", (False, False, False)),
    ("rel", "under", "on", (True, True, True)),
    ("rel", "on", "beside", (True, True, True)),
]


def test_the_best_of_a_kind_are_chosen_and_a_word_comes_once():
    queries = [
        Transformation(row, field, value, target, WANTED, True)
        for row, (field, value, target, _) in enumerate(BY_RIGHT)
    ]
    right = torch.tensor([shown for *_, shown in BY_RIGHT])
    assert simat_examples.chosen(queries, right) == [
        Example(2, "dog", "sheep"),
        Example(3, "bear", "fish"),  # "dog" was used; "cow" is answered wrongly first
        Example(5, "under", "on"),
    ]
    others = simat_examples.chosen(queries, right, lambda image: image not in (2, 5))
    assert others == [
        Example(3, "bear", "fish"),
        Example(0, "cat", "dog"),
        Example(6, "on", "beside"),
    ]


def test_examples_are_read_as_written(tmp_path):
    assert read_examples(tmp_path) == []
    some = [Example(3, "cat", "dog"), Example(1, "on", "under")]
    write_examples(tmp_path, some, {"clip": "clip_vit"})
    assert read_examples(tmp_path) == some


@pytest.fixture(scope="module")
def services():
    pack = packs.find("toybox")
    cache = ModelCache(2**30, packs.LOADERS)
    return Services(cache, Memo(2**26), Gate(), pack, lambda image, name: name)


def test_every_shipped_example_is_answered_rightly(services):
    role = leases.encoders(services.pack)[0]
    shelf = gallery.examples(services)
    assert len(shelf) >= 6
    for one, picture in shelf:
        with services.cache.lease(services.pack.name, "retrieval") as known:
            assert simat_examples.is_plain(known.scenes[one.row])
        session = Session()
        gallery.from_set(services, session, one.row)
        query = gallery.query_of(session, picture)
        answer = gallery.look(services, query, (one.value, one.target), {}, role)
        assert answer.tiles[0].agrees, (
            f"{one} fails: run pipelines.training.simat_examples, as after every training"
        )


def test_shipped_examples_are_of_the_shipped_clip(services):
    folder, role = (
        services.pack.component("retrieval").locate(),
        leases.encoders(services.pack)[0],
    )
    told = json.loads((folder / EXAMPLES).read_text())
    clip = services.pack.component(role).locate()
    assert (told["clip"], told["fingerprint"]) == (role, weights.fingerprint(clip))


def test_the_command_chooses_among_test_queries(untrained_pack, tmp_path, capsys):
    folder = tmp_path / "retrieval"
    shutil.copytree(untrained_pack.component("retrieval").locate(), folder)
    (folder / EXAMPLES).unlink()
    simat_examples.main(["--set", str(folder), "--clip", "clip_vit"])
    assert json.loads((folder / EXAMPLES).read_text())["clip"] == "clip_vit"
    known = RetrievalSet.from_folder(folder, CPU)
    asked = {(q.image, q.value, q.target) for q in known.simat.queries if q.is_test}
    assert {(one.row, one.value, one.target) for one in known.examples} <= asked
    assert capsys.readouterr().out.count("test queries are answered rightly") == 3
