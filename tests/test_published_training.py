"""Photographed faces: trainings on published layouts, and the pack in Face sliders."""

import json
from dataclasses import replace

import pytest
import torch
from face_models import seeded
from PIL import Image
from test_bisenet import checkpoint as bisenet_checkpoint
from test_clip2gan_training import options, state
from test_e4e import checkpoint as e4e_checkpoint
from test_stylegan2 import rosinality_checkpoint
from tiny_pack import CPU, write_clip, write_perceptual

from pipelines import face_numbers, face_sources, faces, hub, packs, packs_check
from pipelines.data.faces.sculptor import render_face
from pipelines.data.faces.spec import sample_face
from pipelines.errors import InputError
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.method_params import FaceParams
from pipelines.model_cache import ModelCache
from pipelines.models.bisenet import FILE
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.latent_mapper import LatentMapper
from pipelines.models.published_faces import PublishedFaceParser, any_clip, any_generator
from pipelines.training import inversion, latent_mapper, lelsd_directions
from pipelines.training.face_likeness import DrawnFaces
from pipelines.workbench import Services


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder with a generator of 64 pixels and a parser as published, and small networks."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "generator").mkdir()
    generator = rosinality_checkpoint(channels=(8,) * 5)
    torch.save(generator, folder / "generator" / "stylegan2-ffhq-config-f.pt")
    (folder / "parser").mkdir()
    torch.save(bisenet_checkpoint(), folder / "parser" / FILE)
    write_perceptual("squeeze", folder / "lpips")
    write_clip("resnet", folder / "clip", "faces")
    seeded(FaceIdentity, width=8, hidden=16, dim=8).save(folder / "identity")
    return folder


def frozen(networks):
    names = {"generator": "generator", "perceptual": "lpips", "identity": "identity"}
    named = [[f"--{option}", str(networks / name)] for option, name in names.items()]
    return [*sum(named, []), "--drawn", "6"]


def test_drawn_faces_depend_on_their_numbers_alone(networks):
    generator = any_generator(networks / "generator", CPU)
    few, many = DrawnFaces(generator, 3), DrawnFaces(generator, 5)
    assert torch.equal(few.w, many.w[:3]) and len(many) == 5
    rows, flips = torch.tensor([1, 1]).numpy(), torch.tensor([False, True]).numpy()
    one, mirrored = few.batch(rows, flips)
    assert one.shape == (3, 64, 64)
    torch.testing.assert_close(mirrored, one.flip(-1))  # places in a batch differ by rounding
    torch.testing.assert_close(
        generator.synthesis(generator.w_plus(few.w[1:2])).clamp(-1, 1)[0], one
    )


def test_clip2gan_trains_on_a_published_generator(networks, tmp_path):
    more = ["--clip", str(networks / "clip"), "--depth", "4", "--width", "16"]
    more += ["--warm-start-minutes", "0.01"]
    out = tmp_path / "mapper"
    latent_mapper.main([*options(tmp_path, out, 2, *frozen(networks)), *more])
    mapper = LatentMapper.from_folder(out, CPU)
    assert (mapper.w_layers, mapper.w_dim) == (10, 9)
    assert state(tmp_path, "latent_mapper_warm")
    assert json.loads((out / "training.json").read_text())["samples"] == 4


def test_inversion_trains_on_a_published_generator(networks, tmp_path):
    out = tmp_path / "encoder"
    inversion.main([*options(tmp_path, out, 2, *frozen(networks)), "--width", "16"])
    assert (out / "model.safetensors").is_file()


def test_lelsd_opens_what_is_published(networks, tmp_path):
    args = lelsd_directions.argparse.Namespace(
        generator=networks / "generator", parser=networks / "parser", lpips=networks / "lpips",
        device="cpu",
    )  # fmt: skip
    models = lelsd_directions.open_models(args)
    assert isinstance(models.parser, PublishedFaceParser) and models.is_warm_started is None
    assert models.generator.model.config.size_px == 64


def test_a_folder_without_configuration_must_be_called_after_a_clip(tmp_path):
    with pytest.raises(InputError, match="called after none of OpenAI's CLIPs"):
        any_clip(tmp_path, CPU)


def test_what_is_trained_here_has_its_command(monkeypatch, tmp_path):
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path))
    part = packs.PACKS["ffhq"].component("latent_mapper")
    assert not part.is_here()
    with pytest.raises(InputError, match="Nobody publishes.*training.latent_mapper --generator"):
        part.locate()
    pack = packs.PACKS["ffhq"]
    looked = packs_check.look(pack, "lelsd", pack.component("lelsd"), read_all=False)
    assert looked.state == "missing" and "training.lelsd_directions" in looked.detail
    assert looked.held_to == "trained on this machine, not published"


@pytest.fixture
def ffhq(networks, tmp_path, monkeypatch):
    """Services on the pack of photographed faces, of small networks; clay faces are its faces."""
    own = tmp_path / "own"
    for name in ("e4e-ffhq", "vgg16"):
        (own / name).mkdir(parents=True)
    torch.save(e4e_checkpoint(), own / "e4e-ffhq" / "e4e_ffhq_encode.pt")
    (own / "stylegan2-ffhq").symlink_to(networks / "generator")
    monkeypatch.setenv(hub.VARIABLE, str(own))
    pack = packs.PACKS["ffhq"]
    shipped = packs.Component("face_parser", "toybox/face_parser")
    distance = packs.Component("perceptual", str(networks / "lpips"))
    parts = {"face_parser": shipped, "lpips_loss": distance, "lpips_eval": distance}
    pack = replace(pack, resolution_px=64, components={**pack.components, **parts})
    cache = ModelCache(2**30, packs.LOADERS, device=CPU, packs={"ffhq": pack})
    return Services(cache, Memo(2**20), Gate(), pack, lambda picture, name: name)


def test_a_face_of_ones_own_is_aligned_inverted_and_measured(ffhq):
    plain = {"glasses": "none", "hat": "none", "hair": "short", "yaw": 0.0, "pitch": 0.0}
    render = Image.fromarray(render_face(replace(sample_face(3), **plain), 256).image)
    wide = Image.new("RGB", (420, 300), render.getpixel((4, 4)))
    wide.paste(render, (100, 20))
    face = face_sources.from_picture(ffhq, wide, FaceParams())
    assert face.w_plus.shape == (1, 10, 9) and face.upload.size == (64, 64)
    assert face.distance == face.encoded > 0 and "LPIPS" in face_sources.likeness(ffhq, face)
    desk = faces.Desk(face)
    told = face_numbers.measure(ffhq, desk, [0.0] * faces.SLOTS, range(10))
    assert told.identity is None and told.distance == 0 and told.facts == []
    with pytest.raises(InputError, match="No face was found"):
        face_sources.from_picture(ffhq, Image.new("RGB", (200, 200)), FaceParams())


def test_the_pack_opens_without_directions_and_says_how_to_train_them(ffhq):
    desk = face_sources.first_desk(ffhq, 1)
    assert desk.sliders == [None] * faces.SLOTS
    with pytest.raises(InputError, match=r"Nobody publishes.*training\.latent_mapper"):
        face_sources.text_slider(ffhq, "a smile", face_sources.modes(ffhq)[0], desk.face_in_hand)
    with pytest.raises(InputError, match=r"Nobody publishes.*training\.lelsd_directions"):
        face_sources.part_slider(ffhq, "hair", "lelsd")
