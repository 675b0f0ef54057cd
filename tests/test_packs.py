import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipelines import hub, packs, params, workbench
from pipelines.errors import InputError
from pipelines.packs import LOADERS, PACKS, Component
from pipelines.registry import METHODS, methods

TOYBOX = PACKS["toybox"]


def test_toybox_entry():
    assert TOYBOX.resolution_px == 128
    assert TOYBOX.licence == "Apache-2.0"
    encoders = {"clip_vit", "clip_resnet", "clip_resnet_large"}
    networks = {"lpips_loss", "lpips_eval", "scene_judge", "scene_segmenter"}
    scenes = {"latent_diffusion", "retrieval", *encoders, *networks}
    assert set(TOYBOX.components) == {*scenes, *packs.FACES}


@pytest.mark.parametrize("pack", PACKS.values(), ids=lambda pack: pack.name)
class TestEveryPack:
    def test_kinds_have_loaders(self, pack):
        assert {component.kind for component in pack.components.values()} <= set(LOADERS)

    def test_defaults_are_valid_parameters(self, pack):
        for method, values in pack.defaults.items():
            built = params.build(METHODS[method].load_params(), values)
            assert params.to_dict(built) | dict(values) == params.to_dict(built)

    def test_presets_name_parameters_of_methods(self, pack):
        known = {
            f"{name}.{spec.name}": method.load_params()
            for name, method in METHODS.items()
            for spec in params.specs(method.load_params())
        }
        for preset in pack.presets.values():
            for key, value in preset.items():
                named = [full for full in known if key in (full, full.partition(".")[2])]
                assert named
                for full in named:
                    params.build(known[full], {full.partition(".")[2]: value})

    def test_methods_side_by_side_are_offered(self, pack):
        assert pack.side_by_side <= set(METHODS)
        offered = [method.name for method in methods("text_edit")]
        ticked = pack.ticked(offered)
        assert ticked[0] == offered[0]
        assert set(ticked[1:]) == pack.side_by_side & set(offered)

    def test_words_are_words(self, pack):
        words = pack.words()
        assert words is None or {"zebra", "horse"} <= words


@pytest.mark.parametrize("component", TOYBOX.components.values(), ids=lambda part: part.source)
def test_shipped_components_are_there_with_their_cards(component):
    folder = component.locate()
    assert (folder / "README.md").is_file()
    assert list(folder.rglob("*.safetensors"))
    assert component.total_bytes() == sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file()
    )


@pytest.mark.parametrize("role", TOYBOX.components)
def test_shipped_components_load(role):
    from pipelines.devices import pick

    part = TOYBOX.components[role]
    model = LOADERS[part.kind](part.locate(), pick({"SEMEDIT_DEVICE": "cpu"}))
    assert model.nbytes > 0


def test_every_picture_beside_a_model_opens():
    for file in (packs.ASSETS / "toybox").rglob("*.png"):
        with Image.open(file) as image:
            image.load()


def test_missing_folder_says_what_to_do():
    gone = replace(TOYBOX.components["scene_judge"], source="toybox/no_such_folder")
    with pytest.raises(InputError, match=r"toybox/no_such_folder is missing.*clone"):
        gone.locate()


def test_unknown_pack_and_role_get_sentences():
    with pytest.raises(InputError, match="toybox") as caught:
        packs.find("<b>nope")
    assert "nope" not in str(caught.value)
    with pytest.raises(InputError, match="Toybox.*another pack"):
        TOYBOX.component("no such role")


def hub_component(monkeypatch, cache: Path) -> Component:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv(hub.VARIABLE, raising=False)
    files = hub.Repository(("someone/some-model",), ("config.json",), "MIT", 5)
    return Component("latent_diffusion", "some", files)


def test_hub_component_offline_says_what_to_do(monkeypatch, tmp_path):
    component = hub_component(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"someone/some-model .* is not on this machine.*internet"):
        component.locate()
    assert component.total_bytes() == 5
    assert not component.is_here()


def test_hub_component_already_here_is_found_offline(monkeypatch, tmp_path):
    component = hub_component(monkeypatch, tmp_path / "hub")
    snapshot = tmp_path / "hub" / "models--someone--some-model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    assert component.locate() == snapshot
    assert component.is_here()


def test_parts_come_from_elsewhere_and_count(monkeypatch, tmp_path):
    part = Component("part", "some-vae", hub.Repository(("a/some-vae",), ("v.json",), "MIT", 7))
    whole = replace(hub_component(monkeypatch, tmp_path), parts={"vae": part})
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path))
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "config.json").write_text("{}")
    assert not whole.is_here()
    (tmp_path / "some-vae").mkdir()
    (tmp_path / "some-vae" / "v.json").write_text("{}")
    assert whole.is_here()
    assert whole.total_bytes() == 12
    loaded = whole.load(lambda folder, device, parts: (folder, device, parts), None)
    assert loaded == (tmp_path / "some", None, {"vae": tmp_path / "some-vae"})


@pytest.mark.parametrize("name", ["sd15", "sd21-base", "sd21", "sdxl"])
def test_photo_packs_say_where_their_files_are(name):
    pack = PACKS[name]
    assert pack.words() is None
    assert {f"clip_{clip}" for clip in ("rn50", "rn50x4", "rn50x16", "vit_b_32", "vit_b_16")} <= {
        role for role, part in pack.components.items() if part.kind.startswith("openai_clip/")
    }
    for part in pack.components.values():
        repository = part.repository
        if repository.fetched_by:  # the heads of SIMAT, which are no network
            assert repository.licence and set(repository.sha256) == set(repository.files)
            continue
        assert repository.licence and repository.size_bytes > 1e8
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id) for hub_id in repository.ids)
        assert not [file for file in repository.files if file.endswith((".ckpt", ".pkl", ".pt"))]
        assert set(repository.commits) <= set(repository.ids)
        assert all(re.fullmatch("[0-9a-f]{40}", one) for one in repository.commits.values())
        files = {one for name in repository.files for one in hub.twins(name)}
        assert set(repository.sha256) <= files
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in repository.sha256.values())
    assert pack.components["latent_diffusion"].repository.commits


def test_pictures_of_a_photo_pack_start_from_the_published_guidance():
    method = METHODS["diffedit"]
    values = workbench.preset_values(PACKS["sd15"], method, "faithful")
    assert values["guidance_scale"] == 7.5
    assert (values["solver"], values["num_steps"]) == ("ddim", 50)


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_loaders_take_folder_and_device(loader):
    assert list(inspect.signature(loader).parameters)[:2] == ["folder", "device"]
