"""Networks of the published layouts against diffusers' own pipelines, on one folder and seed."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from tiny_sd import CPU, tiny_sd, tiny_sdxl, write_sd, write_sdxl

from pipelines.diffedit import diffedit, difference_map, noise_level
from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free, condition
from pipelines.edits import Counter
from pipelines.layouts import Layout, Segment
from pipelines.method_params import (
    DiffEditParams,
    MaskParams,
    MultiDiffusionParams,
    PaintWithWordsParams,
    PromptToPromptParams,
    SDEditParams,
    ZestGuideParams,
)
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.multidiffusion import multidiffusion
from pipelines.noise import seeded_noise, sub_seed
from pipelines.paint_with_words import paint_with_words
from pipelines.prompt_to_prompt import prompt_to_prompt
from pipelines.sdedit import sdedit
from pipelines.text_edit import word_maps
from pipelines.zestguide import zestguide

SOURCE, TARGET = ["a horse on the beach"], ["a zebra on the beach"]
STEPS = 5


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def stable(request, tmp_path_factory):
    """(folder, model) of Stable Diffusion 1.5's and 2.1's layout."""
    folder = write_sd(tmp_path_factory.mktemp("sd"), prediction_type=request.param)
    return folder, LatentDiffusion.from_folder(folder, CPU)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """(folder, model) of Stable Diffusion XL's layout."""
    folder = write_sdxl(tmp_path_factory.mktemp("sdxl"))
    return folder, LatentDiffusion.from_folder(folder, CPU)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def either(request, tmp_path_factory):
    make = {"sd": tiny_sd, "sdxl": tiny_sdxl}[request.param]
    return make(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1


def opened(pipeline_class, folder):
    pipeline = pipeline_class.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="leading", clip_sample=False
    )
    return pipeline


def noise(seed=3):
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sampled(model, text, scale):
    texts = model.embed_text([text]), model.embed_text([""])
    denoise = classifier_free(model.eps, *texts, scale)
    return ddim.decode(denoise, noise(), model.schedule.grid(STEPS), model.schedule)


ASKED = {
    "num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "latent",
    "height": 128, "width": 128,
}  # fmt: skip


