"""The negative prompt: what guidance leads away from, and where it plays no part."""

import dataclasses

import pytest
import torch
from test_zestguide import layout
from tiny_pack import tiny_scene_model
from tiny_sd import tiny_sdxl

from pipelines import params, prompt_notes
from pipelines.data.captions import VOCABULARY
from pipelines.diffedit import diffedit
from pipelines.diffusion import ddim
from pipelines.diffusion.guidance import classifier_free
from pipelines.errors import InputError
from pipelines.memo import Memo
from pipelines.method_params import DiffEditParams, PaintingParams
from pipelines.noise import seeded_noise, sub_seed
from pipelines.packs import PACKS
from pipelines.plain_sampling import plain_sampling
from pipelines.registry import METHODS
from pipelines.training import scene_segmenter

GUIDED = [
    method
    for method in METHODS.values()
    if "guidance_scale" in method.load_params().__dataclass_fields__
]
TEXTS = ["a horse on the grass"], ["a zebra on the grass"]
NEGATIVE = "a red car at night"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture(scope="module")
def run(model, images):
    """Run a method on one picture or layout; returns the pixels."""
    segmenter = scene_segmenter.build().eval()

    def one(method, **values):
        built = params.build(method.load_params(), {"num_steps": 5, **values})
        if method.tab == "text_edit":
            return method.load()(model, images, *TEXTS, built, seeds=[1]).images
        more = {"segmenter": segmenter} if "segmenter" in method.takes else {}
        return method.load()(model, [layout()], built, seeds=[1], **more).images

    return one


def test_every_guided_method_takes_one():
    assert len(GUIDED) == 11
    for method in GUIDED:
        spec = {spec.name: spec for spec in params.specs(method.load_params())}["negative_prompt"]
        assert (spec.kind, spec.default, spec.label) == ("text", "", "Negative prompt")


@pytest.mark.parametrize("method", GUIDED, ids=lambda method: method.name)
def test_it_acts_through_guidance_alone(method, run):
    plain, led = run(method), run(method, negative_prompt=NEGATIVE)
    assert (plain - led).abs().max() > 1e-3
    plain, led = (run(method, guidance_scale=1.0, negative_prompt=text) for text in ("", NEGATIVE))
    torch.testing.assert_close(plain, led, rtol=0, atol=1e-4)


def test_none_is_the_empty_text_to_the_bit(model):
    built = PaintingParams(num_steps=5)
    made = plain_sampling(model, [layout()], built, seeds=[1]).images
    text, empty = model.embed_text([layout().text]), model.embed_text([""])
    noise = seeded_noise(model.latent_shape, [sub_seed(1, "start")], torch.zeros(1))
    with torch.no_grad():
        denoise = classifier_free(model.eps, text, empty, built.guidance_scale)
        wanted = ddim.decode(denoise, noise, model.schedule.grid(5, 1.0), model.schedule)
        assert torch.equal(made, model.decode_latents(wanted))


def test_mask_and_encoding_do_not_read_it_and_are_kept(model, images):
    built = DiffEditParams(num_steps=5, num_maps=1)
    memo, told = Memo(2**28), []
    first = diffedit(model, images, *TEXTS, built, seeds=[1], memo=memo)
    led = dataclasses.replace(built, negative_prompt=NEGATIVE)
    kept, fresh = (
        diffedit(
            model, images, *TEXTS, led, seeds=[1], memo=one, on_step=lambda s: told.append(s.stage)
        )
        for one in (memo, Memo(2**28))
    )
    assert torch.equal(kept.images, fresh.images) and not torch.equal(kept.images, first.images)
    assert torch.equal(kept.difference, first.difference)
    assert kept.network_evaluations < fresh.network_evaluations
    assert told.count("encoding") == 4  # of the second run alone
    assert torch.equal(kept.reconstruct(), first.reconstruct())


def test_stable_diffusion_xl_reads_it(tmp_path):
    model = tiny_sdxl(tmp_path)
    empty, words = model.embed_text([""]), model.embed_text(["blurry"])
    assert empty.abs().max() == 0 and words.abs().max() > 0
    made = [
        plain_sampling(
            model, [layout()], PaintingParams(num_steps=5, negative_prompt=text), seeds=[1]
        ).images
        for text in ("", "blurry")
    ]
    assert not torch.equal(*made)


def test_texts_are_tidied_or_refused():
    built = params.build(PaintingParams, {"negative_prompt": "  blurry,\n dark "})
    assert built.negative_prompt == "blurry, dark"
    for wrong in (None, 7, ["blurry"], "x" * (params.MAX_TEXT + 1)):
        with pytest.raises(InputError, match="Negative prompt must be a text of at most 1000"):
            params.build(PaintingParams, {"negative_prompt": wrong})


def test_what_is_not_read_is_said(model):
    values = [{"negative_prompt": "a blurry horse"}, {"negative_prompt": ""}, {"num_steps": 5}]
    (told,) = prompt_notes.notes(model, PACKS["toybox"], TEXTS[1], values)
    assert "toybox does not know “blurry” of the negative prompt" in told
    assert "blurry" not in VOCABULARY
    assert prompt_notes.notes(model, PACKS["sd15"], TEXTS[1], values) == []
    long = "a red horse on the grass " * 20
    (told,) = prompt_notes.notes(model, PACKS["sd15"], [long], [])
    assert f"reads {model.tokenizer.model_max_length} tokens" in told
    assert told.endswith("on the grass”.")


def test_a_text_that_is_cut_is_named_where_it_is_typed(watched_cache, untrained_pack):
    long = "a red horse on the grass " * 20
    watched_cache.evict_idle()
    assert prompt_notes.cut_off_now(watched_cache, untrained_pack, [long]) == []
    with watched_cache.lease(untrained_pack.name, "latent_diffusion"):
        pass
    (told,) = prompt_notes.cut_off_now(watched_cache, untrained_pack, ["a horse", long])
    assert told.startswith("Too long") and "a horse" not in told
