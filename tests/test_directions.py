import dataclasses
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_generators import CELLS, DCGAN, QuarterParser, Quarters

from pipelines.directions import Direction, apply, check, load, oriented, strengths_at
from pipelines.errors import InputError
from pipelines.local_directions import (
    derivatives,
    first_order,
    in_layers,
    overlap,
    random_direction,
    stylespace,
)
from pipelines.models.latent_spaces import StyleGAN2Latents
from pipelines.models.stylegan2 import StyleGAN2, StyleGAN2Config

PARSER = QuarterParser()


@pytest.fixture(scope="module")
def stylegan():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = StyleGAN2(StyleGAN2Config((6, 5), z_dim=7, w_dim=9, mapping_layers=3))
    return StyleGAN2Latents(model.eval().requires_grad_(False))


@pytest.fixture
def direction():
    return Direction(
        (torch.tensor([0.5, -1.0]), torch.zeros(3)),
        "s",
        "hair",
        "lelsd",
        "abc",
        (0.25, 0.5),
        {"seed": 3, "layers": [0]},
    )


# ---------------------------------------------------------------- files


def test_a_saved_direction_comes_back(direction, tmp_path):
    path = tmp_path / "new" / "hair.safetensors"
    direction.save(path)
    back = load(path)
    for name in ("space", "part", "method", "generator", "scores", "settings"):
        assert getattr(back, name) == getattr(direction, name)
    assert all(torch.equal(a, b) for a, b in zip(back.vectors, direction.vectors, strict=True))
    assert [file.name for file in path.parent.iterdir()] == ["hair.safetensors"]
    assert set(load_file(path)) == {"layer_0", "layer_1"}


def test_other_files_are_refused_with_a_sentence(direction, tmp_path):
    path = tmp_path / "file.safetensors"
    good = {f.name: getattr(direction, f.name) for f in dataclasses.fields(direction)}
    about = {key: value for key, value in good.items() if key != "vectors"}
    vectors = {"layer_0": torch.ones(2)}

    def write(tensors, header):
        save_file(tensors, path, metadata=header)

    wrong = {
        "a pickle": lambda: path.write_bytes(pickle.dumps({"u": 1})),
        "text": lambda: path.write_text("direction"),
        "nothing": lambda: path.write_bytes(b""),
        "no header": lambda: write(vectors, None),
        "no JSON": lambda: write(vectors, {"direction": "{"}),
        "a list": lambda: write(vectors, {"direction": "[]"}),
        "too little": lambda: write(vectors, {"direction": "{}"}),
        "too much": lambda: write(vectors, {"direction": json.dumps({**about, "x": 1})}),
        "other tensors": lambda: write({"u": torch.ones(2)}, {"direction": json.dumps(about)}),
    }
    for name, prepare in wrong.items():
        prepare()
        with pytest.raises(InputError, match="holds no direction"):
            load(path)
            pytest.fail(name)
    for damaged in (torch.full((2,), torch.nan), torch.ones(2, 2)):
        write({"layer_0": damaged}, {"direction": json.dumps(about)})
        with pytest.raises(InputError, match="damaged"):
            load(path)
    with pytest.raises(InputError, match="holds no direction"):
        load(tmp_path / "absent.safetensors")


def test_a_direction_of_another_generator_is_refused(stylegan):
    own = random_direction(stylegan, "hair", seed=0)
    check(own, stylegan)
    shorter = dataclasses.replace(own, vectors=own.vectors[1:])
    for other in (
        dataclasses.replace(own, generator="abc"),
        dataclasses.replace(own, space="v"),
        shorter,
    ):
        with pytest.raises(InputError, match="another generator"):
            check(other, stylegan)


def test_weights_have_different_fingerprints(stylegan):
    again = StyleGAN2Latents(stylegan.model, psi=0.5)
    assert again.fingerprint == stylegan.fingerprint
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = StyleGAN2Latents(StyleGAN2(stylegan.model.config))
    assert other.fingerprint != stylegan.fingerprint


# ---------------------------------------------------------------- moving codes


def test_codes_move_by_strength_and_layer(direction):
    codes = torch.zeros(2, 2), torch.ones(2, 3)
    moved = apply(direction, codes, torch.tensor([1.0, -2.0]))
    assert moved[0].tolist() == [[0.5, -1.0], [-1.0, 2.0]]
    assert torch.equal(moved[1], codes[1])
    assert torch.equal(apply(direction, codes, 3.0, layers=[1])[0], codes[0])
    assert torch.equal(apply(direction.scaled(2.0), codes, 1.0)[0], apply(direction, codes, 2.0)[0])
    assert direction.layers == (0,)
    assert not codes[0].any()


