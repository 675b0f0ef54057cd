"""ZestGuide, paint-with-words and MultiDiffusion on small real networks."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tiny_pack import CPU, tiny_scene_model, write_scene_model
from torch.nn import functional as F

from pipelines.diffusion import ddim
from pipelines.diffusion.attention import PhraseError, biased, capture
from pipelines.diffusion.guidance import classifier_free
from pipelines.external_classifier import external_classifier
from pipelines.layouts import Layout, Segment
from pipelines.method_params import (
    ClassifierGuidanceParams,
    MultiDiffusionParams,
    PaintWithWordsParams,
    ZestGuideParams,
)
from pipelines.models.latent_diffusion import MAX_BATCH, LatentDiffusion
from pipelines.multidiffusion import colour_latents, multidiffusion, regions
from pipelines.noise import seeded_noise, sub_seed
from pipelines.paint_with_words import paint_with_words
from pipelines.painting import paint_bias, words_of
from pipelines.training import scene_segmenter
from pipelines.zestguide import maps_of, segmentation, zest_loss, zestguide

STEPS = 6
ZEST = ZestGuideParams(num_steps=STEPS)
PLAIN = ZestGuideParams(num_steps=STEPS, eta=0.0)
MULTI = MultiDiffusionParams(num_steps=STEPS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny scene model, and untrained attention made sharp so that words matter."""
    folder = tmp_path_factory.mktemp("scenes")
    model = tiny_scene_model(folder, prediction_type="v_prediction")
    with torch.no_grad():
        for name, weight in model.unet.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                weight.mul_(8)
    return model


def layout(prompt="at night", words=("a horse", "a cat")):
    labels = np.zeros((128, 128), np.uint8)
    labels[40:100, 8:56] = 1
    labels[28:108, 72:120] = 2
    labels[labels > len(words)] = 0
    return Layout(prompt, tuple(Segment(word) for word in words), labels)


def plain_sample(model, text, seed, scale=3.0):
    noise = seeded_noise(model.latent_shape, [sub_seed(seed, "start")], torch.zeros(1))
    denoise = classifier_free(model.eps, model.embed_text([text]), model.embed_text([""]), scale)
    with torch.no_grad():
        grid = model.schedule.grid(STEPS, 1.0)
        return model.decode_latents(ddim.decode(denoise, noise, grid, model.schedule))


def test_without_guidance_all_are_plain_sampling(model):
    wanted = plain_sample(model, "at night, a horse, a cat", 3)
    plain = zestguide(model, [layout()], PLAIN, seeds=[3])
    torch.testing.assert_close(plain.images, wanted, rtol=0, atol=1e-4)
    assert plain.losses == ()
    assert plain.network_evaluations == 2 * STEPS
    params = PaintWithWordsParams(num_steps=STEPS, weight=0.0)
    unweighted = paint_with_words(model, [layout()], params, seeds=[3])
    torch.testing.assert_close(unweighted.images, wanted, rtol=0, atol=1e-4)
    assert unweighted.network_evaluations == 2 * STEPS


def test_one_segment_that_is_everything_makes_multidiffusion_plain(model):
    everything = Layout("", (Segment("a horse at night"),), np.ones((128, 128), np.uint8))
    params = dataclasses.replace(MULTI, bootstrapping=0.0)
    painted = multidiffusion(model, [everything], params, seeds=[3])
    wanted = plain_sample(model, "a horse at night", 3)
    torch.testing.assert_close(painted.images, wanted, rtol=0, atol=1e-4)
    assert painted.network_evaluations == 2 * STEPS


def test_each_picture_of_a_batch_is_that_of_its_own_run(model):
    layouts = [layout(), layout("in the snow", ("a red car",))]
    for method, params in (
        (zestguide, dataclasses.replace(ZEST, paint_with_words=0.5)),
        (paint_with_words, PaintWithWordsParams(num_steps=STEPS)),
        (multidiffusion, MULTI),
    ):
        both = method(model, layouts, params, seeds=[1, 2])
        again = method(model, layouts, params, seeds=[1, 2])
        assert torch.equal(both.images, again.images)
        alone = method(model, layouts[1:], params, seeds=[2])
        torch.testing.assert_close(alone.images[0], both.images[1], rtol=0, atol=5e-3)
        assert (both.images[0] - both.images[1]).abs().max() > 0.05


