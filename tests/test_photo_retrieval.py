"""Retrieval on a photo pack: the visitor's own pictures, any words, the heads SIMAT published."""

import dataclasses

import pytest
import torch
from PIL import Image
from tiny_pack import CPU, write_clip
from torch import nn

from pipelines import gallery, hub, images, leases, packs, simat
from pipelines.errors import InputError
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.models.dual_encoder import DualEncoder
from pipelines.packs import Component
from pipelines.repositories import HEADS_OF, SIMAT_HEADS
from pipelines.visits import Session
from pipelines.workbench import Services

OTHER = "clip_rn50"
WORDS = "a penguin", "an ostrich"
QUICK = {"heads": "off", "k": 3, "scale": 1.5}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Two small CLIPs, published heads with other numbers, and six pictures."""
    root = tmp_path_factory.mktemp("machine")
    write_clip("vit", root / "clip")
    dim = DualEncoder.from_folder(root / "clip", CPU).dim
    (root / "simat-heads").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = {"img_head": nn.Linear(dim, dim), "txt_head": nn.Linear(dim, dim)}
    torch.save(heads, root / "simat-heads" / "head_clip_t=0.1.pt")
    (root / "mine").mkdir()
    for i in range(6):
        picture = Image.effect_noise((200 + 20 * i, 160), 20 + 15 * i).convert("RGB")
        picture.save(root / "mine" / f"{i}.png")
    return root


@pytest.fixture
def services(machine, monkeypatch):
    monkeypatch.setenv(hub.VARIABLE, str(machine))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(machine / "cache"))
    photo = packs.find("sd15")
    here = {
        HEADS_OF: Component("dual_encoder", str(machine / "clip")),
        "simat_heads": dataclasses.replace(
            photo.component("simat_heads"),
            repository=dataclasses.replace(SIMAT_HEADS, sha256={}),
        ),
    }
    pack = dataclasses.replace(photo, components={**photo.components, **here})
    cache = ModelCache(2**30, packs.LOADERS, packs={pack.name: pack}, device=CPU)
    return Services(cache, Memo(2**24), Gate(), pack, lambda image, name: image)


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def mine(services, session, machine):
    """The visitor's pictures, indexed."""
    return gallery.index_collection(services, session, [machine / "mine"], HEADS_OF, lambda _: None)


def query(session, machine, name="2.png"):
    return gallery.query_of(session, images.decode(machine / "mine" / name))


def test_every_clip_of_the_pack_is_offered_and_no_word_is_strange(services):
    assert {HEADS_OF, OTHER, "clip_rn50x4"} <= set(leases.encoders(services.pack))
    assert not gallery.has_set(services.pack)
    assert gallery.unknown_words(services.pack, WORDS) == {}


@pytest.mark.parametrize("heads", ["off", "0.1"])
def test_own_pictures_answer_free_words(services, session, machine, mine, heads):
    answer = gallery.look(
        services, query(session, machine), WORDS, {**QUICK, "heads": heads}, HEADS_OF, mine
    )
    encoder = DualEncoder.from_folder(machine / "clip", CPU)
    size = encoder.image_size_px
    opened = [images.decode(machine / "mine" / f"{i}.png") for i in range(6)]
    squares = images.to_tensor([images.fit(one, size)[0] for one in opened], size)
    pair = None
    if heads != "off":
        pair = torch.load(machine / "simat-heads" / "head_clip_t=0.1.pt", weights_only=False)
    with torch.no_grad():
        pictures = simat.adapt(encoder.embed_images(squares), pair and pair["img_head"])
        before, after = simat.adapt(encoder.embed_texts(WORDS), pair and pair["txt_head"])
        products = pictures @ (pictures[2] + QUICK["scale"] * (after - before))
    products[2] = -torch.inf  # the query is no answer
    best = products.topk(3)
    assert [tile.caption for tile in answer.tiles] == [f"{i}.png" for i in best.indices.tolist()]
    found = torch.tensor([tile.score for tile in answer.tiles])
    torch.testing.assert_close(found, best.values, rtol=0, atol=1e-4)
    assert {tile.agrees for tile in answer.tiles} == {None}
    assert list(answer.baselines) == ["Image only"]
    assert {word for word, _, _ in answer.words} == set(WORDS)
    if heads == "off":
        gain = {word: after - before for word, after, before in answer.words}
        assert gain[WORDS[1]] > 0 > gain[WORDS[0]]


def test_a_lonely_picture_has_no_answer_and_no_error(services, session, machine):
    alone = [machine / "mine" / "2.png"]
    made = gallery.index_collection(services, session, alone, HEADS_OF, lambda _: None)
    answer = gallery.look(services, query(session, machine), WORDS, QUICK, HEADS_OF, made)
    assert answer.tiles == [] and answer.baselines == {}


@pytest.mark.parametrize(
    ("values", "role", "is_indexed", "phrase"),
    [
        ({}, HEADS_OF, False, "no pictures of its own to search in. Please index"),
        ({}, OTHER, True, "indexed with another CLIP"),
        ({"delta": "sentences"}, HEADS_OF, True, "have no captions"),
        ({"heads": "0.3"}, HEADS_OF, True, "heads of these temperatures: 0.1"),
        ({}, "clip_vit", False, f"one of the CLIPs: .*{HEADS_OF}"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(
    services, session, machine, mine, values, role, is_indexed, phrase
):
    with pytest.raises(InputError, match=phrase):
        gallery.look(
            services, query(session, machine), WORDS, {**QUICK, **values}, role,
            mine if is_indexed else None,
        )  # fmt: skip


def test_heads_are_refused_for_other_clips(services, session, machine):
    other = dataclasses.replace(services.pack.component(HEADS_OF), source=str(machine / "clip"))
    pack = dataclasses.replace(services.pack, components={**services.pack.components, OTHER: other})
    cache = ModelCache(2**30, packs.LOADERS, packs={pack.name: pack}, device=CPU)
    both = dataclasses.replace(services, pack=pack, cache=cache)
    made = gallery.index_collection(both, session, [machine / "mine"], OTHER, lambda _: None)
    with pytest.raises(InputError, match=f"published for {HEADS_OF} alone"):
        gallery.look(both, query(session, machine), WORDS, {**QUICK, "heads": "0.1"}, OTHER, made)


def test_what_is_not_here_is_named_with_its_command(services, session, machine, mine, monkeypatch):
    with pytest.raises(InputError, match=r"timm/resnet50_clip.openai.*MB, MIT.*hf download"):
        gallery.index_collection(services, session, [machine / "mine"], OTHER, lambda _: None)
    assert session.collection is mine
    monkeypatch.delenv(hub.VARIABLE)
    with pytest.raises(InputError, match=r"\(MIT\) is on no hub: run `curl .*SIMAT.*t=0.1.pt`"):
        gallery.look(
            services, query(session, machine), WORDS, {**QUICK, "heads": "0.1"}, HEADS_OF, mine
        )


def test_the_published_heads_are_held_to_their_sum(machine, monkeypatch):
    monkeypatch.setenv(hub.VARIABLE, str(machine))
    with pytest.raises(InputError, match="not the file that was published"):
        packs.find("sd15").component("simat_heads").locate()