def test_samples_equal_those_of_diffusers(stable):
    folder, model = stable
    pipeline = opened(StableDiffusionPipeline, folder)
    theirs = pipeline(TARGET[0], latents=noise(), **ASKED).images
    ours = sampled(model, TARGET[0], 4.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_samples_of_xl_equal_those_of_diffusers(large):
    """Both text encoders, the pooled embedding, the sizes, and the empty text as zeros."""
    folder, model = large
    pipeline = opened(StableDiffusionXLPipeline, folder)
    theirs = pipeline(TARGET[0], latents=noise(), **ASKED).images
    ours = sampled(model, TARGET[0], 4.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_inversion_equals_that_of_diffusers(stable, images):
    folder, model = stable
    pipeline = opened(StableDiffusionPipeline, folder)
    latents0, text = model.encode_images(images), model.embed_text([""])
    ours = ddim.encode(
        condition(model.eps, text), latents0, model.schedule.grid(STEPS), model.schedule
    )
    scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    theirs = latents0
    for t, expected in zip(scheduler.timesteps, ours[1:], strict=True):
        prediction = pipeline.unet(theirs, t, text).sample
        theirs = scheduler.step(prediction, t, theirs).prev_sample
        torch.testing.assert_close(expected, theirs, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_difference_map_equals_that_of_diffusers_without_its_guidance_factor(
    stable, images, monkeypatch
):
    diffusers = pytest.importorskip("diffusers")
    pipeline_class = getattr(diffusers, "StableDiffusionDiffEditPipeline", None)
    if pipeline_class is None:
        pytest.skip("this diffusers has dropped its deprecated DiffEdit pipeline")
    folder, model = stable
    pipeline = opened(pipeline_class, folder)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    latents0, maps, scale = model.encode_images(images), 3, 7.5
    params = MaskParams(num_maps=maps)
    # both draw one noise a map: hand ours over, and ours is t = 499 where theirs would be 481
    t = noise_level(model, params.mask_strength)
    draws = torch.cat(
        [seeded_noise(latents0.shape[1:], [sub_seed(0, "mask", k)], latents0) for k in range(maps)]
    )
    seen = {}

    def clamp_raw(self, *args, **kwargs):
        seen.setdefault("map", self.clone())
        return original(self, *args, **kwargs)

    original = torch.Tensor.clamp
    monkeypatch.setattr(
        f"{pipeline_class.__module__}.randn_tensor", lambda *args, **kwargs: draws.clone()
    )
    pipeline.scheduler.set_timesteps(50)
    monkeypatch.setattr(pipeline, "get_timesteps", lambda *args: (torch.tensor([t]), 1))
    monkeypatch.setattr(torch.Tensor, "clamp", clamp_raw)
    pipeline.generate_mask(
        image=latents0, target_prompt=TARGET, source_prompt=SOURCE, num_maps_per_mask=maps,
        num_inference_steps=50, guidance_scale=scale,
    )  # fmt: skip
    monkeypatch.undo()
    ours = difference_map(
        model, Counter(model.eps), latents0, SOURCE, TARGET, params, seeds=[0]
    )  # (1, h, w)
    # Their encode_prompt returns (text, negative) and generate_mask takes it for (negative, text),
    # so guidance runs backwards: eps_text + g (eps_empty - eps_text). The factor is then g - 1.
    theirs = seen["map"] / (scale - 1)
    if model.schedule.prediction_type == "v_prediction":  # they compare v, we compare eps
        theirs = theirs * model.schedule.alpha_cumprod(t) ** 0.5
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def state(model):
    """Everything on the networks that a method might have patched and not put back."""
    networks = [model.unet, model.vae, model.text_encoder]
    networks += [model.second_text.encoder] if model.second_text else []
    modules = [
        (
            name, type(module), module.__dict__.get("forward"), getattr(module, "processor", None),
            tuple(module._forward_hooks), tuple(module._forward_pre_hooks), module.training,
        )
        for network in networks
        for name, module in network.named_modules()
    ]  # fmt: skip
    weights = [
        (p.data_ptr(), p._version, p.requires_grad) for n in networks for p in n.parameters()
    ]
    return modules, weights


def layout():
    labels = np.zeros((128, 128), np.uint8)
    labels[40:100, 8:56] = 1
    return Layout("at night", (Segment("a horse"),), labels)


def edits(method, params):
    return lambda model, images: method(model, images, SOURCE, TARGET, params, seeds=[1])


def paints(method, params):
    return lambda model, images: method(model, [layout()], params, seeds=[1])


MASKED = DiffEditParams(num_steps=STEPS, num_maps=2)
ZEST = ZestGuideParams(num_steps=STEPS)
RUNS = {
    "diffedit": edits(diffedit, MASKED),
    "sdedit": edits(sdedit, SDEditParams(num_steps=STEPS)),
    "prompt_to_prompt": edits(prompt_to_prompt, PromptToPromptParams(num_steps=STEPS)),
    "zestguide": paints(zestguide, ZEST),
    "zestguide_pww": paints(zestguide, dataclasses.replace(ZEST, paint_with_words=0.4)),
    "paint_with_words": paints(paint_with_words, PaintWithWordsParams(num_steps=STEPS)),
    "multidiffusion": paints(multidiffusion, MultiDiffusionParams(num_steps=STEPS)),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_every_method_runs_and_leaves_nothing_patched(either, images, run):
    before = state(either)
    result = run(either, images)
    assert result.images.shape == images.shape
    assert result.images.isfinite().all()
    assert state(either) == before


def test_words_have_maps(either, images):
    latents0 = either.encode_images(images)
    with torch.no_grad():
        maps = word_maps(either, latents0, TARGET[0], MaskParams(), seed=0)
    assert list(maps) == ["a", "zebra", "on", "the", "beach"]
    assert all(values.shape == (128, 128) and values.max() > 0 for values in maps.values())


def test_a_text_of_more_than_77_tokens_says_what_is_cut(either):
    assert either.truncated_text(TARGET[0]) == ""
    assert either.truncated_text("a" * 75 + " zebra").replace(" ", "") == "zebra"
