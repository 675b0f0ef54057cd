"""Face sliders without a page, on small untrained networks."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import direction_training, face_numbers, face_sources, faces, packs, recipes
from pipelines import directions as all_directions
from pipelines import lelsd as method
from pipelines.clip2gan import caption_moves, directions
from pipelines.directions import Direction, load
from pipelines.errors import Cancelled, InputError
from pipelines.jobs import Done, Gate
from pipelines.memo import Memo
from pipelines.method_params import FaceParams
from pipelines.metrics.localization import combined, localization_scores
from pipelines.training import inversion_likeness
from pipelines.workbench import Services

EVERY = range(12)
REST = [0.0] * faces.SLOTS
QUICK = {"learning_rate": 0.05, "max_strength": 10.0}


@pytest.fixture(scope="module")
def services(untrained_pack, watched_cache):
    return Services(watched_cache, Memo(2**24), Gate(), untrained_pack, lambda image, name: image)


@pytest.fixture
def desk(services):
    return face_sources.first_desk(services, 3)


@pytest.fixture
def short(monkeypatch):
    """Four batches, and fewer pictures to find a direction's length with."""
    monkeypatch.setattr(method, "BATCHES", 4)
    monkeypatch.setattr(all_directions, "_CALIBRATION", 2)


def at(**places):
    """Strengths with some sliders moved, by their places: at(_0=1.0)."""
    return [places.get(f"_{i}", 0.0) for i in range(faces.SLOTS)]


