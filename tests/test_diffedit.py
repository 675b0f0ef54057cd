import dataclasses

import pytest
import torch
from tiny_pack import tiny_scene_model

from pipelines import masks as mask_recipes
from pipelines.baselines import copy, encode
from pipelines.diffedit import (
    diffedit,
    diffedit_without_encoding,
    difference_map,
    encode_decode,
)
from pipelines.edits import Counter, latent_mask
from pipelines.errors import Cancelled
from pipelines.memo import Memo
from pipelines.method_params import CopyParams, DiffEditParams, EncodeDecodeParams, SDEditParams
from pipelines.sdedit import sdedit

PARAMS = DiffEditParams(num_steps=6, strength=0.7, num_maps=2)
TEXTS = (
    ["a horse on the grass", "a red car at night"],
    ["a zebra on the grass", "a blue car at night"],
)
METHODS = {
    diffedit: PARAMS,
    diffedit_without_encoding: PARAMS,
    encode_decode: EncodeDecodeParams(num_steps=6),
    sdedit: SDEditParams(num_steps=6),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture
def left_half():
    masks = torch.zeros(2, 128, 128)
    masks[:, :, :64] = 1
    return masks


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_image_by_image_equals_the_batch_and_repeats_to_the_bit(method, model, images):
    params = METHODS[method]
    batch = method(model, images, *TEXTS, params, seeds=[1, 2])
    again = method(model, images, *TEXTS, params, seeds=[1, 2])
    assert torch.equal(batch.images, again.images)
    for i, seed in enumerate((1, 2)):
        texts = [[column[i]] for column in TEXTS]
        alone = method(model, images[i : i + 1], *texts, params, seeds=[seed])
        torch.testing.assert_close(alone.images[0], batch.images[i], rtol=0, atol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_the_model_is_left_as_it_was(method, model, images):
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.unet.modules()]
    processors = dict(model.unet.attn_processors)
    method(model, images, *TEXTS, METHODS[method], seeds=[1, 2])
    after = model.unet.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert model.unet.attn_processors == processors
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.unet.modules()
    ]
    assert not any(p.requires_grad for p in model.unet.parameters())


@pytest.mark.parametrize("solver", ["ddim", "dpm2m"])
def test_outside_the_mask_the_latents_end_as_the_clean_input(solver, model, images, left_half):
    params = dataclasses.replace(PARAMS, solver=solver)
    seen = []
    edits = diffedit(
        model, images, *TEXTS, params, seeds=[1, 2], masks=left_half,
        on_step=lambda step: seen.append(step.stage),
    )  # fmt: skip
    assert edits.difference is None
    assert set(seen) == {"encoding", "decoding"}
    reconstructed = encode(model, images, *TEXTS, CopyParams(), seeds=[1, 2]).images
    far = (..., slice(None), slice(96, None))  # beyond the decoder's reach from the border
    torch.testing.assert_close(edits.images[far], reconstructed[far], rtol=0, atol=1e-5)
    assert (edits.images - reconstructed)[..., :64].abs().max() > 0.01


def test_x0_compositing_also_ends_at_the_input_outside(model, images, left_half):
    params = dataclasses.replace(PARAMS, compositing="x0")
    edits = diffedit(model, images, *TEXTS, params, seeds=[1, 2], masks=left_half)
    same = diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2], masks=left_half)
    reconstructed = encode(model, images, *TEXTS, CopyParams(), seeds=[1, 2]).images
    far = (..., slice(None), slice(96, None))
    torch.testing.assert_close(edits.images[far], reconstructed[far], rtol=0, atol=0.05)
    assert not torch.equal(edits.images, same.images)


def test_guidance_one_and_no_text_with_an_open_mask_is_the_round_trip(model, images):
    params = DiffEditParams(num_steps=50, strength=0.4, guidance_scale=1.0)
    nothing = ["", ""]
    edits = diffedit(
        model, images, nothing, nothing, params, seeds=[1, 2], masks=torch.ones(2, 128, 128)
    )
    torch.testing.assert_close(edits.images, edits.reconstruct(), rtol=0, atol=1e-5)
    reconstructed = encode(model, images, *TEXTS, CopyParams(), seeds=[1, 2]).images
    assert (edits.images - reconstructed).abs().mean() < 0.02


