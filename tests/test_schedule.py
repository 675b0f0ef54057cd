"""The immutable noise schedule against diffusers' schedulers."""

import dataclasses
import math

import pytest
import torch
from diffusers import DDIMScheduler

from pipelines.diffusion.analytic import STABLE_DIFFUSION
from pipelines.diffusion.schedule import (
    CLEAN,
    SPACINGS,
    NoiseSchedule,
    coarsen,
    epsilon_from_v,
)

SD = dict(STABLE_DIFFUSION)
CONFIGS = {
    "ddpm": {},
    "sd": SD,
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
    "trained": {"trained_betas": [0.01, 0.02, 0.2, 0.5], "num_train_timesteps": 4},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_levels_equal_diffusers(name):
    schedule = NoiseSchedule.from_config(CONFIGS[name])
    reference = DDIMScheduler(**CONFIGS[name])
    assert schedule.alphas_cumprod.dtype == torch.float64
    torch.testing.assert_close(
        schedule.alphas_cumprod.float(), reference.alphas_cumprod, rtol=2e-5, atol=1e-8
    )
    assert schedule.final_alpha_cumprod == pytest.approx(float(reference.final_alpha_cumprod))


def test_zero_terminal_snr_equals_diffusers_but_for_the_last_level():
    config = SD | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    schedule = NoiseSchedule.from_config(config)
    reference = DDIMScheduler(**config).alphas_cumprod
    torch.testing.assert_close(schedule.alphas_cumprod.float(), reference, rtol=1e-3, atol=1e-7)
    assert schedule.alphas_cumprod[-1] == 2.0**-24
    assert math.isfinite(schedule.half_log_snr(999))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("offset", [0, 1])
def test_timesteps_equal_diffusers_for_every_number_of_steps(spacing, offset):
    config = {"timestep_spacing": spacing, "steps_offset": offset}
    schedule, reference = NoiseSchedule.from_config(config), DDIMScheduler(**config)
    compared = 0
    for num_steps in [*range(1, 130), *range(130, 1000, 17), 500, 999, 1000]:
        reference.set_timesteps(num_steps)
        expected = tuple(reversed(reference.timesteps.tolist()))
        if expected[-1] == 1000:  # diffusers leaves the trained range; we say so
            with pytest.raises(ValueError, match="1000"):
                schedule.timesteps(num_steps)
            continue
        if expected[0] == -1:  # diffusers' float rounding gives one step too many
            assert len(expected) == num_steps + 1
            expected = expected[1:]
        assert schedule.timesteps(num_steps) == expected, num_steps
        compared += 1
    assert compared > 180


def test_spacing_argument_overrides_the_config():
    schedule = NoiseSchedule.from_config(SD)
    assert schedule.timesteps(50) == tuple(range(1, 1000, 20))
    assert schedule.timesteps(50, "trailing") == tuple(range(19, 1000, 20))
    assert schedule.timesteps(1, "linspace") == (0,)


def test_grid_keeps_the_lower_part():
    schedule = NoiseSchedule.from_config(SD)
    assert schedule.grid(50, 0.8) == (CLEAN, *range(1, 800, 20))
    assert len(schedule.grid(50, 0.58)) == 1 + 29  # int(50 * 0.58) is 28 in floating point
    assert schedule.grid(50, 0.0) == (CLEAN,)
    assert schedule.grid(50, 1.0) == schedule.grid(50) == (CLEAN, *schedule.timesteps(50))


def test_coarsen_keeps_both_ends():
    grid = NoiseSchedule.from_config(SD).grid(50, 0.7)
    assert coarsen(grid, 5) == (CLEAN, 81, 181, 281, 381, 481, 581, 681)
    assert coarsen(grid, 1) == grid
    assert coarsen(grid, 100) == (CLEAN, 681)
    assert coarsen((CLEAN,), 3) == (CLEAN,)
    assert set(coarsen(grid, 4)) < set(grid)


def test_log_snr_is_that_of_the_level():
    schedule = NoiseSchedule.from_config(SD)
    alpha, sigma = schedule.alpha_sigma(500, torch.zeros(1))
    assert schedule.half_log_snr(500) == pytest.approx(math.log(alpha / sigma))
    assert schedule.half_log_snr(CLEAN) == schedule.half_log_snr(0)
    assert NoiseSchedule.from_config({}).half_log_snr(CLEAN) == math.inf


@pytest.mark.parametrize("name", CONFIGS)
def test_add_noise_equals_diffusers(name):
    schedule, reference = NoiseSchedule.from_config(CONFIGS[name]), DDIMScheduler(**CONFIGS[name])
    generator = torch.Generator().manual_seed(0)
    latents0, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    t = torch.tensor([0, schedule.num_train_timesteps // 2, schedule.num_train_timesteps - 1])
    expected = reference.add_noise(latents0, noise, t)
    torch.testing.assert_close(schedule.add_noise(latents0, noise, t), expected)
    single = schedule.add_noise(latents0, noise, int(t[1]))
    torch.testing.assert_close(single[1], expected[1])
    assert single.dtype == torch.float32


def test_adding_noise_to_the_clean_level():
    latents0, noise = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 5.0)
    schedule = NoiseSchedule.from_config({})
    assert torch.equal(schedule.add_noise(latents0, noise, CLEAN), latents0)
    assert torch.equal(schedule.add_noise(latents0, noise, torch.tensor([CLEAN])), latents0)


def test_epsilon_from_v_recovers_the_noise():
    schedule = NoiseSchedule.from_config(SD | {"prediction_type": "v_prediction"})
    reference = DDIMScheduler(**SD)
    latents0, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (torch.tensor([0, 500, 999]), 300):
        steps = t if isinstance(t, torch.Tensor) else torch.full((3,), t)
        latents = schedule.add_noise(latents0, noise, t)
        v = reference.get_velocity(latents0, noise, steps)
        eps = epsilon_from_v(lambda *_, v=v: v, schedule)(latents, t, torch.zeros(1, 1, 1))
        torch.testing.assert_close(eps, noise, rtol=1e-4, atol=1e-5)


def test_epsilon_models_pass_through():
    def model(latents, t, text_embeds):
        return latents

    assert epsilon_from_v(model, NoiseSchedule.from_config(SD)) is model


def test_a_v_network_in_half_precision_is_converted_in_the_dtype_of_the_latents():
    schedule = NoiseSchedule.from_config(SD | {"prediction_type": "v_prediction"})
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    eps = epsilon_from_v(lambda x, t, e: x.bfloat16(), schedule)(latents, 3, torch.zeros(1, 1, 1))
    assert eps.dtype == torch.float32


def test_the_schedule_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NoiseSchedule.from_config(SD).steps_offset = 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
        ({"prediction_type": "sample"}, "sample"),
        ({"timestep_spacing": "karras"}, "karras"),
        ({"clip_sample": True}, "clip_sample"),
        ({"thresholding": True}, "thresholding"),
        ({"rescale_betas_zero_snr": True}, "epsilon"),
        ({"steps_offset": -2}, "-2"),
        ({"num_train_timesteps": 0}, "0"),
        ({"beta_end": 1.5}, "1.5"),
        ({"beta_end": float("nan")}, "nan"),
        ({"beta_start": -0.1, "beta_schedule": "scaled_linear"}, "-0.1"),
        ({"trained_betas": [0.1, 0.2]}, "2"),
    ],
)
def test_bad_configs_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_config(config)


def test_bad_arguments_are_named():
    schedule = NoiseSchedule.from_config(SD)
    latents = torch.zeros(2, 4, 8, 8)
    cases = [
        (lambda: schedule.timesteps(0), "got 0"),
        (lambda: schedule.timesteps(1001), "1001"),
        (lambda: schedule.timesteps(10, "karras"), "karras"),
        (lambda: schedule.grid(50, 1.2), "1.2"),
        (lambda: schedule.grid(50, float("nan")), "nan"),
        (lambda: schedule.alpha_cumprod(1000), "1000"),
        (lambda: schedule.alpha_cumprod(-2), "-2"),
        (lambda: schedule.add_noise(latents, latents, torch.tensor([5, 1000])), "1000"),
        (lambda: schedule.add_noise(latents, latents, torch.tensor([5])), "timesteps"),
        (lambda: schedule.add_noise(latents, latents[:1], 5), "noise"),
        (lambda: coarsen((CLEAN, 5, 3), 2), "5, 3"),
        (lambda: coarsen((1, 3), 2), "grid"),
        (lambda: coarsen((CLEAN, 3), 0), "got 0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
