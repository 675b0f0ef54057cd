import itertools

import numpy as np
import pytest
import torch
from toy_generators import CELLS, DCGAN, QuarterParser, Quarters

from pipelines import lelsd as method
from pipelines.directions import apply
from pipelines.errors import Cancelled, InputError
from pipelines.lelsd import apartness, lelsd, search
from pipelines.local_directions import random_direction
from pipelines.method_params import LELSDParams
from pipelines.metrics.localization import combined, leakage, localization_scores
from pipelines.models.face_parser import FaceParser
from pipelines.models.latent_spaces import StyleGAN2Latents
from pipelines.models.stylegan2 import StyleGAN2, StyleGAN2Config
from pipelines.training.segmentation import untrained

QUICK = LELSDParams(learning_rate=0.05)
PARSER = QuarterParser()


@pytest.fixture
def short(monkeypatch):
    """Searches of 80 batches, which is enough for toys at a higher rate."""
    monkeypatch.setattr(method, "BATCHES", 80)


@pytest.fixture(scope="module")
def stylegan():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = StyleGAN2(StyleGAN2Config((12, 10, 8), z_dim=7, w_dim=9, mapping_layers=3))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return StyleGAN2Latents(model.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def dcgan():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DCGAN().eval().requires_grad_(False)


def first(count, *args, **options):
    """Where a search is after `count` batches."""
    return list(itertools.islice(search(*args, **options), count))[-1]


# ---------------------------------------------------------------- the score


def test_localization_score_is_equation_2_written_out():
    source = torch.Generator().manual_seed(0)
    before = [torch.randn(2, c, s, s, generator=source) for c, s in ((5, 4), (3, 8))]
    after = [x + torch.randn(x.shape, generator=source) for x in before]
    masks = torch.rand(2, 16, 16, generator=source)
    scores = localization_scores(before, after, masks)
    for layer, (x, y) in enumerate(zip(before, after, strict=True)):
        side = x.shape[-1]
        for b in range(2):
            inside = total = 0.0
            for i in range(side):
                for j in range(side):
                    cell = 16 // side
                    rows, columns = (slice(k * cell, (k + 1) * cell) for k in (i, j))
                    change = float(((x[b, :, i, j] - y[b, :, i, j]) ** 2).sum())
                    inside += change * float(masks[b, rows, columns].mean())
                    total += change
            assert scores[layer, b].item() == pytest.approx(inside / total, rel=1e-4)
    assert torch.equal(localization_scores(before, before, masks), torch.zeros(2, 2))


def test_leakage_is_the_rest_of_the_change():
    images, edited = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    edited[:, 0, 0, 0], edited[:, 2, 3, 3] = 1.0, 2.0
    masks = torch.zeros(1, 4, 4)
    masks[:, :2, :2] = 1
    assert leakage(images, edited, masks).tolist() == pytest.approx([0.8])


def test_masks_before_and_after_become_one():
    before, after = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert combined(before, after, "average").tolist() == [1, 0.5, 0.5, 0]
    assert combined(before, after, "union").tolist() == [1, 1, 1, 0]
    assert combined(before, after, "intersection").tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="median"):
        combined(before, after, "median")


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("mask", ["average", "union", "intersection"])
def test_the_known_direction_is_found(mask, short):
    generator, part = Quarters(), "right top"
    params = LELSDParams(learning_rate=0.05, mask=mask)
    (direction,) = lelsd(generator, PARSER, part, params, seed=0)
    for vector, truth in zip(direction.vectors, generator.truth(part), strict=True):
        assert abs(torch.cosine_similarity(vector, truth, 0)) > 0.995
    assert direction.scores[-1] > 0.99 > direction.scores[0]
    assert len(direction.scores) == 80
    assert direction.layers == (0, 1)


def test_in_w_one_vector_moves_all_layers(short):
    generator = Quarters(alike=True)
    params = LELSDParams(space="w", learning_rate=0.05)
    (direction,) = lelsd(generator, PARSER, "left bottom", params, seed=1)
    assert torch.equal(*direction.vectors)
    truth = generator.truth("left bottom")[0]
    assert abs(torch.cosine_similarity(direction.vectors[0], truth, 0)) > 0.995


