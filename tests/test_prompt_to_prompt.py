"""Prompt-to-Prompt on a small real scene model."""

import dataclasses

import pytest
import torch
from tiny_pack import tiny_scene_model

from pipelines.baselines import encode
from pipelines.diffedit import encode_decode
from pipelines.diffusion.attention import edited
from pipelines.errors import InputError
from pipelines.method_params import CopyParams, EncodeDecodeParams, PromptToPromptParams
from pipelines.prompt_to_prompt import BLEND_SIZE, Control, align, coarse_side, prompt_to_prompt

TEXTS = (["a horse on the grass", "a cat at night"], ["a zebra on the grass", "a red cat at night"])
PARAMS = PromptToPromptParams(num_steps=6, strength=0.8)
FREE = dataclasses.replace(PARAMS, cross_steps=0.0, self_steps=0.0, local_blend=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1


def words(model, text, marked):
    """The words of a text whose tokens are marked; every known word is one token."""
    names = ["<start>", *text.split(), "<end>"]
    return [name for name, mark in zip(names, marked.tolist(), strict=False) if mark]


@pytest.mark.parametrize(
    ("source", "target", "swapped", "added", "gone"),
    [
        ("a horse on the grass", "a zebra on the grass", ["zebra"], [], ["horse"]),
        ("a cat at night", "a red cat at night", [], ["red"], []),
        ("a red cat at night", "a cat at night", [], [], ["red"]),
        ("a cat", "a cat", [], [], []),
    ],
)
def test_texts_are_aligned_word_by_word(model, source, target, swapped, added, gone):
    found = align(model, source, target)
    assert words(model, target, found.swapped) == swapped
    assert words(model, target, found.added) == added
    assert words(model, source, found.gone) == gone
    columns = found.origin.sum(0)
    assert (columns[found.added] == 0).all()
    assert (columns[~found.added] == 1).all()
    shift = len(target.split()) - len(source.split())
    last = len(source.split())  # the last word, "<start>" counted
    if "night" in source:
        assert found.origin[last, last + shift] == 1


def test_maps_that_are_not_changed_give_the_same_output(model):
    text = model.embed_text(["a horse at night"])
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    kinds = []

    def same(maps, is_text):
        kinds.append(is_text)
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
        return maps

    with torch.no_grad():
        ours = model.with_unet(edited(model.unet, same)).eps(latents, 500, text)
        theirs = model.eps(latents, 500, text)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert set(kinds) == {True, False}


def test_without_injection_it_is_encode_decode(model, images):
    ours = prompt_to_prompt(model, images, *TEXTS, FREE, seeds=[0, 0])
    params = EncodeDecodeParams(num_steps=6, strength=0.8)
    theirs = encode_decode(model, images, *TEXTS, params, seeds=[0, 0])
    torch.testing.assert_close(ours.images, theirs.images, rtol=0, atol=1e-4)
    assert ours.masks is None
    moves = len(model.schedule.grid(6, 0.8)) - 1
    assert ours.network_evaluations == 2 * moves + 2 * 3 * moves


def test_injection_changes_the_edit_and_each_picture_is_its_own(model, images):
    whole = dataclasses.replace(FREE, cross_steps=1.0, self_steps=1.0)
    free = prompt_to_prompt(model, images, *TEXTS, FREE, seeds=[0, 0]).images
    led = prompt_to_prompt(model, images, *TEXTS, whole, seeds=[0, 0]).images
    assert (free - led).abs().max() > 1e-3
    alone = prompt_to_prompt(model, images[1:], *(t[1:] for t in TEXTS), whole, seeds=[0]).images
    torch.testing.assert_close(alone[0], led[1], rtol=0, atol=2e-3)


def random_maps(pixels, tokens, seed=0):
    logits = torch.randn(3, 2, pixels, tokens, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(-1)


def test_control_injects_refines_and_reweights_as_published(model):
    pair = align(model, "a horse at night", "a red zebra at night")
    tokens = len(pair.origin)
    maps = random_maps(64, tokens)
    source, empty, target = maps.chunk(3)
    new = pair.swapped | pair.added
    for kind, own in (("replace", pair.added), ("refine", new)):
        control = Control([pair], dataclasses.replace(PARAMS, kind=kind, reweight=2.0))
        first, second, third = control(maps, True).chunk(3)
        assert torch.equal(first, source)
        assert torch.equal(second, empty)
        expected = torch.where(own, target, source @ pair.origin)
        torch.testing.assert_close(third, torch.where(new, 2 * expected, expected))
        control.done = 0.9  # beyond cross_steps
        third = control(maps, True).chunk(3)[2]
        torch.testing.assert_close(third, torch.where(new, 2 * target, target))


def test_a_word_that_both_texts_share_can_be_reweighted(model, images):
    texts = (["a red horse on the grass"] * 2,) * 2  # the third edit of the paper
    pair = align(model, *(side[0] for side in texts), "red horse")
    assert words(model, texts[0][0], pair.scaled) == ["red", "horse"]
    assert words(model, TEXTS[1][1], align(model, TEXTS[0][1], TEXTS[1][1]).scaled) == ["red"]
    shown = {}
    for factor in (1.0, 4.0):
        params = dataclasses.replace(FREE, reweight=factor, reweighted="red horse")
        shown[factor] = prompt_to_prompt(model, images, *texts, params, seeds=[1, 2]).images
        blended = dataclasses.replace(params, local_blend=0.5)
        mask = prompt_to_prompt(model, images, *texts, blended, seeds=[1, 2]).masks
        assert mask.any() == (factor != 1)
    assert not torch.equal(shown[1.0], shown[4.0])
    with pytest.raises(InputError, match="Words to reweight: “blue” is not in the text"):
        prompt_to_prompt(
            model, images, *texts, dataclasses.replace(PARAMS, reweighted="blue"), seeds=[1, 2]
        )


def test_self_attention_is_injected_early_and_on_coarse_grids_only(model):
    control = Control([align(model, "a cat", "a dog")], PARAMS)
    for pixels, done, injected in ((256, 0.0, True), (1024, 0.0, False), (256, 0.5, False)):
        control.done = done
        maps = random_maps(pixels, pixels)
        third = control(maps, False).chunk(3)[2]
        assert torch.equal(third, maps.chunk(3)[0 if injected else 2])


def test_local_blend_finds_where_the_words_that_differ_are_seen(model):
    pair = align(model, "a cat", "a dog")
    control = Control([pair], PARAMS)
    assert control.mask(32).min() == 1  # nothing seen yet: all may change
    maps = torch.zeros(3, 1, BLEND_SIZE, BLEND_SIZE, len(pair.origin))
    maps[0, :, :, :4, pair.gone] = 1.0  # the cat is at the left
    maps[2, :, 12:, :, pair.swapped] = 1.0  # the dog would be at the bottom
    control(maps.flatten(2, 3), True)
    mask = control.mask(BLEND_SIZE)[0, 0]
    assert mask[:, :5].all()
    assert mask[11:].all()
    assert not mask[:10, 6:].any()


def test_outside_the_blend_the_picture_is_the_encoded_input(model, images):
    masks = torch.zeros(2, 128, 128)
    masks[:, :, :64] = 1
    params = dataclasses.replace(PARAMS, guidance_scale=8.0)
    edits = prompt_to_prompt(model, images, *TEXTS, params, seeds=[0, 0], masks=masks)
    reconstructed = encode(model, images, *TEXTS, CopyParams(), seeds=[0, 0]).images
    far = (..., slice(None), slice(96, None))
    torch.testing.assert_close(edits.images[far], reconstructed[far], rtol=0, atol=1e-5)
    assert torch.equal(edits.masks, masks)
    blended = prompt_to_prompt(model, images, *TEXTS, params, seeds=[0, 0])
    assert blended.masks.shape == (2, 128, 128)
    assert set(blended.masks.unique().tolist()) <= {0.0, 1.0}


def test_too_many_pictures_are_a_callers_bug(model, images):
    with pytest.raises(ValueError, match="at most"):
        prompt_to_prompt(model, images.repeat(11, 1, 1, 1), TEXTS[0] * 11, TEXTS[1] * 11, PARAMS,
                         seeds=[0] * 22)  # fmt: skip


def test_the_blend_reads_maps_that_every_published_model_has():
    """Latents of the toybox, Stable Diffusion 1.5, 2.1 and XL, halved at every level."""
    assert [coarse_side(side) for side in (32, 64, 96, 128)] == [16, 16, 24, 32]
