import dataclasses

import pytest
import torch
from face_models import W_DIM, pictures, tiny_generator, tiny_mapper, tiny_models
from tiny_pack import CPU
from torch.nn import functional as F

from pipelines.clip2gan import Clip2Gan, caption_moves, directions, edit, generate, moved
from pipelines.errors import Cancelled
from pipelines.method_params import Clip2GanEditParams, Clip2GanParams
from pipelines.models.latent_mapper import LatentMapper

TEXTS = ["a smiling person", "a person wearing a red hat"]
DIRECTIONS = ("published", "difference", "clip", "captions")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("clip"))


def snapshot(models):
    networks = [
        models.clip.network, models.mapper, models.generator, models.encoder, models.captions,
    ]  # fmt: skip
    return [{name: t.clone() for name, t in n.state_dict().items()} for n in networks]


# ---------------------------------------------------------------- the mapper


@pytest.mark.parametrize("depth", [4, 8, 12])
def test_mapper_is_equation_3_layer_by_layer(depth):
    generator = tiny_generator()
    mapper = tiny_mapper(generator, 16, depth=depth, width=32)
    embeds = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    x = embeds * 4  # the root of 16
    weights = mapper.state_dict()
    for i in range(depth):
        x = x @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
        x = torch.where(x < 0, 0.2 * x, x)
    torch.testing.assert_close(mapper(embeds), x.view(3, generator.config.w_layers, W_DIM))
    assert f"layers.{depth}.weight" not in weights


def test_mapper_noise_is_in_units_of_a_feature():
    mapper = tiny_mapper(tiny_generator(), 16, depth=4, width=32)
    one, two = F.normalize(torch.eye(16)[:2] + 0.1, dim=1)
    wanted = mapper(two[None])
    torch.testing.assert_close(mapper(one[None], 4 * (two - one)[None]), wanted)


def test_an_untrained_mapper_starts_near_the_average_face():
    generator = tiny_generator()
    mapper = tiny_mapper(generator, 16)
    mapper.start_at(generator.w_avg)
    codes = mapper(F.normalize(torch.randn(50, 16), dim=1))
    assert (codes - generator.w_avg).abs().mean() < 0.15
    zeroed = tiny_mapper(generator, 16)
    zeroed.start_at(generator.w_avg)
    torch.nn.init.zeros_(zeroed.layers[-1].weight)
    torch.testing.assert_close(zeroed(torch.ones(1, 16)), generator.w_plus(generator.w_avg[None]))


