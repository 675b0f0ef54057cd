"""Costs said before a run are those that the methods then report; memory and time follow them."""

import dataclasses

import pytest
import torch
from PIL import Image
from test_negative_prompt import TEXTS
from test_zestguide import layout
from tiny_pack import CPU, tiny_clips, tiny_perceptual, tiny_scene_model

from pipelines import devices, estimates, hub, packs, params, sentences, workbench
from pipelines.costs import COUNTED, Cost
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.estimates import Meter
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.models.frozen import bytes_of
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.packs import PACKS
from pipelines.registry import METHODS
from pipelines.training import scene_segmenter

COSTLY = [method for method in METHODS.values() if method.cost]
SETTINGS = (
    {"num_steps": 5, "num_maps": 1},
    {"num_steps": 7, "num_maps": 3, "strength": 0.6, "solver": "dpm2m", "tau": 0.3},
    {"num_steps": 6, "guidance_scale": 1.0, "eta": 0.0, "strength": 0.1},
    {"num_steps": 6, "guidance_scale": 1.0, "tau": 0.5},
)
CASES = [(method, values, False) for method in COSTLY for values in SETTINGS]
CASES += [(method, SETTINGS[1], True) for method in COSTLY if method.tab == "text_edit"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    clip = dict(list(tiny_clips(folder).items())[:1])
    perceptual = tiny_perceptual(folder / "lpips")
    return {"clips": clip, "perceptual": perceptual, "segmenter": scene_segmenter.build().eval()}


def built(method, values):
    known = {spec.name for spec in params.specs(method.load_params())}
    values = {name: value for name, value in values.items() if name in known}
    return params.build(method.load_params(), values)


@pytest.mark.parametrize(
    ("method", "values", "is_masked"), CASES, ids=lambda part: getattr(part, "name", "")
)
def test_counts_are_those_that_the_methods_make(method, values, is_masked, model, further):
    one = built(method, values)
    cost = method.cost_of(one, is_masked, 3)
    more = {name: further[name] for name in method.takes if name in further}
    if method.tab == "layouts":
        made = method.load()(model, [layout()], one, seeds=[1], **more)
        assert (made.network_evaluations, made.gradients) == (cost.evaluations, cost.gradients)
        return
    images = torch.zeros(1, 3, 128, 128)
    masks = torch.ones(1, 128, 128) if is_masked else None
    told = []
    made = method.load()(
        model, images, *TEXTS, one, seeds=[1], masks=masks, on_step=told.append, **more
    )
    assert made.network_evaluations == cost.evaluations
    assert cost.descents == (len(told) + 1 if method.name == "flexit" else 0)


def test_every_parameter_that_counts_is_watched(model):
    for method in COSTLY:
        for spec in params.specs(method.load_params()):
            low = built(method, {"guidance_scale": 3.0, spec.name: spec.low or spec.default})
            high = {"flag": not spec.default, "choice": (spec.options or [""])[-1], "text": "dark"}
            high = built(method, {"guidance_scale": 3.0, spec.name: high.get(spec.kind, spec.high)})
            works = {method.cost_of(one, False, 2).work for one in (low, high)}
            assert len(works) == 1 or spec.name in COUNTED, (method.name, spec.name)


def test_time_is_what_was_measured_here_or_nothing():
    meter, edit, paint = Meter(), METHODS["sdedit"], METHODS["plain_sampling"]
    cost = Cost(20)
    assert meter.seconds("toybox", edit, cost) is None
    assert meter.seconds("toybox", METHODS["copy"], Cost()) == 0
    meter.note("toybox", edit, {}, 40, 2.0)
    assert meter.seconds("toybox", edit, cost) == meter.seconds("toybox", paint, cost) == 1.0
    meter.note("toybox", paint, {}, 10, 5.0)
    assert meter.seconds("toybox", paint, cost) == 10.0
    assert meter.seconds("toybox", edit, cost) == 1.0
    assert meter.seconds("sd15", edit, cost) is None
    flexit = METHODS["flexit"]
    assert meter.seconds("toybox", flexit, Cost(descents=10)) is None
    meter.note("toybox", flexit, {"num_steps": 99}, 0, 50.0)
    assert meter.seconds("toybox", flexit, Cost(descents=10)) == 5.0


def test_a_run_teaches_the_meter_and_the_line_says_so(watched_cache, untrained_pack):
    services = workbench.Services(
        watched_cache, Memo(2**20), Gate(), untrained_pack, lambda image, name: name
    )
    task = workbench.task("sdedit", {"num_steps": 5})
    asked = watched_cache, untrained_pack, services.meter, [(task.method, task.values)]
    before = estimates.estimate(*asked)
    assert (before.evaluations, before.seconds) == (6, None)
    assert "6 UNet evaluations, time not measured yet" in sentences.estimate(before)
    picture = Image.new("RGB", (128, 128))
    order = workbench.Order(picture, "a horse", "a zebra", 1, [task])
    workbench.carry_out(services, order, lambda step: None)
    after = estimates.estimate(*asked)
    assert after.seconds == pytest.approx(order.results[0].numbers["seconds"])
    assert "about" in sentences.estimate(after) and "not measured" not in sentences.estimate(after)
    with watched_cache.lease(untrained_pack.name, "latent_diffusion") as loaded:
        assert after.weights_bytes == loaded.nbytes


def test_weights_are_counted_in_the_number_format_of_the_device(untrained_pack, tmp_path):
    half = Device("cpu", torch.device("cpu"), torch.float16)  # in which nothing is frozen
    scenes = untrained_pack.component("latent_diffusion")
    model = LatentDiffusion.from_folder(scenes.locate(), half)
    networks = (model.vae, model.text_encoder, model.unet)
    assert estimates.weights_bytes(scenes, half) == sum(map(bytes_of, networks))
    stored = sum(f.stat().st_size for f in scenes.locate().rglob("*.safetensors"))
    assert estimates.weights_bytes(scenes, None) == stored


def test_what_is_not_here_is_estimated_by_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv(hub.VARIABLE, raising=False)
    half = Device("cuda", torch.device("cuda"), torch.float16)
    for name in ("sd15", "sd21"):  # published in half precision
        component = PACKS[name].component("latent_diffusion")
        size = component.repository.size_bytes
        assert estimates.weights_bytes(component, half) == size
        assert estimates.weights_bytes(component, CPU) == size * 2
        assert estimates.weights_bytes(component, None) == size
    sdxl = PACKS["sdxl"].component("latent_diffusion")
    both = sdxl.repository.size_bytes + sdxl.parts["vae"].repository.size_bytes // 2
    assert estimates.weights_bytes(sdxl, half) == both


def test_activations_grow_with_resolution_samples_and_gradients():
    diffedit, zest = (built(METHODS[name], {}) for name in ("diffedit", "zestguide"))
    costs = {
        "diffedit": METHODS["diffedit"].cost_of(diffedit, False, 1),
        "zestguide": METHODS["zestguide"].cost_of(zest, False, 1),
        "prompt_to_prompt": METHODS["prompt_to_prompt"].cost_of(
            built(METHODS["prompt_to_prompt"], {}), False, 1
        ),
    }
    sd15 = {name: estimates.activations(PACKS["sd15"], cost, CPU) for name, cost in costs.items()}
    # traced: 136.5 MB a sample forwards, 1600 MB with gradient; P2P holds 3 x 8 maps of 4096^2
    assert 1.3e9 < sd15["diffedit"] < 1.5e9
    assert 1.6e9 < sd15["zestguide"] < 2.8e9
    assert sd15["prompt_to_prompt"] == 2 * 3 * 8 * 4096**2 * 4
    masked = METHODS["diffedit"].cost_of(diffedit, True, 1)
    assert estimates.activations(PACKS["sd15"], masked, CPU) < sd15["diffedit"]
    large = estimates.activations(PACKS["sdxl"], costs["zestguide"], CPU)
    assert large == pytest.approx(4 * sd15["zestguide"])
    half = dataclasses.replace(CPU, dtype=torch.float16)
    assert estimates.activations(PACKS["sd15"], masked, half) * 2 == estimates.activations(
        PACKS["sd15"], masked, CPU
    )


def test_free_memory_is_read_and_what_does_not_fit_is_said():
    assert devices.parse_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2**21
    assert devices.parse_available("nothing") == 0
    assert devices.free_bytes(CPU) > 2**20
    tight = estimates.Estimate(140, 0, 12.3, 4 * 10**9, 2 * 10**9, 5 * 10**9)
    said = sentences.estimate(tight)
    assert (
        "140 UNet evaluations, about 12 s, memory 4.0 GB (models) + 2.0 GB of 5.0 GB free" in said
    )
    assert "may not fit" in said
    roomy = dataclasses.replace(tight, free_bytes=7 * 10**9)
    assert "may not fit" not in sentences.estimate(roomy)
    assert "free" not in sentences.estimate(dataclasses.replace(tight, free_bytes=0))
    assert "Next to nothing" in sentences.estimate(estimates.Estimate(0, 0, 0.0, 1, 1, 1))


def test_unusable_parameters_are_refused():
    cache = ModelCache(1, packs.LOADERS)
    with pytest.raises(InputError, match="Num steps"):
        estimates.estimate(cache, PACKS["toybox"], Meter(), [(METHODS["sdedit"], {"num_steps": 0})])