def test_only_chosen_layers_are_moved(short):
    generator = Quarters()
    (direction,) = lelsd(generator, PARSER, CELLS[0], QUICK, seed=0, layers=[1])
    assert direction.layers == (1,)
    truth = generator.truth(CELLS[0])[1]
    assert abs(torch.cosine_similarity(direction.vectors[1], truth, 0)) > 0.995
    for layers in ([], [2], [-1]):
        with pytest.raises(ValueError, match="layers"):
            next(search(generator, PARSER, CELLS[0], QUICK, seed=0, layers=layers))


def fresh_score(generator, direction):
    """The score at strength 1 on codes that no training saw."""
    space = direction.space
    codes = generator.draw(space, range(10**6, 10**6 + 16))
    before, after = (
        generator.features(space, code) for code in (codes, apply(direction, codes, 1.0))
    )
    masks = PARSER.part_masks(before[0], direction.part)
    return localization_scores([*before[1], before[0]], [*after[1], after[0]], masks).mean().item()


def learns(generator, space):
    """Whether 60 batches find something more local than each of eight random directions."""
    params = LELSDParams(space=space, learning_rate=0.05)
    states = list(itertools.islice(search(generator, PARSER, CELLS[0], params, seed=0), 60))
    start, end = states[0].directions[0], states[-1].directions[0]
    assert tuple(len(v) for v in end.vectors) == generator.spaces[space].widths
    pairs = zip(start.vectors, end.vectors, strict=True)
    assert all((u - v).abs().max() > 0.05 for u, v in pairs)  # no layer is left as it started
    others = [random_direction(generator, CELLS[0], space=space, seed=seed) for seed in range(8)]
    return fresh_score(generator, end) > max(fresh_score(generator, other) for other in others)


@pytest.mark.parametrize("space", ["z", "w", "w+", "s"])
def test_every_space_of_a_stylegan_learns(stylegan, space):
    assert learns(stylegan, space)


def test_a_generator_of_another_architecture_learns(dcgan):
    assert learns(dcgan, "z")


def test_spaces_of_a_stylegan_name_the_same_pictures(stylegan):
    images = [
        stylegan.features(space, stylegan.draw(space, [3, 4]))[0] for space in stylegan.spaces
    ]
    for image in images[1:]:
        torch.testing.assert_close(image, images[0], rtol=1e-4, atol=1e-5)
    alone = stylegan.draw("s", [4])
    both = stylegan.draw("s", [3, 4])
    for one, two in zip(alone, both, strict=True):
        torch.testing.assert_close(one[0], two[1])
    with pytest.raises(ValueError, match="z"):
        stylegan.codes_of("z", torch.zeros(1, 6, 9))


# ---------------------------------------------------------------- several directions


def test_apartness_is_the_papers_regulariser():
    u = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    cosines = np.array([[1, 0.5**0.5], [0.5**0.5, 1]])
    expected = -np.linalg.norm(cosines - np.eye(2)) / 2
    assert apartness([u, torch.eye(2)]).item() == pytest.approx(expected / 2, rel=1e-5)
    assert apartness([u[:1]]).item() == 0


def test_the_regulariser_keeps_directions_apart(short):
    """Quarters alike in both layers: without it all directions become the one that is best."""

    def similarity(weight):
        params = LELSDParams(learning_rate=0.05, num_directions=2, correlation_weight=weight)
        a, b = lelsd(Quarters(), PARSER, CELLS[3], params, seed=2)
        assert len(a.scores) == len(b.scores) == 80
        pairs = zip(a.vectors, b.vectors, strict=True)
        return max(abs(torch.cosine_similarity(u, v, 0).item()) for u, v in pairs)

    assert similarity(0.0) > 0.9
    assert similarity(5.0) < 0.1


# ---------------------------------------------------------------- how it runs


