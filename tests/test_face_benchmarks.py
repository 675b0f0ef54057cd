import json

import pytest
import torch
from face_models import (
    pictures,
    seeded,
    tiny_caption_mapper,
    tiny_encoder,
    tiny_generator,
    tiny_mapper,
    write_judges,
)
from tiny_pack import CPU, write_clip, write_perceptual

from pipelines.benchmarks import clip2gan, face_judges
from pipelines.data.faces import CHOICES, RANGES, hidden_by, sample_face
from pipelines.data.faces.captions import LEVELS, facts, parse
from pipelines.metrics import face_accuracy
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.face_judge import FaceVerdict
from pipelines.training.common import write_json
from pipelines.training.scene_clip import EMBED_DIM

FACES = [sample_face(seed) for seed in range(40)]


def perfect(faces):
    """What a judge without error says of faces."""
    return FaceVerdict(
        {name: torch.tensor([getattr(face, name) for face in faces]) for name in RANGES},
        {
            name: torch.tensor(
                [[30.0 * (value == getattr(face, name)) for value in odds] for face in faces]
            )
            for name, odds in CHOICES.items()
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with every network of the face world, untrained and tiny."""
    folder, generator = tmp_path_factory.mktemp("faces"), tiny_generator()
    generator.save(folder / "face_stylegan2")
    write_json(folder / "face_stylegan2" / "training.json", {"warm_start": True})
    write_clip("resnet", folder / "clip_resnet", "faces")
    tiny_encoder(generator).save(folder / "face_inversion")
    for name, depth in (("latent_mapper", 12), ("shallow", 4)):
        mapper = tiny_mapper(generator, EMBED_DIM, depth=depth, width=16, clip="clip_resnet")
        mapper.save(folder / name)
        switches = {"depth": depth, "adversarial": True, "diversity": depth == 12}
        write_json(folder / name / "training.json", switches)
    captions = tiny_caption_mapper(generator, EMBED_DIM, clip="clip_resnet")
    captions.save(folder / "caption_mapper")
    write_judges(folder)
    other = seeded(FaceIdentity, width=8, hidden=16, dim=8, seed=1)
    other.save(folder / "face_identity_eval")
    write_perceptual("squeeze", folder / "lpips_eval")
    return folder


# ---------------------------------------------------------------- reading a verdict


def test_a_perfect_judge_finds_every_fact_and_no_other():
    verdict = perfect(FACES)
    for i, face in enumerate(FACES):
        said = facts(face)
        assert face_accuracy.facts_right(verdict, i, said) == 1
        for name, (_, below, _, above) in LEVELS.items():
            if name in said:
                other = above if said[name] == below else below
                assert not face_accuracy.shows(verdict, i, name, other)
        assert face_accuracy.shows(verdict, i, "hat", "any") == (face.hat != "none")
        others = [value for value in CHOICES["shirt"] if value != face.shirt]
        assert not any(face_accuracy.shows(verdict, i, "shirt", value) for value in others)


def test_half_of_the_facts_right_is_one_half():
    face = FACES[0]
    wrong = next(value for value in CHOICES["shirt"] if value != face.shirt)
    said = {"background": face.background, "shirt": wrong}
    assert face_accuracy.facts_right(perfect(FACES), 0, said) == 0.5
    with pytest.raises(ValueError, match="without facts"):
        face_accuracy.facts_right(perfect(FACES), 0, {})


def test_degrees_grow_towards_the_word():
    verdict = perfect(FACES)
    verdict.numbers["smile"] = torch.linspace(-1, 1, 40)
    smiling = [face_accuracy.degree(verdict, i, "smile", "smiling") for i in range(40)]
    frowning = [face_accuracy.degree(verdict, i, "smile", "frowning") for i in range(40)]
    assert smiling == sorted(smiling)
    assert frowning == sorted(frowning, reverse=True)
    assert smiling[0] == pytest.approx(0) and smiling[-1] == pytest.approx(1)
    hats = [face_accuracy.degree(verdict, i, "hat", "any") > 0.5 for i in range(40)]
    assert hats == [face.hat != "none" for face in FACES]


def test_others_kept_counts_what_can_be_seen_and_was_not_asked_for():
    before, after = perfect(FACES), perfect(FACES)
    kept = [
        face_accuracy.others_kept(before, after, i, source=face, edited="smile")
        for i, face in enumerate(FACES)
    ]
    assert kept == [1.0] * len(FACES)
    after.numbers["smile"] += 1
    after.numbers["yaw"] += 0.5
    face = FACES[0]
    seen = [n for n in (*RANGES, *CHOICES) if n != "smile" and hidden_by(face, n) is None]
    found = face_accuracy.others_kept(before, after, 0, source=face, edited="smile")
    assert found == pytest.approx(1 - 1 / len(seen))


def test_scores_of_a_perfect_and_of_a_blind_judge():
    verdict = perfect(FACES)
    found = face_judges.scores(verdict, FACES)
    assert all(value == pytest.approx(1, abs=1e-4) for value, _ in found.values())
    assert found["eye_colour"][1] == sum(face.glasses != "sunglasses" for face in FACES)
    verdict.numbers["age"][:] = verdict.numbers["age"].mean()
    assert face_judges.scores(verdict, FACES)["age"][0] == pytest.approx(0, abs=1e-4)


def test_verification_takes_the_threshold_from_one_half_and_counts_on_the_other():
    same = torch.tensor([0.9, 0.8, 0.7, 0.9, 0.3, 0.9])
    different = torch.tensor([0.1, 0.2, 0.3, 0.0, 0.1, 0.8])
    told = face_judges.verification(same, different)
    assert 0.3 < told.threshold <= 0.7
    assert told.accuracy == pytest.approx((2 / 3 + 2 / 3) / 2)


# ---------------------------------------------------------------- the protocol


@pytest.mark.parametrize("attribute", ["smile", "lips", "hat", "eye_colour"])
def test_edits_can_be_said_and_are_not_true_yet(attribute):
    edit = clip2gan.draw_edit(3, attribute)
    assert edit == clip2gan.draw_edit(3, attribute)
    assert parse(edit.text).facts == {attribute: edit.value}
    assert parse(edit.text).unknown == ()
    verdict = perfect([edit.source, edit.target])
    assert not face_accuracy.shows(verdict, 0, attribute, edit.value)
    assert face_accuracy.shows(verdict, 1, attribute, edit.value)


def test_every_worded_attribute_has_edits():
    for attribute in clip2gan.WORDED:
        edit = clip2gan.draw_edit(0, attribute)
        said = parse(edit.text).facts
        assert said[attribute] == edit.value
        assert said.keys() <= {attribute, attribute.removesuffix("_colour")}  # "a red hat"


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_protocol_runs_to_its_claims(folder, tmp_path):
    file = tmp_path / "out.jsonl"
    command = ["--n", "2", "--real", "2", "--folder", str(folder), "--json", str(file)]
    clip2gan.main([*command, "--variants", str(folder / "shallow")])
    rows = records(file)
    assert {row["generator"] for row in rows} == {"warm start"}
    measured = {(r["metric"], r["method"]) for r in rows if "metric" in r}
    for metric in ("attribute_accuracy", "lpips", "frechet"):
        assert {(metric, m) for m in ("generate", "edit", "render", "copy", "random")} <= measured
    assert {("identity", "edit"), ("diversity", "generate"), ("degree", "edit")} <= measured
    values = {(r["metric"], r["method"], r["setting"]): r["value"] for r in rows if "metric" in r}
    assert values["lpips", "copy", "the source"] == 0
    assert values["identity", "copy", "the source"] == pytest.approx(1, abs=1e-4)
    assert values["others_kept", "copy", "the source"] == 1
    settings = {r["setting"] for r in rows if r.get("method") == "generate"}
    assert "depth 4, adversarial loss" in settings
    assert {"captions, random faces", "captions, average face"} <= settings
    claims = [row["claim"] for row in rows if "claim" in row]
    assert len(claims) == 11
    assert sum("captions" in claim for claim in claims) == 4
    assert any("Tables 3 and 4" in claim for claim in claims)


def test_beta_0_is_the_same_whatever_is_asked(folder):
    models = clip2gan.load_models(folder, folder / "latent_mapper", CPU)
    cases = clip2gan.Editing.__new__(clip2gan.Editing)
    cases.texts, cases.sources = ["a smiling person", "a bald person"], pictures(2)
    every = (*clip2gan.DIRECTIONS, clip2gan.CAPTIONS)
    still = [cases.made(models, d, "inverted", 0.0) for d in every]
    for images in still:
        torch.testing.assert_close(images, still[0], rtol=1e-3, atol=1e-4)
    moved = cases.made(models, "difference", "inverted", 1.0)
    assert (moved - still[0]).abs().max() > 1e-3


def test_the_judges_are_judged(folder, tmp_path):
    file = tmp_path / "out.jsonl"
    face_judges.main(["--n", "4", "--folder", str(folder), "--json", str(file)])
    rows = records(file)
    assert sum(row.get("metric") == "r2" for row in rows) == len(RANGES)
    assert len(CHOICES) - 3 <= sum(row.get("metric") == "accuracy" for row in rows) <= len(CHOICES)
    (claim,) = (row for row in rows if "claim" in row)
    assert not claim["holds"] and "fails on" in claim["evidence"]
    assert sum(row.get("metric") == "verification_accuracy" for row in rows) == 2