def test_strengths_reach_the_distance_that_is_asked_for():
    scale = torch.tensor([1.0, 0.01, 3.0, 1e-9])

    def distance(strengths):
        return torch.tanh(scale * strengths.abs())

    strengths = strengths_at(distance, 0.2, torch.tensor([1.0, -1.0, 1.0, 1.0]))
    expected = torch.atanh(torch.tensor(0.2)) / scale * torch.tensor([1.0, -1.0, 1.0, 1.0])
    torch.testing.assert_close(strengths[:3], expected[:3], rtol=0.02, atol=0)
    assert strengths[3].isnan()


# ---------------------------------------------------------------- baselines


@pytest.mark.parametrize("space", ["z", "w", "w+", "s"])
def test_derivatives_are_those_of_finite_differences(stylegan, space):
    codes = stylegan.draw(space, [1])
    columns = torch.cat(list(derivatives(stylegan, space, codes)))
    layout, eps = stylegan.spaces[space], 1e-2
    source = torch.Generator().manual_seed(0)
    step = torch.randn(len(columns), generator=source)
    step = step / step.norm()
    ends = [
        stylegan.features(space, tuple(c + s for c, s in zip(codes, moves, strict=True)))[0]
        for moves in (in_layers(eps * step, layout), in_layers(-eps * step, layout))
    ]
    expected = (ends[0] - ends[1]) / (2 * eps)
    found = torch.einsum("d,dchw->chw", step, columns)[None]
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.01 * expected.abs().max().item())


@pytest.mark.parametrize("space", ["w", "w+"])
def test_first_order_finds_the_known_direction_where_the_generator_is_simple(space):
    generator = Quarters(alike=True)
    found = first_order(generator, PARSER, CELLS, space=space, seed=0)
    for part in CELLS:
        pairs = zip(found[part].vectors, generator.truth(part), strict=True)
        astray = sum((vector - (vector @ truth) * truth).square().sum() for vector, truth in pairs)
        assert astray < 0.01 * sum(vector.square().sum() for vector in found[part].vectors)


def test_first_order_is_more_local_than_anything_random_in_a_plain_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = DCGAN().eval().requires_grad_(False)
    parts = CELLS[1:2]
    found = first_order(generator, PARSER, parts, space="z", seed=0, pictures=4)[CELLS[1]]
    codes = generator.draw("z", range(100, 108))
    image = generator.features("z", codes)[0]
    mask = PARSER.part_masks(image, CELLS[1])[:, None]

    def inside(direction):
        small = 1e-2 / torch.cat(direction.vectors).norm().item()
        change = (generator.features("z", apply(direction, codes, small))[0] - image).square()
        return ((change * mask).sum() / change.sum()).item()

    others = [random_direction(generator, CELLS[1], space="z", seed=seed) for seed in range(8)]
    assert inside(found) > max(inside(other) for other in others)


def test_overlap_by_hand():
    maps = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [9.0, 0.0, 8.0, 0.0]])
    masks = torch.tensor([[True, True, False, False], [False, False, False, True]])
    assert overlap(maps, masks).tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]


class Channels(Quarters):
    """Channel 3 - k of the first layer moves quarter k; the second layer moves all alike."""

    def __init__(self):
        super().__init__()
        self.spaces = {"s": self.spaces["w+"]}
        self.rotations = [torch.eye(4).flip(0), 0.1 * torch.ones(4, 4)]


def test_stylespace_names_the_channel_that_moves_a_part():
    found = stylespace(Channels(), PARSER, CELLS, seed=0, pictures=3)
    assert [found[part].settings["channel"] for part in CELLS] == [3, 2, 1, 0]
    for part in CELLS:
        flat = torch.cat(found[part].vectors)
        assert flat.count_nonzero() == 1
        assert found[part].settings["overlap"] == 1.0
    with pytest.raises(InputError, match="nothing"):
        stylespace(Channels(), PARSER, (*CELLS, "nothing"), seed=0, pictures=2)


def test_parts_that_no_picture_shows_are_named():
    with pytest.raises(InputError, match="shows: nothing"):
        first_order(Quarters(), PARSER, (*CELLS, "nothing"), seed=0, pictures=2)


def test_random_directions_have_length_1_in_every_layer(stylegan):
    for space, layout in stylegan.spaces.items():
        direction = random_direction(stylegan, "hair", space=space, seed=0)
        assert all(abs(v.norm().item() - 1) < 1e-5 for v in direction.vectors)
        same = len(direction.vectors) > 1 and torch.equal(*direction.vectors[:2])
        assert same == layout.is_shared


class LitQuarters(QuarterParser):
    """Sees a part where its quarter is red."""

    def part_masks(self, images, part):
        return super().part_masks(images, part) * (images[:, 0] > 0)


def test_strengths_above_0_show_more_of_the_part():
    quarters, part = Quarters(), CELLS[1]
    towards = tuple(quarters.truth(part))
    up = Direction(towards, "w+", part, "lelsd", quarters.fingerprint, (), {})
    assert oriented(up, quarters, LitQuarters(), seed=0) is up
    turned = oriented(up.scaled(-1), quarters, LitQuarters(), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(turned.vectors, towards, strict=True))