def test_the_rate_halves_after_each_quarter(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    lelsd(Quarters(), PARSER, CELLS[0], LELSDParams(), seed=0)
    assert rates == [0.001] * 50 + [0.0005] * 50 + [0.00025] * 50 + [0.000125] * 50


def test_unit_norm_holds_in_every_layer():
    params = LELSDParams(unit_norm=True, learning_rate=0.05)
    found = first(10, Quarters(), PARSER, CELLS[0], params, seed=0)
    for vector in found.directions[0].vectors:
        assert vector.norm().item() == pytest.approx(1, abs=1e-6)
    free = first(10, Quarters(), PARSER, CELLS[0], LELSDParams(learning_rate=0.05), seed=0)
    assert abs(free.directions[0].vectors[0].norm().item() - 1) > 1e-3


def test_a_seed_gives_the_same_bytes_and_another_one_others(stylegan):
    runs = [
        first(6, stylegan, PARSER, CELLS[0], LELSDParams(), seed=seed).directions[0]
        for seed in (5, 5, 6)
    ]
    assert runs[0].scores == runs[1].scores != runs[2].scores
    pairs = zip(runs[0].vectors, runs[1].vectors, strict=True)
    assert all(torch.equal(u, v) for u, v in pairs)
    assert not torch.equal(runs[0].vectors[0], runs[2].vectors[0])


def test_the_gradient_flows_to_the_direction_only(stylegan):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parser = FaceParser(untrained(("hair", "l_eye", "r_eye"), stride=2)).eval()
    models = stylegan.model, parser
    for model in models:
        model.requires_grad_(True)

    def state():
        return [
            (name, parameter.detach().clone(), parameter.requires_grad, parameter.grad)
            for model in models
            for name, parameter in (*model.named_parameters(), *model.named_buffers())
        ]

    def hooks():
        kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
        modules = [module for model in models for module in model.modules()]
        return [len(getattr(module, kind)) for module in modules for kind in kinds]

    part = max(parser.parts, key=lambda p: parser.part_masks(torch.zeros(1, 3, 16, 16), p).sum())
    before, hooked = state(), hooks()  # transformers hooks itself when first used
    found = first(3, stylegan, parser, part, LELSDParams(), seed=0)
    for (name, old, needed, _), (_, new, needs, gradient) in zip(before, state(), strict=True):
        assert torch.equal(old, new), name
        assert needed == needs
        assert gradient is None
    assert hooks() == hooked
    assert not any(module.training for model in models for module in model.modules())
    assert not any(v.requires_grad for v in found.directions[0].vectors)
    stylegan.model.requires_grad_(False)


def test_steps_are_told_with_score_and_picture():
    steps = []
    (direction,) = lelsd(Quarters(), PARSER, CELLS[0], LELSDParams(), seed=0, on_step=steps.append)
    assert [step.index for step in steps] == list(range(1, 201))
    assert {step.total for step in steps} == {200}
    assert tuple(step.score for step in steps) == direction.scores
    assert steps[0].preview().size == (16, 16)


def test_stopping_keeps_what_is_learnt_where_asked():
    def stop_at_5(step):
        if step.index == 5:
            raise Cancelled

    args = Quarters(), PARSER, CELLS[0], LELSDParams()
    (kept,) = lelsd(*args, seed=0, on_step=stop_at_5, keep_when_stopped=True)
    assert len(kept.scores) == 5
    expected = first(5, *args, seed=0).directions[0]
    assert torch.equal(kept.vectors[0], expected.vectors[0])
    with pytest.raises(Cancelled):
        lelsd(*args, seed=0, on_step=stop_at_5)


def test_a_part_that_is_never_seen_gets_a_sentence(dcgan, short):
    params = LELSDParams(space="z")
    with pytest.raises(InputError, match="“nothing”"):
        lelsd(dcgan, PARSER, "nothing", params, seed=0)


def test_unknown_parts_and_spaces_are_refused(dcgan):
    with pytest.raises(ValueError, match="moustache"):
        lelsd(dcgan, PARSER, "moustache", LELSDParams(space="z"), seed=0)
    with pytest.raises(ValueError, match=r"w\+"):
        lelsd(dcgan, PARSER, CELLS[0], LELSDParams(), seed=0)


def test_sequential_edits_add_up(short):
    generator = Quarters()
    codes = generator.draw("w+", [1])
    parts = CELLS[0], CELLS[3]
    found = [lelsd(generator, PARSER, part, QUICK, seed=0)[0] for part in parts]
    one = generator.features("w+", apply(found[0], codes, 0.5))[0]
    both = generator.features("w+", apply(found[1], apply(found[0], codes, 0.5), 0.5))[0]
    change = (both - one).abs().mean(1)[0]
    assert change[8:, 8:].min() > 20 * change[:8, :8].max()  # the first edit stays as it was
