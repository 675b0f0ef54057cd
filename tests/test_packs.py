import inspect
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipelines import packs, params
from pipelines.errors import InputError
from pipelines.packs import LOADERS, PACKS, Component
from pipelines.registry import METHODS

TOYBOX = PACKS["toybox"]


def test_toybox_entry():
    assert TOYBOX.resolution_px == 128
    assert TOYBOX.licence == "Apache-2.0"
    encoders = {"clip_vit", "clip_resnet", "clip_resnet_large"}
    networks = {"lpips_loss", "lpips_eval", "scene_judge", "scene_segmenter"}
    assert set(TOYBOX.components) == {"latent_diffusion", "retrieval", *encoders, *networks}


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
    return Component("latent_diffusion", "someone/some-model", revision="a" * 40, size_bytes=5)


def test_hub_component_offline_says_what_to_do(monkeypatch, tmp_path):
    component = hub_component(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"someone/some-model is not on this machine.*internet"):
        component.locate()
    assert component.total_bytes() == 5


def test_hub_component_already_here_is_found_offline(monkeypatch, tmp_path):
    component = hub_component(monkeypatch, tmp_path)
    snapshot = tmp_path / "models--someone--some-model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert component.locate() == snapshot


def test_loaders_take_folder_and_device():
    assert all(len(inspect.signature(loader).parameters) == 2 for loader in LOADERS.values())