def picture_of(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
    return Image.fromarray(pixels)


# ---------------------------------------------------------------- faces


def test_a_number_is_a_face_and_the_desk_starts_with_sliders(services, desk):
    again = face_sources.from_seed(services, 3)
    assert recipes.fingerprint(again.picture) == recipes.fingerprint(desk.face.picture)
    assert [one and one.title for one in desk.sliders[:3]] == [
        "hair · LELSD",
        "glasses · LELSD",
        None,
    ]
    other = face_sources.from_seed(services, 4)
    assert recipes.fingerprint(again.picture) != recipes.fingerprint(other.picture)


def test_faces_of_a_text_differ_and_each_is_its_seed(services):
    made = face_sources.from_text(services, " an old person ", FaceParams(), 7)
    prints = [recipes.fingerprint(face.picture) for face in made]
    assert len(set(prints)) == face_sources.RESULTS
    (second,) = face_sources.from_text(services, "an old person", FaceParams(), 8, 1)
    torch.testing.assert_close(second.w_plus, made[1].w_plus)
    assert second.origin == made[1].origin
    with pytest.raises(InputError, match="describe a face"):
        face_sources.from_text(services, "  ", FaceParams(), 0)


@pytest.mark.parametrize("base", ["inverted", "mapped"])
def test_an_upload_is_read_and_refined(services, base):
    face = face_sources.from_picture(services, picture_of(), FaceParams(base=base))
    assert face.upload.size == face.picture.size == (128, 128)
    assert face.distance > 0
    steps = []
    nearer = face_sources.refined(services, face, FaceParams(refine_steps=5), steps.append)
    assert len(steps) == 5
    assert nearer.distance != face.distance
    assert nearer.encoded == face.encoded
    assert nearer.origin == {**face.origin, "refine_steps": [5]}
    with pytest.raises(InputError, match="upload one"):
        face_sources.refined(services, face_sources.from_seed(services, 1), FaceParams(), print)


def test_what_is_no_clay_face_is_told_by_a_measured_limit(services):
    face = face_sources.from_picture(services, picture_of(), FaceParams())
    assert face_sources.likeness(services, face_sources.from_seed(services, 1)) == ""
    assert "clay" not in face_sources.likeness(services, face)
    folder = services.pack.component("face_inversion").locate()
    file = inversion_likeness.main(["--n", "3", "--folder", str(folder.parent), "--device", "cpu"])
    try:
        limits = json.loads(file.read_text())
        assert limits["n"] == 3 and limits["lpips"] >= limits["median"] > 0
        far = dataclasses.replace(face, encoded=limits["lpips"] + 0.1)
        near = dataclasses.replace(face, encoded=limits["lpips"] - 0.1)
        assert "does not look like a clay face" in face_sources.likeness(services, far)
        assert "passes for a clay face" in face_sources.likeness(services, near)
    finally:
        file.unlink()


# ---------------------------------------------------------------- sliders


def test_sliders_at_rest_change_nothing_and_edits_add_up(services, desk):
    still = faces.answer(services, desk, REST, EVERY)
    change = np.subtract(still.picture, desk.face.picture, dtype=int)
    assert np.abs(change).max() <= 1  # rounding: styles of a batch
    assert (
        np.asarray(still.heat).max() <= np.asarray(faces.heat(still.picture, still.picture)).max()
    )
    moved = faces.answer(services, desk, at(_0=1.0, _1=-0.5), EVERY)
    with faces.latents_of(services) as latents:
        w_plus = desk.face.w_plus.clone()
        for slider, strength in zip(desk.sliders[:2], (1.0, -0.5), strict=True):
            w_plus += strength * torch.stack(slider.direction.vectors)
        wanted = faces.images.to_pil(latents.model.synthesis(w_plus))[0]
    assert np.abs(np.subtract(moved.picture, wanted, dtype=int)).max() <= 1
    assert np.abs(np.subtract(moved.picture, still.picture, dtype=int)).max() > 1
    assert np.asarray(moved.heat).max() > 50


def test_only_the_chosen_layers_move(services, desk):
    desk.add(face_sources.part_slider(services, "skin", "stylespace"))
    strengths = at(_0=1.0, _2=1.0)
    with faces.latents_of(services) as latents:
        for layers in ([0, 1], [5], EVERY):
            edits = desk.edits(strengths)
            rest = faces.moved(latents, desk.face, [], layers)
            moved = faces.moved(latents, desk.face, edits, layers)
            changed = {
                layer
                for layer, a, b in zip(latents.model.style_layers, rest, moved, strict=True)
                if not torch.equal(a, b)
            }
            assert changed == set(layers)
    assert faces.layers_of(desk.face, ["coarse", "fine"]) == [0, 1, 2, 3, 8, 9, 10, 11]
    with pytest.raises(InputError, match="No layer may move"):
        faces.layers_of(desk.face, [])


def test_a_direction_in_z_needs_a_face_from_a_number(services, desk):
    with faces.latents_of(services) as latents:
        vector = torch.ones(latents.model.config.z_dim)
        direction = Direction((vector,), "z", "skin", "lelsd", latents.fingerprint)
        place = desk.add(face_sources.own_slider(direction))
        edits = desk.edits(at(_2=1.0))
        z = desk.face.z + vector
        w_plus = latents.model.w_plus(latents.model.mapping(z, psi=latents.psi))
        wanted = latents.codes_of("s", w_plus)
        for a, b in zip(faces.moved(latents, desk.face, edits, EVERY), wanted, strict=True):
            torch.testing.assert_close(a, b)
    assert place == 2
    desk.face = face_sources.from_picture(services, picture_of(), FaceParams())
    with pytest.raises(InputError, match="from a number"):
        faces.answer(services, desk, at(_2=1.0), EVERY)


@pytest.mark.parametrize("mode", face_sources.MODES)
def test_a_text_is_a_slider_in_every_mode(services, desk, mode):
    slider = face_sources.text_slider(services, "wearing a red hat", mode, desk.face)
    with face_sources.clip2gan_of(services) as models:
        if mode == "captions":
            moves = caption_moves(models, desk.face.w_plus, ["wearing a red hat"])
            wanted = moves[0].expand(len(EVERY), -1)
        else:
            wanted = directions(models, ["wearing a red hat"], mode)[0]
    torch.testing.assert_close(torch.stack(slider.direction.vectors), wanted)
    place = desk.add(slider)
    assert faces.answer(services, desk, at(**{f"_{place}": 1.0}), EVERY)
    with pytest.raises(InputError, match="must be a number from -1.5 to 1.5"):
        desk.edits(at(**{f"_{place}": 1.6}))


def test_sliders_of_one_face_alone_follow_the_next_face(services, desk):
    for mode in ("captions", "difference"):
        desk.add(face_sources.text_slider(services, "wearing a red hat", mode, desk.face))
    before = list(desk.sliders)
    other = face_sources.from_seed(services, 4)
    face_sources.hold(services, desk, other)
    assert desk.face is other
    changed = [i for i, one in enumerate(desk.sliders) if one is not before[i]]
    assert [desk.sliders[i].told["mode"] for i in changed] == ["captions"]
    wanted = face_sources.text_slider(services, "wearing a red hat", "captions", other)
    torch.testing.assert_close(desk.sliders[changed[0]].direction.vectors, wanted.direction.vectors)


def test_a_pack_without_the_mapper_of_captions_does_as_published(services, desk):
    components = {k: v for k, v in services.pack.components.items() if k != "caption_mapper"}
    pack = dataclasses.replace(services.pack, components=components)
    published = dataclasses.replace(services, pack=pack)
    assert face_sources.modes(published) == face_sources.MODES[1:]
    (face,) = face_sources.from_text(published, "an old person", FaceParams(), 1, 1)
    (same,) = face_sources.from_text(services, "an old person", FaceParams("pictures"), 1, 1)
    torch.testing.assert_close(face.w_plus, same.w_plus)
    assert face.origin == same.origin and face.origin["mapper"] == "pictures"
    with pytest.raises(InputError, match="one of: difference, published"):
        face_sources.text_slider(published, "an old person", "captions", desk.face)


def test_sliders_that_cannot_be_are_refused(services, desk):
    with pytest.raises(InputError, match=r"For this part there are: .*Random"):
        face_sources.part_slider(services, "hair", "stylespace")
    with pytest.raises(InputError, match="The parts are: glasses, hair, skin"):
        face_sources.part_slider(services, "toes", "lelsd")
    with pytest.raises(InputError, match="already"):
        desk.add(face_sources.part_slider(services, "hair", "lelsd"))
    with pytest.raises(InputError, match="one of: captions, difference"):
        face_sources.text_slider(services, "a hat", "clip", desk.face)
    for bad in (None, "1", float("nan"), True, 4.0):
        with pytest.raises(InputError, match="number from -2 to 2"):
            desk.edits(at(_0=bad))
    for i in range(faces.SLOTS - 2):
        desk.add(face_sources.text_slider(services, f"a hat {'big ' * i}", "difference", desk.face))
    with pytest.raises(InputError, match="remove one"):
        desk.add(face_sources.part_slider(services, "skin", "lelsd"))


def test_a_pack_without_faces_says_so(services):
    photo = dataclasses.replace(services, pack=packs.find("sd15"))
    with pytest.raises(InputError, match="no model for this"):
        face_sources.first_desk(photo, 1)


def test_strip_and_grid_show_what_the_sliders_would(services, desk):
    tiles = faces.strip(services, desk, at(_1=0.4), EVERY, 0)
    assert [caption for _, caption in tiles] == ["-2", "-1", "+0", "+1", "+2"]
    alone = faces.answer(services, desk, at(_0=2.0, _1=0.4), EVERY).picture
    assert np.abs(np.subtract(tiles[-1][0], alone, dtype=int)).max() <= 1
    sheet = faces.grid(services, desk, REST, EVERY, (0, 1), 3)
    margin = sheet.width - 3 * 128
    corner = sheet.crop((margin, margin, margin + 128, margin + 128))
    alone = faces.answer(services, desk, at(_0=-2.0, _1=-2.0), EVERY).picture
    assert np.abs(np.subtract(corner, alone, dtype=int)).max() <= 1
    with pytest.raises(InputError, match="two different"):
        faces.grid(services, desk, REST, EVERY, (1, 1), 3)
    with pytest.raises(InputError, match="one of your sliders"):
        faces.strip(services, desk, REST, EVERY, 7)


# ---------------------------------------------------------------- numbers


def test_the_score_is_the_metric_on_that_slider_alone(services, desk):
    desk.add(face_sources.part_slider(services, "skin", "lelsd"))
    told = face_numbers.measure(services, desk, at(_0=1.0, _2=0.5), EVERY)
    assert set(told.scores) == {"hair · LELSD", "skin · LELSD"}
    with faces.latents_of(services) as latents:
        rest = latents.features("w+", desk.face.w_plus.unbind(1))
        code = desk.face.w_plus + 0.5 * torch.stack(desk.sliders[2].direction.vectors)
        moved = latents.features("w+", code.unbind(1))
        with services.cache.lease(services.pack.name, "face_parser") as parser:
            masks = [parser.part_masks(image, "skin") for image, _ in (rest, moved)]
    layers = [[*features, image] for image, features in (rest, moved)]
    wanted = localization_scores(*layers, combined(*masks, "average")).mean()
    assert told.scores["skin · LELSD"] == pytest.approx(wanted.item(), abs=1e-3)
    assert -1 <= told.identity < 1
    assert told.distance > 0
    still = face_numbers.measure(services, desk, REST, EVERY)
    assert still.scores == {} and still.facts == []
    assert still.identity == pytest.approx(1, abs=1e-4)
    assert still.distance == pytest.approx(0, abs=1e-4)


def test_the_judge_is_asked_for_what_the_texts_say(services, desk):
    (desk.face,) = face_sources.from_text(services, "an old person", FaceParams(), 1, 1)
    slider = face_sources.text_slider(services, "wearing a red hat", "difference", desk.face)
    place = desk.add(slider)
    at_rest = face_numbers.measure(services, desk, REST, EVERY)
    assert [name for name, _ in at_rest.facts] == ["age: old"]
    pulled = face_numbers.measure(services, desk, at(**{f"_{place}": 1.0}), EVERY)
    assert {name for name, _ in pulled.facts} == {"age: old", "hat: any", "hat colour: red"}


def test_a_recipe_names_face_edits_and_layers(services, desk):
    strengths = at(_1=-1.5)
    picture = faces.answer(services, desk, strengths, [0, 4]).picture
    recipe = face_numbers.recipe_of(services, desk, strengths, [0, 4])
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["face"] == {"seed": 3}
    assert recipe["edits"] == [{"part": "glasses", "method": "lelsd", "strength": -1.5}]
    assert recipe["layers"] == [0, 4]
    assert recipe["result"] == recipes.fingerprint(picture)


# ---------------------------------------------------------------- training


def test_a_trained_direction_is_a_slider_and_a_file(services, desk, short, tmp_path):
    lesson = direction_training.lesson("skin", {**QUICK, "num_directions": 2}, 0)
    steps = []
    direction_training.train(services, desk, lesson, steps.append)
    assert [step.index for step in steps] == list(range(1, 9))
    assert len(lesson.learnt) == 2 and lesson.notes == []
    assert len(lesson.curve) == len(lesson.scores) == 8
    slider = lesson.learnt[0]
    assert desk.own[slider.title] is slider
    place = desk.add(slider)
    faces.answer(services, desk, at(**{f"_{place}": 1.0}), EVERY)
    file = tmp_path / "mine.safetensors"
    file.write_bytes(direction_training.file_bytes(slider))
    again = face_sources.slider_from_file(services, file)
    assert again.title == slider.title
    assert load(file).settings["batches"] == 4
    stranger = dataclasses.replace(load(file), generator="another")
    stranger.save(file)
    with pytest.raises(InputError, match="another generator"):
        face_sources.slider_from_file(services, file)
    file.write_bytes(b"no direction")
    with pytest.raises(InputError, match="holds no direction"):
        face_sources.slider_from_file(services, file)


def test_stop_keeps_what_is_learnt(services, desk, short):
    lesson = direction_training.lesson("skin", QUICK, 0)

    def stop_at_two(step):
        if step.index == 2:
            raise Cancelled

    direction_training.train(services, desk, lesson, stop_at_two)
    assert lesson.notes == ["Stopped after 2 of 4 batches."]
    assert lesson.learnt[0].direction.settings["batches"] == 2


def test_stop_keeps_what_is_learnt_in_the_gates_own_thread_too(services, desk, short, monkeypatch):
    monkeypatch.setattr(method, "BATCHES", 200)
    lesson = direction_training.lesson("skin", QUICK, 0)
    gate, learning = Gate(), threading.Event()

    def work(on_step):
        def told(step):
            learning.set()
            on_step(step)

        return direction_training.train(services, desk, lesson, told)

    updates = []
    for update in gate.run("me", work):
        updates.append(update)
        if learning.is_set():
            gate.stop("me")
    assert isinstance(updates[-1], Done)
    assert updates[-1].value.learnt


def test_the_time_limit_ends_a_lesson_with_what_is_learnt(services, desk, short, monkeypatch):
    monkeypatch.setattr(direction_training, "LIMIT_S", 0.0)
    lesson = direction_training.lesson("skin", QUICK, 0)
    direction_training.train(services, desk, lesson, lambda step: None)
    assert lesson.notes == ["Ended after 0 seconds, 1 of 4 batches."]
    assert lesson.learnt


def test_lessons_that_cannot_be_are_refused(services, desk, short):
    with pytest.raises(InputError, match="choose a part"):
        direction_training.lesson(None, {}, 0)
    with pytest.raises(InputError, match="Max strength"):
        direction_training.lesson("skin", {"max_strength": 99}, 0)
    with pytest.raises(InputError, match="The parts are"):
        toes = direction_training.lesson("toes", QUICK, 0)
        direction_training.train(services, desk, toes, lambda step: None)
    with pytest.raises(InputError, match="No picture showed"):
        nothing = direction_training.lesson("earrings", QUICK, 0)
        direction_training.train(services, desk, nothing, lambda step: None)


def test_words_that_no_clay_face_knows_are_named():
    said = "an old person with a flamingo"
    assert face_sources.unknown_words(packs.find("toybox"), said) == {"flamingo": ""}
    assert face_sources.unknown_words(packs.find("ffhq"), said) == {}
    assert "sunglasses" in face_sources.word_groups()["glasses"]
