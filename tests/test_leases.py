import dataclasses

import pytest

from pipelines import examples, params, workbench
from pipelines.errors import InputError
from pipelines.jobs import Gate
from pipelines.leases import models_for, options, roles_of
from pipelines.memo import Memo
from pipelines.method_params import FlexITParams
from pipelines.packs import PACKS
from pipelines.registry import METHODS


@pytest.fixture
def services(untrained_pack, watched_cache):
    return workbench.Services(
        watched_cache, Memo(2**20), Gate(), untrained_pack, lambda image, name: name
    )


def leased(cache):
    return {entry.name.partition("/")[2] for entry in cache.state() if entry.state == "leased"}


def test_a_method_holds_what_it_takes_while_it_runs(services):
    encoders = {"clip_vit", "clip_resnet", "clip_resnet_large"}
    with models_for(services.cache, services.pack, METHODS["flexit"], {}) as models:
        assert leased(services.cache) == {*encoders, "lpips_loss"}
        assert set(models["clips"]) == encoders
        assert models["perceptual"].network.pnet_type == "squeeze"
    assert leased(services.cache) == set()
    with models_for(services.cache, services.pack, METHODS["diffedit"], {}) as models:
        assert models == {}
        assert leased(services.cache) == set()


def test_flexit_follows_the_networks_of_its_own_pack(services):
    flexit, (spec,) = METHODS["flexit"], (
        one for one in params.specs(FlexITParams) if one.name == "networks"
    )  # fmt: skip
    published = ("clip_rn50", "clip_rn50x4", "clip_rn50x16", "clip_vit_b_32", "clip_vit_b_16")
    assert options(PACKS["sd15"], spec) == ("all", *published)
    assert set(options(services.pack, spec)) == {
        "all",
        "clip_vit",
        "clip_resnet",
        "clip_resnet_large",
    }
    one = {"networks": "clip_resnet"}
    with models_for(services.cache, services.pack, flexit, one) as models:
        assert set(models["clips"]) == {"clip_resnet"}
        assert leased(services.cache) == {"clip_resnet", "lpips_loss"}
    assert set(roles_of(PACKS["sd15"], flexit, {"networks": "clip_rn50"})) == {
        "latent_diffusion", "clip_rn50", "vqgan", "lpips_loss",
    }  # fmt: skip
    task = workbench.task("flexit", {"networks": "clip_rn50"})
    with pytest.raises(
        InputError, match="CLIP networks must be one of: all, clip_resnet, clip_vit"
    ):
        with models_for(services.cache, services.pack, flexit, task.values):
            pass
    for wrong in ("clip rn50", "../x", "", "x" * 41, 7, None):
        with pytest.raises(InputError, match="CLIP networks must be one of"):
            workbench.task("flexit", {"networks": wrong})


def test_faces_are_moved_in_the_codes_of_their_generator(services):
    flexit, faces = METHODS["flexit"], {"space": "faces"}
    roles = {"clip_faces", "face_stylegan2", "face_inversion", "lpips_loss"}
    with models_for(services.cache, services.pack, flexit, faces) as models:
        assert leased(services.cache) == roles
        assert set(models["clips"]) == {"clip_faces"}
    assert set(roles_of(services.pack, flexit, faces)) == {"latent_diffusion", *roles}
    values = {**faces, "num_steps": 2, "snapshot_every": 0}
    order = workbench.Order(
        examples.examples()[0].toy.image, "a face", "a face with a hat", 3,
        [workbench.task("flexit", values)],
    )  # fmt: skip
    workbench.carry_out(services, order, lambda step: None)
    assert {"clip_faces", "space", "perceptual"} == set(order.results[0].recipe["further_models"])
    with pytest.raises(InputError, match="CLIP networks must be one of: all, clip_faces"):
        with models_for(services.cache, services.pack, flexit, {**faces, "networks": "clip_vit"}):
            pass
    with pytest.raises(InputError, match="Choose another pack"):
        with models_for(services.cache, PACKS["sd15"], flexit, faces):
            pass


def test_a_pack_without_the_models_gets_a_sentence(services):
    components = services.pack.components
    few = dataclasses.replace(
        services.pack,
        components={role: p for role, p in components.items() if p.kind != "dual_encoder"},
    )
    with pytest.raises(InputError, match="another pack"):
        with models_for(services.cache, few, METHODS["flexit"], {}):
            pass


def test_flexit_shows_its_curves_its_way_and_every_model_in_the_recipe(services):
    toy = examples.examples()[0].toy
    values = {"num_steps": 8, "snapshot_every": 8, "augmentations": 0}
    order = workbench.Order(toy.image, "a cat", "a dog", 3, [workbench.task("flexit", values)])
    stages = []
    workbench.carry_out(services, order, lambda step: stages.append(step.stage))
    (one,) = order.results
    assert stages == ["optimising"] * 8
    assert set(one.curves) == {"clip", "lpips", "latent", "total"}
    assert all(len(row) == 9 for row in one.curves.values())
    assert [caption for _, caption in one.snapshots] == ["step 0", "step 8"]
    roles = {"clip_vit", "clip_resnet", "clip_resnet_large", "perceptual"}
    assert set(one.recipe["further_models"]) == roles
    assert all(one.recipe["further_models"].values())


def test_a_preset_may_speak_to_one_method(services):
    fast = {
        name: workbench.preset_values(services.pack, METHODS[name], "fast")["num_steps"]
        for name in ("diffedit", "flexit")
    }
    assert fast == {"diffedit": 14, "flexit": 32}
    faithful = workbench.preset_values(services.pack, METHODS["flexit"], "faithful")
    assert faithful["num_steps"] == 160
    assert "flexit.num_steps" not in faithful
