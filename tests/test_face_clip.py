import numpy as np
import open_clip
import pytest
from test_clip2gan_training import options, state
from tiny_pack import CPU

from pipelines.data.face_rewordings import contradictions
from pipelines.data.faces import sample_face
from pipelines.data.faces.captions import ANY_HAT, caption, facts, parse
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
