import copy
import dataclasses

import lpips
import pytest
import torch
from face_models import tiny_encoder, tiny_generator
from tiny_pack import tiny_clips, tiny_perceptual, tiny_scene_model
from torch.nn import functional as F
from torchvision.transforms.functional import InterpolationMode, rotate

from pipelines.baselines import encode
from pipelines.errors import Cancelled, InputError
from pipelines.flexit import (
    DRAWS,
    augmented,
    embedding_loss,
    flexit,
    latent_loss,
    target_points,
)
from pipelines.memo import Memo
from pipelines.method_params import EncodeParams, FlexITParams
from pipelines.models.generator_space import GeneratorSpace
from pipelines.noise import seeded_uniform, sub_seed

SOURCE = ["a horse on the grass", "a red car at night"]
TARGET = ["a zebra on the grass", "a blue car at night"]
QUICK = FlexITParams(num_steps=1, snapshot_every=0)
STILL = (0.5, 1 - 1e-7, torch.tensor(1 / 0.9).log().div(torch.tensor(1.1 / 0.9).log()).item())
"""Draws of no turn, of the whole picture and of its own aspect."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    return {"clips": tiny_clips(folder), "perceptual": tiny_perceptual(folder / "lpips")}


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return F.interpolate(coarse, (128, 128), mode="bicubic").clamp(-1, 1) * 0.8


def run(model, images, params, further, *, seeds=(1, 2), **more):
    count = len(images)
    return flexit(
        model, images, SOURCE[:count], TARGET[:count], params, seeds=list(seeds)[:count],
        **further, **more,
    )  # fmt: skip


def watching(model):
    """Return the model and the list that everything it decodes is noted in."""
    decoded, watched = [], copy.copy(model)

    def decode(latents):
        decoded.append(latents.detach())
        return model.decode_latents(latents)

    watched.decode_latents = decode
    return watched, decoded


def changed(**values):
    return dataclasses.replace(QUICK, **values)


def test_target_is_the_papers_formula(images, further):
    params = changed(image_weight=0.3, source_weight=0.7)
    points = target_points(further["clips"], images, SOURCE, TARGET, params)
    assert list(points) == ["clip_vit", "clip_resnet", "clip_resnet_large"]
    for name, clip in further["clips"].items():
        network, tokens = clip.network, clip.tokenizer
        seen = network.encode_image(clip.preprocess(images), normalize=True)
        wanted, given = (
            network.encode_text(tokens(text), normalize=True) for text in (TARGET, SOURCE)
        )
        torch.testing.assert_close(points[name], wanted + 0.3 * seen - 0.7 * given)


def draws_of(seed, step, name, count):
    like = torch.empty(())
    return seeded_uniform((count, DRAWS), [sub_seed(seed, "augmentation", step, name)], like)


def release_loss(model, latents, latents0, image, text, params, further, seed):
    """The loss of one picture as the release computes it: crop by crop, network by network."""
    clips, perceptual = further["clips"], further["perceptual"]
    decoded = model.decode_latents(latents)
    products = []
    for name, clip in clips.items():
        source, target, seen = (
            clip.embed_texts([text[0]]), clip.embed_texts([text[1]]), clip.embed_images(image)
        )  # fmt: skip
        point = target + params.image_weight * seen - params.source_weight * source
        draws = draws_of(seed, 0, name, params.augmentations)
        crops = [
            clip.embed_prepared(augmented(clip.preprocess(decoded), one))
            for one in draws.split(1, 1)
        ]
        products.append((sum(crops) / len(crops) * point).sum())
    theirs = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, verbose=False)
    theirs.load_state_dict(perceptual.network.state_dict())
    change, start = (latents - latents0)[0], latents0[0]
    rows, columns = range(start.shape[1]), range(start.shape[2])
    moved = sum(change[:, i, j].norm() for i in rows for j in columns)
    size = sum(start[:, i, j].norm() for i in rows for j in columns)
    return (
        -sum(products) / len(products)
        + params.perceptual_weight * theirs(decoded, image).sum()
        + params.latent_weight * moved / size
    )


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips uses old arguments
def test_one_step_is_the_releases_loss_and_moves_along_its_gradient(model, images, further):
    params = changed(augmentations=2, learning_rate=0.03)
    watched, decoded = watching(model)
    edits = run(watched, images, params, further)
    before, after = decoded
    for b in range(2):
        image, text = images[b : b + 1], (SOURCE[b], TARGET[b])
        latents0 = model.encode_images(image)
        leaf = latents0.clone().requires_grad_()
        loss = release_loss(model, leaf, latents0, image, text, params, further, seed=b + 1)
        assert edits.diagnostics["curves"]["total"][b][0] == pytest.approx(loss.item(), abs=2e-5)
        (gradient,) = torch.autograd.grad(loss, leaf)
        step = 0.03 * latents0.norm() * gradient / gradient.norm()
        assert step.norm().item() == pytest.approx(0.03 * latents0.norm().item(), rel=1e-5)
        moved = after[b : b + 1] - before[b : b + 1]
        # the gradient's length is divided out, so rounding of a small one shows: 3 % on some CPUs
        assert (moved + step).norm() < 0.1 * step.norm()
    assert torch.equal(edits.images, model.decode_latents(after))


def test_augmentations_turn_crop_and_mirror(images):
    draws = torch.tensor([[[*STILL, 0.5, 0.5, 1.0], [*STILL, 0.5, 0.5, 0.0]]]).expand(2, -1, -1)
    still, mirrored = augmented(images, draws).unflatten(0, (2, 2)).unbind(1)
    torch.testing.assert_close(still, images, rtol=0, atol=1e-3)
    torch.testing.assert_close(mirrored, images.flip(-1), rtol=0, atol=1e-3)
    turned = augmented(images, torch.tensor([[[0.0, *STILL[1:], 0.5, 0.5, 1.0]]]).expand(2, -1, -1))
    theirs = rotate(images, 10, InterpolationMode.BILINEAR)
    inside = (..., slice(32, 96), slice(32, 96))
    one_way, other_way = (
        (turned[inside] - picture[inside]).abs().max().item()
        for picture in (theirs, rotate(images, -10, InterpolationMode.BILINEAR))
    )
    assert min(one_way, other_way) < 1e-3 < max(one_way, other_way)
    corner = augmented(
        images, torch.tensor([[[0.5, 0.0, STILL[2], 0.0, 0.0, 1.0]]]).expand(2, -1, -1)
    )
    side = round(128 * 0.8**0.5)
    assert (corner[..., 0, 0] - images[..., 0, 0]).abs().max() < 0.1
    assert (corner[..., -1, -1] - images[..., side - 1, side - 1]).abs().max() < 0.25


def test_squared_distance_and_scalar_product_differ_by_the_lengths():
    generator = torch.Generator().manual_seed(0)
    seen = {"a": torch.rand(3, 8, generator=generator), "b": torch.rand(3, 4, generator=generator)}
    points = {name: torch.rand(3, v.shape[1], generator=generator) for name, v in seen.items()}
    joined = [torch.cat(list(values.values()), 1) / 2**0.5 for values in (seen, points)]
    squared = embedding_loss(seen, points, "squared")
    torch.testing.assert_close(squared, (joined[0] - joined[1]).square().sum(1))
    lengths = sum(v.square().sum(1) for v in joined)
    torch.testing.assert_close(squared, lengths + 2 * embedding_loss(seen, points, "dot"))


def test_latent_norms_are_parts_of_the_start():
    latents0 = torch.zeros(1, 2, 2, 2)
    latents0[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    latents = latents0.clone()
    latents[0, :, 1, 1] = torch.tensor([0.6, 0.8])
    latents[0, 0, 0, 1] = 1.0
    expected = {"l21": 2 / 5, "l1": 2.4 / 7, "l2": 2**0.5 / 5}
    for norm, value in expected.items():
        assert latent_loss(latents, latents0, norm).item() == pytest.approx(value, rel=1e-5)
        leaf = latents0.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(latent_loss(leaf, latents0, norm).sum(), leaf)
        assert torch.equal(gradient, torch.zeros_like(gradient))  # at the start, and not NaN


def test_every_switch_acts(model, images, further):
    one, steps = images[:1], {"num_steps": 2, "augmentations": 0}
    plain = run(model, one, changed(**steps), further)
    assert set(plain.diagnostics["curves"]) == {"clip", "lpips", "latent", "total"}
    off = {"perceptual_weight": "lpips", "latent_weight": "latent"}
    for name, term in off.items():
        edits = run(model, one, changed(**steps, **{name: 0.0}), further)
        assert term not in edits.diagnostics["curves"]
        assert not torch.equal(edits.images, plain.images)
    for values in (
        {"image_weight": 0.0}, {"source_weight": 0.0}, {"latent_norm": "l1"}, {"loss": "squared"},
        {"normalise_gradient": False}, {"networks": "clip_vit"}, {"learning_rate": 0.1},
        {"space": "pixels"}, {"augmentations": 1},
    ):  # fmt: skip
        assert not torch.equal(
            run(model, one, changed(**steps | values), further).images, plain.images
        )


def test_a_seed_gives_the_same_bytes_and_a_batch_what_its_pictures_give_alone(
    model, images, further
):
    params = changed(num_steps=2)
    (watched, together), (other, alone) = watching(model), watching(model)
    batch = run(watched, images, params, further, memo=Memo(2**24))
    assert torch.equal(batch.images, run(model, images, params, further).images)
    assert not torch.equal(batch.images, run(model, images, params, further, seeds=(3, 4)).images)
    second = flexit(other, images[1:], SOURCE[1:], TARGET[1:], params, seeds=[2], **further)
    way = together[-1][1] - together[0][1]
    assert (alone[-1][0] - together[-1][1]).norm() < 0.1 * way.norm()  # rounding, see above
    total, single = (edits.diagnostics["curves"]["total"] for edits in (batch, second))
    assert single[0] == pytest.approx(total[1], abs=1e-4)


def test_a_snapshot_is_decoded_before_its_steps_update(model, images, further):
    edits = run(model, images, changed(num_steps=4, snapshot_every=2), further)
    assert list(edits.snapshots) == [0, 2, 4]
    encoded = encode(model, images, SOURCE, TARGET, EncodeParams(), seeds=[1, 2]).images
    torch.testing.assert_close(edits.snapshots[0], encoded, rtol=0, atol=1e-6)
    assert torch.equal(edits.snapshots[4], edits.images)
    two = run(model, images, changed(num_steps=2), further)
    torch.testing.assert_close(edits.snapshots[2], two.images, rtol=0, atol=1e-6)
    assert not torch.equal(edits.snapshots[2], edits.images)
    assert len(edits.diagnostics["curves"]["clip"][1]) == 5


def test_models_are_left_as_they_were(model, images, further):
    parts = [
        model.vae,
        *(c.network for c in further["clips"].values()),
        further["perceptual"].network,
    ]
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    run(model, images[:1], QUICK, further)
    for part, weights in zip(parts, before, strict=True):
        assert all(torch.equal(v, weights[k]) for k, v in part.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in part.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in part.modules())
        assert not part.training


def test_it_tells_of_every_step_and_stops_when_cancelled(model, images, further):
    told = []

    def listen(step):
        told.append((step.stage, step.index, step.total))
        assert step.preview().size == (128, 128)
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(model, images[:1], changed(num_steps=5), further, on_step=listen)
    assert told == [("optimising", 1, 5), ("optimising", 2, 5)]


def test_raw_pixels_move_by_a_part_of_their_length_and_stay_in_range(model, images, further):
    edits = run(model, images, changed(space="pixels", learning_rate=0.02), further)
    far = (edits.images - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(far, 0.02 * images.flatten(1).norm(dim=1), rtol=1e-3, atol=0)
    bold = run(model, images, changed(space="pixels", learning_rate=0.2, num_steps=3), further)
    assert bold.images.abs().max() <= 1


def test_the_codes_of_a_generator_stand_for_latents(images, further):
    generator = tiny_generator()
    space = GeneratorSpace(generator, tiny_encoder(generator), fingerprint="tiny")
    codes = space.encoder(images)
    latents0 = space.encode_images(images)
    torch.testing.assert_close(latents0[..., 0].transpose(1, 2) + generator.w_avg, codes)
    shown = generator.synthesis(codes).clamp(-1, 1)
    torch.testing.assert_close(space.decode_latents(latents0), shown)
    watched, decoded = watching(space)
    edits = run(watched, images, changed(space="faces", learning_rate=0.1), further)
    before, after = decoded
    torch.testing.assert_close(
        (after - before).flatten(1).norm(dim=1), 0.1 * latents0.flatten(1).norm(dim=1)
    )
    assert not torch.equal(edits.images, shown)


def test_one_network_is_the_ensemble_of_one(model, images, further):
    alone = {**further, "clips": {"clip_resnet": further["clips"]["clip_resnet"]}}
    ensemble = run(model, images[:1], changed(num_steps=2), alone)
    named = run(model, images[:1], changed(num_steps=2, networks="clip_resnet"), further)
    assert torch.equal(named.images, ensemble.images)
    with pytest.raises(InputError, match="another network"):
        run(model, images[:1], changed(networks="clip_vit"), alone)