def test_mapper_survives_the_disk(tmp_path):
    mapper = tiny_mapper(tiny_generator(), 16, depth=4, width=32, clip="clip_vit")
    mapper.save(tmp_path)
    again = LatentMapper.from_folder(tmp_path, CPU)
    assert again.config() == mapper.config()
    embeds = F.normalize(torch.randn(2, 16), dim=1)
    torch.testing.assert_close(again(embeds), mapper(embeds), rtol=5e-3, atol=5e-3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(ValueError, match="16 numbers, got 8"):
        again(torch.ones(1, 8))


def test_a_mapper_of_another_generator_is_refused(models):
    wrong = tiny_mapper(models.generator, models.clip.dim + 1, depth=4, width=32)
    with pytest.raises(ValueError, match="these networks need"):
        Clip2Gan(models.clip, wrong, models.generator)


# ---------------------------------------------------------------- text to face


def test_generation_is_the_mapped_text_with_the_published_noise(models):
    many = [TEXTS[0]] * 300
    faces = torch.cat([
        generate(models, many[:60], Clip2GanParams(), seeds=range(i, i + 60)).w_plus
        for i in range(0, 300, 60)
    ])  # fmt: skip
    plain = generate(models, TEXTS[:1], Clip2GanParams(noise="none"), seeds=[0])
    torch.testing.assert_close(
        plain.w_plus, models.mapper(models.clip.embed_texts(TEXTS[:1])), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(plain.images, models.generator.synthesis(plain.w_plus))
    normal = torch.randn(4000, models.clip.dim, generator=torch.Generator().manual_seed(5))
    features = models.clip.embed_texts(TEXTS[:1]).expand(4000, -1)
    expected = models.mapper(features, 1 + 0.6 * normal).flatten(1)
    error = (faces.flatten(1).mean(0) - expected.mean(0)) / expected.std(0)
    assert error.abs().max() < 5 / 300**0.5
    ratio = faces.flatten(1).std(0) / expected.std(0)
    assert (ratio - 1).abs().max() < 0.35


def test_seeds_decide_and_batches_do_not(models):
    params = Clip2GanParams()
    both = generate(models, TEXTS, params, seeds=[3, 4])
    single = generate(models, TEXTS[1:], params, seeds=[4])
    torch.testing.assert_close(both.images[1:], single.images, rtol=1e-3, atol=1e-4)
    again = generate(models, TEXTS, params, seeds=[3, 4])
    assert torch.equal(both.images, again.images)
    other = generate(models, TEXTS[1:], params, seeds=[5])
    assert (other.images - single.images).abs().max() > 1e-3
    still = dataclasses.replace(params, amount=0.0)
    quiet = [generate(models, TEXTS[1:], still, seeds=[seed]).images for seed in (1, 2)]
    assert torch.equal(*quiet)


def test_captions_move_a_random_face_by_what_its_own_code_needs(models):
    params = Clip2GanParams("captions")
    faces = generate(models, TEXTS, params, seeds=[3, 4])
    alone = generate(models, TEXTS[1:], params, seeds=[4])
    torch.testing.assert_close(faces.w_plus[1:], alone.w_plus, rtol=1e-4, atol=1e-5)
    quiet = generate(models, TEXTS, dataclasses.replace(params, noise="none"), seeds=[3, 4])
    average = models.generator.w_avg.expand(2, -1)
    move = models.captions(models.clip.embed_texts(TEXTS), average)
    torch.testing.assert_close(quiet.w_plus, models.generator.w_plus(average + move))
    assert (faces.w_plus - quiet.w_plus).abs().max() > 1e-3
    with pytest.raises(ValueError, match="needs the mapper that read captions"):
        generate(dataclasses.replace(models, captions=None), TEXTS, params, seeds=[3, 4])


# ---------------------------------------------------------------- editing


def test_published_editing_is_equations_11_to_14(models):
    images, beta = pictures(2), 0.75
    faces = edit(models, images, TEXTS, Clip2GanEditParams(beta=beta))
    z = models.mapper(models.clip.embed_images(images))
    n = models.mapper(models.clip.embed_texts(TEXTS))
    torch.testing.assert_close(faces.w_plus, z + beta * n)
    torch.testing.assert_close(faces.images, models.generator.synthesis(z + beta * n))


def test_difference_mode_subtracts_the_neutral_text(models):
    params = Clip2GanEditParams(beta=1.0, direction="difference", base="inverted")
    faces = edit(models, pictures(2), TEXTS, params, neutral="a bald person")
    codes = models.mapper(models.clip.embed_texts([*TEXTS, "a bald person"]))
    torch.testing.assert_close(faces.w_plus, models.encoder(pictures(2)) + codes[:2] - codes[2])
    assert directions(models, ["a bald person"], "difference", "a bald person").abs().max() == 0


def test_captions_mode_asks_each_face_where_it_has_to_move(models):
    base = models.encoder(pictures(2))
    move = models.captions(models.clip.embed_texts(TEXTS), base.mean(1))
    params = Clip2GanEditParams(beta=0.5, direction="captions", base="inverted")
    faces = edit(models, pictures(2), TEXTS, params)
    torch.testing.assert_close(faces.w_plus, base + 0.5 * move[:, None])
    same = caption_moves(models, base, [TEXTS[0]] * 2)
    assert (same[0] - same[1]).abs().max() > 1e-4


def test_clip_mode_maps_the_sum_of_both_embeddings(models):
    images = pictures(2)
    faces = edit(models, images, TEXTS, Clip2GanEditParams(beta=0.5, direction="clip"))
    total = models.clip.embed_images(images) + 0.5 * models.clip.embed_texts(TEXTS)
    wanted = models.mapper(total / total.norm(dim=1, keepdim=True))
    torch.testing.assert_close(faces.w_plus, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", ["mapped", "inverted"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_beta_0_is_the_reconstruction(models, direction, base):
    params = Clip2GanEditParams(beta=0.0, direction=direction, base=base)
    code = models.mapper(models.clip.embed_images(pictures(2)))
    code = models.encoder(pictures(2)) if base == "inverted" else code
    torch.testing.assert_close(
        edit(models, pictures(2), TEXTS, params).w_plus, code, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_only_the_chosen_layers_move(models, direction):
    params = Clip2GanEditParams(direction=direction)
    everywhere = edit(models, pictures(2), TEXTS, params).w_plus
    base = edit(models, pictures(2), TEXTS, dataclasses.replace(params, beta=0.0)).w_plus
    some = edit(models, pictures(2), TEXTS, params, layers=[2, 5]).w_plus
    kept = [i for i in range(base.shape[1]) if i not in (2, 5)]
    torch.testing.assert_close(some[:, [2, 5]], everywhere[:, [2, 5]])
    torch.testing.assert_close(some[:, kept], base[:, kept], rtol=1e-4, atol=1e-5)
    assert (some - base)[:, [2, 5]].abs().max() > 1e-3


def test_sliders_add_up_and_start_from_any_code(models):
    start = models.generator.w_plus(models.generator.mapping(torch.ones(1, 16)))
    n = directions(models, TEXTS, "difference")
    total = moved(moved(start, 0.3 * n[:1]), -0.5 * n[1:])
    torch.testing.assert_close(total, start + 0.3 * n[0] - 0.5 * n[1])
    params = Clip2GanEditParams(beta=0.3, direction="difference")
    faces = edit(models, pictures(1), TEXTS[:1], params, w_plus=start)
    torch.testing.assert_close(faces.w_plus, start + 0.3 * n[:1])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_edit_in_a_batch_is_the_edit_alone(models, direction):
    params = Clip2GanEditParams(direction=direction, base="inverted")
    both = edit(models, pictures(2), TEXTS, params).images
    alone = edit(models, pictures(2)[1:], TEXTS[1:], params).images
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)


def test_an_inverted_base_needs_an_encoder(models):
    without = dataclasses.replace(models, encoder=None)
    with pytest.raises(ValueError, match="encoder"):
        edit(without, pictures(1), TEXTS[:1], Clip2GanEditParams(base="inverted"))


def test_steps_are_told_and_can_cancel(models):
    seen = []
    generate(models, TEXTS, Clip2GanParams(), seeds=[0, 1], on_step=seen.append)
    assert [(step.stage, step.index, step.total) for step in seen] == [
        ("reading the text", 1, 2),
        ("painting", 2, 2),
    ]
    assert seen[-1].preview().size == (128, 128)

    def stop(step):
        raise Cancelled

    with pytest.raises(Cancelled):
        edit(models, pictures(2), TEXTS, Clip2GanEditParams(), on_step=stop)


def test_models_stay_as_they_were(models):
    before = snapshot(models)
    generate(models, TEXTS, Clip2GanParams(), seeds=[0, 1])
    for direction in DIRECTIONS:
        params = Clip2GanEditParams(direction=direction, base="inverted")
        edit(models, pictures(2), TEXTS, params)
    for old, new in zip(before, snapshot(models), strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert not any(m.training for m in (models.mapper, models.generator, models.encoder))
