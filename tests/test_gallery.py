import dataclasses

import pytest
import torch
from PIL import Image

from pipelines import gallery, leases, packs, params, retrieval_desk, simat
from pipelines.data.simat_scenes import Triplet, agrees, wanted_triplet
from pipelines.data.spec import WORDS
from pipelines.errors import InputError
from pipelines.examples import new_toy
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.method_params import RetrievalParams
from pipelines.models.retrieval_index import VectorIndex
from pipelines.training.adaptation_heads import TEMPERATURES
from pipelines.visits import Session
from pipelines.workbench import Services

CLIP = "clip_resnet"
QUICK = {"k": 4}


@pytest.fixture(scope="module")
def services(untrained_pack, watched_cache):
    return Services(watched_cache, Memo(2**24), Gate(), untrained_pack, lambda image, name: image)


@pytest.fixture(scope="module")
def known(services):
    with services.cache.lease(services.pack.name, "retrieval") as known:
        yield known


@pytest.fixture
def session():
    return Session()


def asked(services, session, kind="subj"):
    """The first query of a kind: (query, words, row)."""
    with services.cache.lease(services.pack.name, "retrieval") as known:
        one = next(q for q in known.simat.queries if q.field == kind)
    picture = gallery.from_set(services, session, one.image)
    return gallery.query_of(session, picture), (one.value, one.target), one


def test_every_clip_of_the_pack_is_encoded(services, known):
    assert set(leases.encoders(services.pack)) == set(known.encoded)
    options = next(s for s in params.specs(RetrievalParams) if s.name == "heads").options
    assert set(options) == {"off", *TEMPERATURES}
    for encoded in known.encoded.values():
        assert encoded.images.shape[0] == len(known) == len(known.simat.triplets)
        assert len(encoded.captions) == len(known.simat.captions)
        assert list(encoded.heads) == list(TEMPERATURES)


@pytest.mark.parametrize("heads", ["off", "0.1"])
@pytest.mark.parametrize("role", ["clip_vit", "clip_resnet"])
def test_results_are_those_of_the_method(services, session, known, heads, role):
    query, words, one = asked(services, session)
    values = {"heads": heads, "scale": 1.5, **QUICK}
    answer = gallery.look(services, query, words, values, role)
    encoded = known.encoded[role]
    pair = None if heads == "off" else encoded.heads[heads]
    database = simat.adapt(encoded.images, pair and pair.image)
    w1, w2 = (encoded.words[WORDS.index(word)] for word in words)
    delta = simat.adapt(w2, pair and pair.text) - simat.adapt(w1, pair and pair.text)
    products = database @ (database[one.image] + 1.5 * delta)
    products[one.image] = -torch.inf
    best = products.topk(4)
    assert [tile.row for tile in answer.tiles] == best.indices.tolist()
    torch.testing.assert_close(
        torch.tensor([tile.score for tile in answer.tiles]), best.values.detach()
    )
    for tile in answer.tiles:
        assert tile.agrees == one.wanted.holds(known.scenes[tile.row])
        assert tile.caption == known.captions[tile.row]


def test_a_picture_of_the_set_never_answers_itself_and_needs_no_network(services, session):
    query, words, one = asked(services, session, "obj")
    cache = services.cache
    before = [entry.name for entry in cache.state() if "clip" in entry.name]
    answer = gallery.look(services, query, words, {"scale": 0.0, "k": 10}, "clip_resnet_large")
    assert one.image not in [tile.row for tile in answer.tiles]
    assert one.image not in [tile.row for tile in answer.baselines.values()]
    assert [entry.name for entry in cache.state() if "clip" in entry.name] == before
    assert [tile.row for tile in answer.tiles][0] == answer.baselines["Image only"].row


def test_a_toy_scene_or_a_photo_is_embedded_once(services, session):
    toy = new_toy(3)
    session.remember("toy-3", toy)
    query = gallery.query_of(session, toy.image)
    assert (query.scene, query.row) == (toy.scene, None)
    first = gallery.look(services, query, ("cat", "dog"), QUICK, CLIP)
    misses = services.memo.stats().misses
    again = gallery.look(services, query, ("cat", "dog"), {**QUICK, "scale": 2.0}, CLIP)
    assert services.memo.stats().misses == misses
    assert first.report() != again.report()
    photo = Image.effect_noise((300, 200), 60).convert("RGB")
    answer = gallery.look(services, gallery.query_of(session, photo), ("a", "b"), QUICK, CLIP)
    assert {tile.agrees for tile in answer.tiles} == {None}
    assert "Text to image" not in answer.baselines
    assert any("wanted caption" in note for note in answer.notes)


