import numpy as np
import open_clip
import pytest
import torch
from test_clip2gan_training import options, state
from tiny_pack import CPU

from pipelines.data.face_rewordings import contradictions
from pipelines.data.face_statements import FACTS, FALSE, STATEMENTS, TRUE, UNSAID, truth
from pipelines.data.faces import hidden_by, sample_face
from pipelines.data.faces.captions import ANY_HAT, LEVELS, caption, facts, parse
from pipelines.models.dual_encoder import DualEncoder
from pipelines.training import scene_clip
from pipelines.training.face_data import render_chunk as render_faces
from pipelines.training.scene_data import render_chunk as render_scenes


def test_every_contradiction_says_one_fact_falsely_in_the_same_manner():
    for seed in range(60):
        face = sample_face(seed)
        text = caption(face, seed)
        said, true = parse(text).facts, facts(face)
        others = contradictions(text)
        assert text not in others
        assert len(set(others)) == len(others)
        for other in others:
            reading = parse(other)
            assert reading.unknown == ()
            changed = {n for n in said if said[n] != reading.facts.get(n)}
            assert reading.facts.keys() == said.keys()
            assert len(changed) == 1
            (name,) = changed
            assert true.get(name) != reading.facts[name]
            assert other.split()[:2] == text.split()[:2] or text.split()[0] in ("a", "an")


def test_contradictions_cover_every_value_that_words_have():
    assert contradictions("a young person") == ["an old person"]
    lips = contradictions("we see a person with red lips")
    assert lips == ["we see a person with pink lips", "we see a person with purple lips"]
    hats = contradictions("a person wearing a red hat")
    assert len(hats) == 7
    assert {parse(text).facts["hat"] for text in hats} == {ANY_HAT}
    assert contradictions("a person wearing a hat") == []
    assert len(contradictions("a bald person")) == 5
    with pytest.raises(ValueError, match="no caption of a face"):
        contradictions("red lips on a person")


def test_negatives_are_drawn_once_each_where_there_are_enough():
    rng = np.random.default_rng(0)
    assert sorted(scene_clip.negatives(["a", "b", "c"], 3, rng)) == ["a", "b", "c"]
    assert scene_clip.negatives(["a"], 2, rng) == ["a", "a"]
    assert scene_clip.negatives([], 2, rng) == []


def test_every_statement_says_one_thing_and_its_truth_is_what_captions_say():
    for (name, value), text in zip(FACTS, STATEMENTS, strict=True):
        said = parse(text).facts
        assert said[name] == value
        assert said.keys() <= {name, name.removesuffix("_colour")}
    for seed in range(60):
        face = sample_face(seed)
        judged, said = dict(zip(FACTS, truth(face), strict=True)), facts(face)
        assert {name: v for (name, v), t in judged.items() if t == TRUE} == said
        for (name, value), told in judged.items():
            if name in said:
                assert told == (TRUE if said[name] == value else FALSE)
            elif name in LEVELS:
                assert told == UNSAID
            elif hidden_by(face, name) == name.removesuffix("_colour"):
                assert (name, told) in (
                    ("hat_colour", FALSE),
                    ("glasses_colour", FALSE),
                    ("hair_colour", UNSAID),
                )
            else:
                assert told == (UNSAID if hidden_by(face, name) else FALSE)


def test_statement_loss_is_each_true_pair_against_all_that_is_false():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    told = torch.tensor([[TRUE, FALSE, UNSAID, FALSE], [FALSE, TRUE, TRUE, UNSAID], [FALSE] * 4])
    losses = []
    for i in range(3):
        for j in range(4):
            if told[i, j] == TRUE:
                row = [logits[i, j], *logits[i, told[i] == FALSE]]
                column = [logits[i, j], *logits[told[:, j] == FALSE, j]]
                losses += [-torch.stack(some).log_softmax(0)[0] for some in (row, column)]
    wanted = torch.stack(losses).mean()
    torch.testing.assert_close(scene_clip.statement_loss(logits, told), wanted)


def test_texts_without_their_padding_embed_alike(tmp_path):
    network = scene_clip.build("resnet", tmp_path, "faces")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    ids = tokenize(["a person", "a smiling person wearing a red hat"])
    short = scene_clip.embed_texts(network, ids)
    torch.testing.assert_close(short, network.encode_text(ids, normalize=True))


def test_a_clip_of_both_worlds_knows_every_word_as_one_token(tmp_path):
    scene_clip.build("resnet", tmp_path, "both")

    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    for seed in range(20):
        text = caption(sample_face(seed))
        ids = tokenize([text])[0]
        words = text.replace(",", " ,").split()
        assert len(ids) == scene_clip.WORLDS["faces"].max_tokens
        end = ids.max()
        assert (ids == end).nonzero()[0].item() == len(words) + 1


def test_clip_trains_on_both_worlds_in_turns(tmp_path):
    work = tmp_path / "work"
    for name, render in (("scenes", render_scenes), ("faces", render_faces)):
        (work / name).mkdir(parents=True)
        render(work / name, 0, 4)
    out = tmp_path / "clip"
    scene_clip.main(options(work, out, 2, "--size", "resnet", "--world", "both"))
    encoder = DualEncoder.from_folder(out, CPU)
    texts = ["a red horse on the beach", "a smiling person wearing a blue beanie"]
    assert encoder.embed_texts(texts).isfinite().all()
    assert state(work, "clip_resnet_both")["progress"]["step"] == 2