def test_guidance_brings_the_attention_to_the_painting(model):
    guided = zestguide(model, [layout()], ZEST, seeds=[5])
    assert len(guided.losses) == guided.gradients == STEPS / 2
    assert guided.attention.shape == (1, 2, 32, 32)
    runs = [
        zestguide(model, [layout()], dataclasses.replace(ZEST, eta=eta, tau=1.0), seeds=[5])
        for eta in (0.1, 3.0)
    ]
    (weak,), (strong,) = (run.losses[-1] for run in runs)
    assert strong < weak
    assert runs[0].losses[0] == runs[1].losses[0]  # before the first update they are equal


@pytest.mark.parametrize("values", [{"averaging": "heads"}, {"paint_with_words": 0.4}, {}], ids=str)
def test_bfloat16_leads_where_float32_does(values, tmp_path):
    folder = write_scene_model(tmp_path, prediction_type="v_prediction")
    full, half = (
        LatentDiffusion.from_folder(folder, dataclasses.replace(CPU, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    params = dataclasses.replace(ZEST, **values)
    wanted, made = (zestguide(m, [layout()], params, seeds=[5]) for m in (full, half))
    torch.testing.assert_close(
        torch.tensor(made.losses), torch.tensor(wanted.losses), rtol=0.01, atol=0
    )
    assert (made.images - wanted.images).abs().mean() < 0.02


def test_an_initial_picture_changes_where_it_was_painted_and_nowhere_else(model):
    initial = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        kept = model.decode_latents(model.encode_images(initial))
    made = zestguide(model, [layout()], ZEST, seeds=[5], initial=initial).images
    inside = torch.from_numpy(layout().labels > 0)
    far = F.max_pool2d(inside[None].float(), 65, 1, 32)[0] == 0  # beyond the decoder's reach
    assert far.sum() > 100
    torch.testing.assert_close(made[..., far], kept[..., far], rtol=0, atol=1e-4)
    assert (made - kept)[..., inside].abs().mean() > 0.05


def test_an_external_classifier_leads_only_what_it_knows(model):
    segmenter = scene_segmenter.build().eval()
    assert segmenter.class_of("a red, cat!") == 1 + segmenter.classes.index("cat")
    assert segmenter.class_of("a catalogue") is None
    assert segmenter.class_of("an orange car in front of a house") == segmenter.class_of("car")
    params = ClassifierGuidanceParams(num_steps=STEPS, eta=3.0, tau=1.0)
    led = external_classifier(model, [layout()], params, seeds=[5], segmenter=segmenter)
    assert led.attention.shape == (1, 2, 128, 128)
    assert led.losses[-1][0] < led.losses[0][0]
    unknown = layout(words=("something", "nothing"))
    left = external_classifier(model, [unknown], params, seeds=[5], segmenter=segmenter)
    wanted = plain_sample(model, "at night, something, nothing", 5)
    torch.testing.assert_close(left.images, wanted, rtol=0, atol=1e-4)


def test_the_gradient_is_normalised_to_the_step_that_eta_names(model):
    """One step at the top: the guided latents differ from the plain ones by eta * sigma at most."""
    one = dataclasses.replace(ZEST, tau=0.01, num_steps=5)
    seen = {}
    for eta in (0.0, 0.5, 1.0):
        first = []
        zestguide(
            model, [layout()], dataclasses.replace(one, eta=eta), seeds=[5],
            on_step=lambda step, first=first: first.append(np.asarray(step.preview())),
        )  # fmt: skip
        seen[eta] = first[0].astype(int)
    half, whole = (np.abs(seen[eta] - seen[0.0]).mean() for eta in (0.5, 1.0))
    assert 0 < half < whole


def test_loss_of_attention_that_is_the_painting_is_zero_and_worse_elsewhere(model):
    words = words_of(model, [layout()])
    wanted = words.masks_at((32, 32))
    where = words.tokens[0].argmax(1)  # one token of each phrase takes it all

    def loss_of(masks, params=ZEST):
        maps = torch.zeros(1, 32, 32, words.tokens.shape[-1])
        for k, token in enumerate(where):
            maps[0, :, :, token] = masks[0, k]
        return zest_loss([segmentation(maps, words)], words, params).item()

    for kind in ("both", "plain", "normalised"):
        params = dataclasses.replace(ZEST, loss=kind)
        assert loss_of(wanted, params) < 1e-4
        assert loss_of(wanted.flip(3), params) > 0.1
    faint = loss_of(wanted / 4, dataclasses.replace(ZEST, loss="normalised"))
    assert faint < 1e-4  # the second term does not see the peak ...
    assert loss_of(wanted / 4, dataclasses.replace(ZEST, loss="plain")) > 0.1  # ... the first does


def test_maps_are_those_of_the_chosen_layers(model):
    words = words_of(model, [layout()])
    captured, store = capture(model.unet)
    with torch.no_grad():
        text = model.embed_text(words.texts)
        model.with_unet(captured).eps(torch.randn(1, 4, 32, 32), 500, text)
    sizes = {"16 and 32": {16, 32}, "16": {16}, "32": {32}, "all": {8, 16, 32}}
    halves = {"encoder": "down_blocks", "decoder": "up_blocks"}
    for layers in (*sizes, *halves):
        params = dataclasses.replace(ZEST, layers=layers, averaging="layers")
        chosen = [
            name
            for name, size in store.sizes.items()
            if size[0] in sizes.get(layers, ()) or name.split(".")[0] == halves.get(layers)
        ]
        expected = {store.sizes[name][0] for name in chosen}
        maps = maps_of(store, params)
        assert len(maps) == len(chosen) > 0
        assert {m.shape[1] for m in maps} == {max(expected)}
        (mean,) = maps_of(store, dataclasses.replace(params, averaging="global"))
        torch.testing.assert_close(mean, torch.stack(maps).mean(0))
        heads = maps_of(store, dataclasses.replace(params, averaging="heads"))
        assert len(heads) == sum(store.maps[name].shape[1] for name in chosen)
        shown = segmentation(mean, words)
        assert shown.shape == (1, 2, max(expected), max(expected))
        assert 0 <= shown.min() <= shown.max() <= 1


def test_bias_is_added_to_the_scores_before_the_softmax(model):
    text = model.embed_text(["a horse at night"])
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))

    def maps(unet):
        captured, store = capture(unet)
        with torch.no_grad():
            output = model.with_unet(captured).eps(latents, 500, text)
        return output, store.maps

    plain, before = maps(model.unet)

    def on_token_two(scores, size):
        added = torch.zeros(1, size[0] * size[1], scores.shape[-1])
        added[..., 2] = 3.0
        return added

    changed, after = maps(biased(model.unet, on_token_two))
    untouched, _ = maps(model.unet)
    assert torch.equal(plain, untouched)
    assert (plain - changed).abs().max() > 1e-4
    attn = model.unet.get_submodule(next(iter(before)))
    name = next(iter(before))
    odds_before = before[name][..., 2] / before[name][..., 1]
    odds_after = after[name][..., 2] / after[name][..., 1]
    expected = torch.full_like(odds_before, 3.0 * attn.scale).exp()
    torch.testing.assert_close(odds_after / odds_before, expected, rtol=1e-3, atol=0)


def test_paint_bias_by_hand(model):
    words = words_of(model, [layout()])
    level = [700]
    bias = paint_bias(model.schedule, words, 0.4, level)
    scores = torch.zeros(1, 2, 64, words.tokens.shape[-1])
    scores[0, 1, 5, 3] = 10.0  # the largest over heads, pixels and tokens
    added = bias(scores, (8, 8))
    alpha, sigma = model.schedule.alpha_sigma(700, scores)
    peak = 0.4 * np.log1p(float(sigma / alpha)) * 10.0
    mask = words.masks_at((8, 8))[0, 0].flatten()
    token = int(words.tokens[0, 0].nonzero()[0])
    torch.testing.assert_close(added[0, :, token], peak * mask)
    other = words.tokens[0].sum(0) == 0
    assert (added[0][:, other] == 0).all()
    level[0] = 10
    assert bias(scores, (8, 8)).max() < added.max()


def test_regions_share_out_every_cell():
    parts, masks = regions([layout(), layout(words=("a dog",))], 32)
    assert parts == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert (masks[:3].sum(0) == 1).all()
    assert (masks[3:].sum(0) == 1).all()


def test_a_segment_thinner_than_a_cell_is_still_a_region(model):
    labels = np.zeros((512, 512), np.uint8)
    labels[:, 6:8] = 1
    thin = Layout("at night", (Segment("a horse"),), labels)
    parts, masks = regions([thin], 32)
    assert parts == [(0, 0), (0, 1)] and masks[1, 0, :, 0].all() and masks.sum() == 32 * 32
    assert words_of(model, [thin]).masks.sum() == pytest.approx(512 * 2 / 16)


def test_backdrops_do_not_know_the_neighbours_in_the_batch(model, monkeypatch):
    drawn = []

    def watch(model, seeds):
        drawn.append(list(seeds))
        return colour_latents(model, seeds)

    monkeypatch.setattr("pipelines.multidiffusion.colour_latents", watch)
    layouts = [layout(), layout("in the snow", ("a red car",))]
    multidiffusion(model, layouts, MULTI, seeds=[1, 2])
    multidiffusion(model, layouts[1:], MULTI, seeds=[2])
    assert drawn[0][3:] == drawn[1]
    assert len(set(drawn[0])) == 5


def test_words_beyond_the_last_token_say_so(model):
    long = layout("a horse " * 30, ("a cat",))
    with pytest.raises(PhraseError):
        words_of(model, [long])


def test_too_many_layouts_are_a_callers_bug(model):
    with pytest.raises(ValueError, match="at most"):
        zestguide(model, [layout()] * (MAX_BATCH + 1), ZEST, seeds=range(MAX_BATCH + 1))


def test_the_unet_is_left_as_it_was(model):
    before = {name: weight.clone() for name, weight in model.unet.named_parameters()}
    processors = dict(model.unet.attn_processors)
    zestguide(model, [layout()], dataclasses.replace(ZEST, paint_with_words=0.5), seeds=[1])
    assert dict(model.unet.attn_processors) == processors
    assert not any(module._forward_pre_hooks for module in model.unet.modules())
    assert all(torch.equal(before[n], weight) for n, weight in model.unet.named_parameters())
    assert not any(weight.requires_grad for weight in model.unet.parameters())


@pytest.mark.parametrize(
    ("method", "params"),
    [
        (zestguide, ZestGuideParams(num_steps=5)),
        (zestguide, ZestGuideParams(num_steps=5, paint_with_words=0.4)),
        (paint_with_words, PaintWithWordsParams(num_steps=5)),
        (multidiffusion, MultiDiffusionParams(num_steps=5)),
    ],
)
def test_runs_on_the_layout_of_stable_diffusion_one(model, method, params):
    """Four levels, the last without attention, an AutoencoderKL, epsilon prediction."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32, cross_attention_dim=128, block_out_channels=(16, 32, 32, 32),
        attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    stable = LatentDiffusion(
        vae, model.text_encoder, model.tokenizer, unet, config, fingerprint="random"
    )
    painted = method(stable, [layout()], params, seeds=[0])
    assert painted.images.shape == (1, 3, 256, 256)
    assert painted.images.isfinite().all()
    if method is zestguide:
        assert painted.attention.shape == (1, 2, 32, 32)
        assert len(painted.losses) == 3