def test_equal_texts_differ_nowhere(model, images):
    latents0 = model.encode_images(images)
    with torch.no_grad():
        difference = difference_map(
            model, model.eps, latents0, TEXTS[0], TEXTS[0], PARAMS, seeds=[1, 2]
        )
    assert difference.shape == (2, 32, 32)
    assert difference.abs().max() < 1e-5


def test_counts_evaluations_by_sample(model, images):
    steps = int(6 * 0.7)
    edits = diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2])
    assert edits.network_evaluations == 2 * (2 * PARAMS.num_maps + steps + 2 * steps)
    assert copy(model, images, *TEXTS, CopyParams(), seeds=[1, 2]).network_evaluations == 0


def test_a_second_edit_of_a_picture_reuses_its_encoding(model, images):
    memo = Memo(2**28)
    fresh = diffedit(model, images, TEXTS[0], TEXTS[0][::-1], PARAMS, seeds=[1, 2])
    first = diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2], memo=memo)
    second = diffedit(model, images, TEXTS[0], TEXTS[0][::-1], PARAMS, seeds=[1, 2], memo=memo)
    assert torch.equal(second.images, fresh.images)
    steps = int(6 * 0.7)
    assert first.network_evaluations - second.network_evaluations == 2 * (PARAMS.num_maps + steps)
    shorter = dataclasses.replace(PARAMS, strength=0.5)
    reused = diffedit(model, images, *TEXTS, shorter, seeds=[1, 2], memo=memo)
    assert torch.equal(reused.images, diffedit(model, images, *TEXTS, shorter, seeds=[1, 2]).images)
    assert reused.network_evaluations == 2 * 2 * int(6 * 0.5)  # guided decoding alone


def test_the_reconstruction_is_told_step_by_step_and_made_once(model, images):
    memo, stages = Memo(2**28), []

    def tell(step):
        stages.append((step.stage, step.index, step.total))

    options = {"seeds": [1, 2], "memo": memo, "on_step": tell}
    first = diffedit(model, images, *TEXTS, PARAMS, **options)
    steps = int(6 * 0.7)
    assert stages[:2] == [("mask", 1, 2), ("mask", 2, 2)]
    assert not [stage for stage, *_ in stages if stage == "reconstructing"]
    shown = first.reconstruct()
    told = [one for one in stages if one[0] == "reconstructing"]
    assert told == [("reconstructing", k + 1, steps) for k in range(steps)]
    del stages[:]
    again = diffedit(model, images, TEXTS[0], TEXTS[0][::-1], PARAMS, **options).reconstruct()
    assert torch.equal(again, shown) and "reconstructing" not in {stage for stage, *_ in stages}
    shorter = dataclasses.replace(PARAMS, strength=0.5)
    other = diffedit(model, images, *TEXTS, shorter, **options).reconstruct()
    assert not torch.equal(other, shown)


def test_masks_of_a_difference_need_no_network(model, images):
    counter = Counter(model.eps)
    with torch.no_grad():
        difference = difference_map(
            model, counter, model.encode_images(images), *TEXTS, PARAMS, seeds=[1, 2]
        )
    spent = counter.samples
    areas = [
        mask_recipes.binarise(difference, images, "thesis", threshold).mean().item()
        for threshold in (0.25, 0.5, 0.75)
    ]
    assert counter.samples == spent
    assert areas[0] > areas[1] > areas[2]


def test_a_cell_is_edited_if_any_of_its_pixels_is():
    masks = torch.zeros(1, 128, 128)
    masks[0, 5, 9] = 1
    cells = latent_mask(masks, 32)
    assert cells.sum() == 1
    assert cells[0, 0, 1, 2] == 1


def test_cancelling_stops_before_the_next_evaluation(model, images):
    counted = []

    def stop(step):
        counted.append(step)
        if step.stage == "encoding" and step.index == 2:
            raise Cancelled

    memo = Memo(2**28)
    with pytest.raises(Cancelled):
        diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2], on_step=stop, memo=memo)
    assert counted[-1].stage == "encoding"
    finished = diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2], memo=memo)
    assert torch.equal(
        finished.images, diffedit(model, images, *TEXTS, PARAMS, seeds=[1, 2]).images
    )
