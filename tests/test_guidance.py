"""Classifier-free guidance: the formula, the batching, the shape checks."""

import pytest
import torch

from pipelines.diffusion.guidance import classifier_free, condition

B, L, D = 3, 5, 8
GENERATOR = torch.Generator().manual_seed(0)
LATENTS = torch.randn(B, 4, 8, 8, generator=GENERATOR)
TEXT, UNCOND = torch.randn(2, B, L, D, generator=GENERATOR)


class Network:
    """An eps-model that reads all three inputs and counts its calls."""

    def __init__(self):
        self.batches = []

    def __call__(self, latents, t, text_embeds):
        self.batches.append(latents.shape[0])
        assert text_embeds.shape[0] == latents.shape[0]
        if isinstance(t, torch.Tensor) and t.ndim:
            assert t.shape == latents.shape[:1]
            t = t[:, None, None, None]
        return latents * text_embeds.mean((1, 2))[:, None, None, None] + 0.01 * t


def test_condition_binds_the_text():
    network = Network()
    eps = condition(network, TEXT)(LATENTS, 7)
    torch.testing.assert_close(eps, network(LATENTS, 7, TEXT))
    shared = condition(network, TEXT[:1])(LATENTS, 7)
    torch.testing.assert_close(shared, network(LATENTS, 7, TEXT[:1].expand(B, -1, -1)))


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 7.5, -1.0])
def test_guidance_is_the_formula_in_one_call(scale):
    network = Network()
    eps = classifier_free(network, TEXT, UNCOND, scale)(LATENTS, 7)
    assert network.batches == [2 * B]
    eps_text, eps_uncond = network(LATENTS, 7, TEXT), network(LATENTS, 7, UNCOND)
    torch.testing.assert_close(eps, eps_uncond + scale * (eps_text - eps_uncond))


def test_scale_one_is_off_and_costs_one_evaluation():
    network = Network()
    eps = classifier_free(network, TEXT, UNCOND, 1)(LATENTS, 7)
    assert network.batches == [B]
    assert torch.equal(eps, network(LATENTS, 7, TEXT))


@pytest.mark.parametrize("t", [torch.tensor([3, 500, 999]), torch.tensor(7)])
def test_timesteps_may_be_tensors(t):
    network = Network()
    eps = classifier_free(network, TEXT, UNCOND, 3.0)(LATENTS, t)
    eps_text, eps_uncond = network(LATENTS, t, TEXT), network(LATENTS, t, UNCOND)
    torch.testing.assert_close(eps, eps_uncond + 3.0 * (eps_text - eps_uncond))


def test_one_text_serves_the_whole_batch():
    network = Network()
    shared = classifier_free(network, TEXT[:1], UNCOND[:1], 3.0)(LATENTS, 7)
    full = classifier_free(network, TEXT[:1].expand(B, -1, -1), UNCOND[:1].expand(B, -1, -1), 3.0)(
        LATENTS, 7
    )
    torch.testing.assert_close(shared, full)
    mixed = classifier_free(network, TEXT, UNCOND[:1], 3.0)(LATENTS, 7)
    assert mixed.shape == LATENTS.shape


def test_gradients_reach_the_latents():
    latents = LATENTS.clone().requires_grad_()
    classifier_free(Network(), TEXT, UNCOND, 3.0)(latents, 7).sum().backward()
    assert latents.grad.abs().sum() > 0


def test_bad_arguments_are_named():
    network = Network()
    cases = [
        (lambda: classifier_free(network, TEXT, UNCOND, float("nan")), "nan"),
        (lambda: classifier_free(network, TEXT[0], UNCOND, 3.0), r"text_embeds .*\(5, 8\)"),
        (lambda: classifier_free(network, TEXT, UNCOND[0], 1.0), r"uncond_embeds .*\(5, 8\)"),
        (lambda: classifier_free(network, TEXT, UNCOND[:, :4], 3.0), r"\(3, 4, 8\)"),
        (lambda: condition(network, TEXT[0]), r"\(5, 8\)"),
        (lambda: condition(network, TEXT[:2])(LATENTS, 7), "3 latents"),
        (lambda: classifier_free(network, TEXT, UNCOND[:2], 3.0)(LATENTS, 7), "3 latents"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    assert network.batches == []
