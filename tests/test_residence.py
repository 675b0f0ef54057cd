"""Networks that take turns on a device: who is there when, with the same results to the bit."""

import pytest
import torch
from test_zestguide import layout
from tiny_pack import CPU, write_scene_model
from tiny_sd import write_sdxl
from torch import nn

from pipelines import devices, params
from pipelines.devices import Device
from pipelines.diffusion.attention import capture
from pipelines.errors import InputError
from pipelines.model_cache import ModelCache
from pipelines.models.latent_diffusion import AUTOENCODER, ENCODERS, UNET, LatentDiffusion
from pipelines.models.residence import REST, Residence
from pipelines.packs import Component, Pack
from pipelines.registry import METHODS

ELSEWHERE = torch.device("meta")
GB = 10**9


def places(*networks):
    return [next(network.parameters()).device for network in networks]


@pytest.mark.parametrize(
    ("name", "weights_bytes", "free_bytes", "wish", "expected"),
    [
        ("cuda", 7 * GB, 24 * GB, "", False),
        ("cuda", 7 * GB, 8 * GB, "", True),  # they fit alone, but nothing beside them
        ("cuda", 7 * GB, 6 * GB, "", True),
        ("cuda", 7 * GB, 6 * GB, "off", False),
        ("cuda", 7 * GB, 24 * GB, "on", True),
        ("cpu", 7 * GB, 6 * GB, "", False),
        ("cpu", 7 * GB, 6 * GB, "on", False),
        ("mps", 7 * GB, 6 * GB, "", False),
    ],
)
def test_when_networks_take_turns(name, weights_bytes, free_bytes, wish, expected):
    environ = {"SEMEDIT_OFFLOAD": wish}
    assert devices.must_offload(name, weights_bytes, free_bytes, environ) is expected
    with pytest.raises(InputError, match="SEMEDIT_OFFLOAD must be on or off"):
        devices.must_offload(name, weights_bytes, free_bytes, {"SEMEDIT_OFFLOAD": "sometimes"})


class Watched(nn.Linear):
    """A layer that can come back from the meta device, as weights in main memory can from a GPU."""

    def to(self, device):
        self.went = [*getattr(self, "went", []), device]
        return self.to_empty(device=device) if self.weight.is_meta else super().to(device)


def test_one_group_at_a_time_is_on_the_device():
    text, more_text, vae, unet = (Watched(2, 2) for _ in range(4))
    residence = Residence(ELSEWHERE, [[text, more_text], [vae], [unet]])
    everyone = text, more_text, vae, unet
    assert places(*everyone) == [REST] * 4
    with torch.no_grad():
        residence.bring(0)
        assert places(*everyone) == [ELSEWHERE, ELSEWHERE, REST, REST]
        residence.bring(2)
        assert places(*everyone) == [REST, REST, REST, ELSEWHERE]
        moved = len(unet.went)
        residence.bring(2)
        assert len(unet.went) == moved
    residence.bring(1)  # a graph through the UNet may be waiting for its gradient
    assert places(*everyone) == [REST, REST, ELSEWHERE, ELSEWHERE]
    with torch.no_grad():
        residence.bring(1)
    assert places(*everyone) == [REST, REST, ELSEWHERE, REST]


def test_a_copy_that_captures_attention_moves_along(tmp_path):
    model = LatentDiffusion.from_folder(write_scene_model(tmp_path), CPU)
    assert not list(model.unet.buffers())  # they would stay behind
    captured, _ = capture(model.unet)
    model.unet.to(torch.bfloat16)  # as between CPU and GPU, `to` changes the parameters' data
    assert {p.dtype for p in captured.parameters()} == {torch.bfloat16}


@pytest.fixture(scope="module", params=[write_scene_model, write_sdxl])
def pair(request, tmp_path_factory):
    """A model, and the same one whose networks take turns (from one part of the CPU to itself)."""
    folder = request.param(tmp_path_factory.mktemp("model"))
    whole = LatentDiffusion.from_folder(folder, CPU)
    turns = LatentDiffusion.from_folder(folder, CPU)
    encoders = [turns.text_encoder, *([turns.second_text.encoder] if turns.second_text else [])]
    turns.residence = Residence(CPU.torch_device, [encoders, [turns.vae], [turns.unet]])
    return whole, turns


@pytest.mark.parametrize("name", ["diffedit", "prompt_to_prompt", "zestguide", "multidiffusion"])
def test_methods_do_not_see_a_difference(name, pair):
    method, made = METHODS[name], []
    built = params.build(method.load_params(), {"num_steps": 5})
    for model in pair:
        if method.tab == "layouts":
            made.append(method.load()(model, [layout()], built, seeds=[1]).images)
        else:
            images = torch.zeros(1, 3, model.resolution, model.resolution)
            texts = ["a horse at night"], ["a cat at night"]
            made.append(method.load()(model, images, *texts, built, seeds=[1]).images)
    torch.testing.assert_close(*made, rtol=0, atol=1e-3)  # the first UNet is frozen, if it may be


def test_each_call_brings_its_own_networks(pair):
    _, model = pair
    with torch.no_grad():
        text = model.embed_text(["a horse"])
        assert model.residence.present == ENCODERS
        latents = model.encode_images(torch.zeros(1, 3, model.resolution, model.resolution))
        assert model.residence.present == AUTOENCODER
        model.eps(latents, 500, text)
        assert model.residence.present == UNET
        model.decode_latents(latents)
        assert model.residence.present == AUTOENCODER
    assert model.is_offloaded and model.device == CPU.torch_device


def test_the_device_line_says_that_they_take_turns(tmp_path):
    folder = write_scene_model(tmp_path)

    def load(folder, device):
        model = LatentDiffusion.from_folder(folder, device)
        model.residence = Residence(device.torch_device, [[model.text_encoder]])
        return model

    component = Component("latent_diffusion", str(folder))
    pack = Pack("p", "P", "none", 128, {"latent_diffusion": component})
    cache = ModelCache(2**30, {"latent_diffusion": load}, device=CPU, packs={"p": pack})
    with cache.lease("p", "latent_diffusion"):
        assert cache.state()[0].device == "cpu, one network at a time"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_rest_waits_in_main_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMEDIT_OFFLOAD", "on")
    cuda = Device("cuda", torch.device("cuda"), torch.float16)
    model = LatentDiffusion.from_folder(write_sdxl(tmp_path), cuda)
    with torch.no_grad():
        text = model.embed_text(["a horse"])
        latents = torch.zeros(1, *model.latent_shape, device="cuda")
        assert model.eps(latents, 500, text).device.type == "cuda"
    assert [place.type for place in places(model.text_encoder, model.vae, model.unet)] == [
        "cpu", "cpu", "cuda",
    ]  # fmt: skip