def test_the_wanted_caption_is_the_triplets_or_the_scenes_own(known):
    row = next(i for i, scene in enumerate(known.scenes) if scene.relation == "on")
    scene = known.scenes[row]
    shown = known.simat.triplets[row]
    asked = wanted_triplet(scene, "on", "beside")
    assert asked == ("rel", Triplet(shown.subj, "beside", shown.obj))
    assert retrieval_desk.wanted_caption(scene, "on", "beside") == asked[1].caption
    moved = retrieval_desk.wanted_caption(scene, scene.place, "at night")
    assert moved == known.captions[row].replace(scene.place, "at night")
    assert retrieval_desk.wanted_caption(scene, "flamingo", "cat") is None
    assert retrieval_desk.wanted_caption(None, "on", "beside") is None
    assert agrees(scene, "on", "beside", scene) is False


def test_sentences_are_averaged_or_refused(services, session):
    query, words, _ = asked(services, session)
    by_word, by_sentence = (
        gallery.look(services, query, words, {"delta": how, **QUICK}, CLIP)
        for how in ("words", "sentences")
    )
    scores = [[tile.score for tile in one.tiles] for one in (by_word, by_sentence)]
    assert scores[0] != scores[1]
    with pytest.raises(InputError, match="No two captions"):
        gallery.look(services, query, ("red", "blue"), {"delta": "sentences"}, CLIP)


def test_examples_are_of_every_kind_and_known_again(services, session, known):
    shelf = gallery.examples(services)
    kinds = [
        next(q.field for q in known.simat.queries if (q.image, q.value, q.target) == found)
        for found in ((e.row, e.value, e.target) for e, _ in shelf)
    ]
    assert set(kinds) == {q.field for q in known.simat.queries if q.is_test}
    example, picture = shelf[0]
    gallery.from_set(services, session, example.row)
    assert gallery.query_of(session, picture.copy()).row == example.row


def test_words_say_where_the_point_went(services, session, known):
    query, words, _ = asked(services, session)
    near, far = (
        gallery.look(services, query, words, {"scale": scale, "heads": "off"}, CLIP)
        for scale in (0.0, 5.0)
    )
    assert all(after == pytest.approx(before, abs=1e-5) for _, after, before in near.words)
    gain = {word: after - before for word, after, before in far.words}
    if words[1] in gain:
        assert gain[words[1]] > 0
    ordered = [after for _, after, _ in far.words]
    assert ordered == sorted(ordered, reverse=True)


def test_a_collection_is_searched_instead_of_the_set(services, session, tmp_path, known):
    for row in range(5):
        known.thumbnail(row).save(tmp_path / f"{row}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    steps = []
    made = gallery.index_collection(services, session, [tmp_path], CLIP, steps.append)
    assert session.collection is made
    assert len(made) == 5
    query = gallery.query_of(session, gallery.from_set(services, session, 7))
    answer = gallery.look(services, query, ("cat", "dog"), QUICK, CLIP, made)
    assert len(answer.tiles) == 4
    assert {tile.caption for tile in answer.tiles} <= {f"{row}.png" for row in range(5)}
    assert any("broken.png" in note for note in answer.notes)
    with pytest.raises(InputError, match="another CLIP"):
        gallery.look(services, query, ("cat", "dog"), QUICK, "clip_vit", made)


@pytest.mark.parametrize(
    ("words", "values", "role", "phrase"),
    [
        (("", "dog"), {}, CLIP, "two words"),
        (("cat", None), {}, CLIP, "two words"),
        (("cat", " CAT "), {}, CLIP, "the same"),
        (("cat", "x" * 101), {}, CLIP, "100 characters"),
        (("cat", "dog"), {"k": 11}, CLIP, "from 1 to 10"),
        (("cat", "dog"), {"heads": "0.2"}, CLIP, "must be one of"),
        (("cat", "dog"), {"magic": 1}, CLIP, "not known here"),
        (("cat", "dog"), {}, "latent_diffusion", "one of the CLIPs"),
    ],
)
def test_bad_input_gets_a_sentence(services, session, words, values, role, phrase):
    query, _, _ = asked(services, session)
    with pytest.raises(InputError, match=phrase):
        gallery.look(services, query, words, values, role)


def test_what_is_missing_gets_a_sentence(services, session, known):
    with pytest.raises(InputError, match="choose a picture"):
        gallery.query_of(session, None)
    with pytest.raises(InputError, match="numbers 0 to"):
        gallery.from_set(services, session, len(known))
    found = gallery.unknown_words(services.pack, ["a flamingo", None])
    assert found == {"flamingo": ""}


def test_the_index_of_the_set_is_made_once(services, session, monkeypatch):
    query, words, _ = asked(services, session)
    gallery.look(services, query, words, {"heads": "0.3"}, CLIP)
    monkeypatch.setattr(VectorIndex, "exact", None)  # a second one would fail
    assert gallery.look(services, query, words, {"heads": "0.3", "scale": 2.0}, CLIP).tiles


def test_a_pack_without_a_set_says_so(services, session):
    photo = dataclasses.replace(services, pack=packs.find("sd15"))
    query = gallery.query_of(session, Image.new("RGB", (64, 64)))
    with pytest.raises(InputError, match="Stable Diffusion 1.5.*index some of yours"):
        gallery.look(photo, query, ("a", "b"), QUICK, "clip_rn50")
