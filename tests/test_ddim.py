"""DDIM against diffusers' two schedulers, and against a Gaussian solved by hand."""

import math

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from pipelines.diffusion import ddim
from pipelines.diffusion.analytic import (
    STABLE_DIFFUSION,
    even_schedule,
    gaussian,
    rough_mixture,
)
from pipelines.diffusion.schedule import CLEAN, NoiseSchedule, epsilon_from_v

SD = dict(STABLE_DIFFUSION)
NO_TEXT = torch.zeros(1, 1, 1)


def network(latents, t, text_embeds):
    """A smooth nonlinear stand-in for a network's raw output, eps or v."""
    return torch.sin(1.3 * latents + 0.002 * int(t)) + 0.3 * latents.roll(1, -1)


def draw(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


def same_levels(reference, schedule):
    """Give a diffusers scheduler our float64 levels, so that only the stepping is compared."""
    reference.alphas_cumprod = schedule.alphas_cumprod
    final = torch.tensor(schedule.final_alpha_cumprod, dtype=torch.float64)
    reference.final_alpha_cumprod = reference.initial_alpha_cumprod = final
    return reference


def setup(dtype, prediction_type, **extra):
    config = SD | {"prediction_type": prediction_type} | extra
    schedule = NoiseSchedule.from_config(config)
    eps_model = epsilon_from_v(network, schedule)
    down, up = DDIMScheduler(**config), DDIMInverseScheduler(**config)
    if dtype == torch.float64:
        down, up = same_levels(down, schedule), same_levels(up, schedule)
    return schedule, lambda latents, t: eps_model(latents, t, NO_TEXT), down, up


CASES = [
    pytest.param(dtype, prediction_type, num_steps, extra, id=f"{prediction_type}-{num_steps}-{i}")
    for dtype in (torch.float64, torch.float32)
    for prediction_type in ("epsilon", "v_prediction")
    for num_steps in (1, 7, 10, 50)
    for i, extra in enumerate(({}, {"set_alpha_to_one": True, "steps_offset": 0}))
]
TOLERANCE = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 1e-3, "atol": 1e-3},
}


@pytest.mark.parametrize(("dtype", "prediction_type", "num_steps", "extra"), CASES)
def test_decode_equals_diffusers(dtype, prediction_type, num_steps, extra):
    schedule, denoise, reference, _ = setup(dtype, prediction_type, **extra)
    latents = expected = draw(dtype)
    reference.set_timesteps(num_steps)
    for t in reference.timesteps:
        expected = reference.step(network(expected, t, None), t, expected).prev_sample
    result = ddim.decode(denoise, latents, schedule.grid(num_steps), schedule)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "prediction_type", "num_steps", "extra"), CASES)
def test_encode_equals_diffusers(dtype, prediction_type, num_steps, extra):
    schedule, denoise, _, reference = setup(dtype, prediction_type, **extra)
    latents = draw(dtype)
    reference.set_timesteps(num_steps)
    expected = [latents]
    for t in reference.timesteps:
        output = network(expected[-1], t, None)
        expected.append(reference.step(output, t, expected[-1]).prev_sample)
    trajectory = ddim.encode(denoise, latents, schedule.grid(num_steps), schedule)
    assert len(trajectory) == num_steps + 1
    assert trajectory[0] is latents
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), **TOLERANCE[dtype])


def test_decode_equals_diffusers_with_trailing_steps():
    schedule, denoise, reference, _ = setup(
        torch.float64, "epsilon", timestep_spacing="trailing", set_alpha_to_one=True
    )
    latents = expected = draw(torch.float64)
    reference.set_timesteps(20)
    for t in reference.timesteps:
        expected = reference.step(network(expected, t, None), t, expected).prev_sample
    result = ddim.decode(denoise, latents, schedule.grid(20), schedule)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


def test_decode_from_pure_noise_equals_diffusers():
    schedule, denoise, reference, _ = setup(
        torch.float32, "v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    )
    latents = expected = draw(torch.float32)
    reference.set_timesteps(20)
    for t in reference.timesteps:
        expected = reference.step(network(expected, t, None), t, expected).prev_sample
    result = ddim.decode(denoise, latents, schedule.grid(20), schedule)
    torch.testing.assert_close(result, expected, rtol=5e-3, atol=5e-3)


def test_step_reverses_itself_and_recovers_the_clean_latents():
    schedule = NoiseSchedule.from_config({})
    latents0, eps = draw(torch.float64), draw(torch.float64, seed=1)
    noisy = schedule.add_noise(latents0, eps, 700)
    tight = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(ddim.step(noisy, eps, 700, CLEAN, schedule), latents0, **tight)
    torch.testing.assert_close(ddim.step(latents0, eps, CLEAN, 700, schedule), noisy, **tight)
    between = ddim.step(noisy, eps, 700, 300, schedule)
    torch.testing.assert_close(between, schedule.add_noise(latents0, eps, 300), **tight)
    torch.testing.assert_close(ddim.step(between, eps, 300, 700, schedule), noisy, **tight)


def test_half_precision_eps_does_not_lower_the_precision_of_the_latents():
    schedule = NoiseSchedule.from_config({})
    latents, eps = draw(torch.float32), draw(torch.bfloat16, seed=1)
    result = ddim.step(latents, eps, 700, 300, schedule)
    assert result.dtype == torch.float32
    assert torch.equal(result, ddim.step(latents, eps.float(), 700, 300, schedule))


# --- Gaussian data, where the probability-flow ODE has a closed-form solution


def even_grid(moves):
    return (CLEAN, *range(1024 // moves, 1025, 1024 // moves))


def test_the_mixture_denoiser_of_one_gaussian_is_the_textbook_one():
    schedule = even_schedule(1024)
    latents, level = draw(torch.float64), schedule.alpha_cumprod(400)
    offsets = latents - math.sqrt(level) * 0.4
    expected = math.sqrt(1 - level) * offsets / (level * 0.5**2 + 1 - level)
    result = gaussian((4, 8, 8)).denoiser(schedule)(latents, 400)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_first_order_convergence_to_the_exact_solution(direction):
    schedule, data = even_schedule(1024), gaussian((4, 8, 8))
    denoise = data.denoiser(schedule)
    latents0 = data.sample(2, torch.Generator().manual_seed(0))
    top = data.flow(latents0, CLEAN, 1024, schedule)
    errors = []
    for moves in (16, 32, 64, 128, 256):
        if direction == "encode":
            error = ddim.encode(denoise, latents0, even_grid(moves), schedule)[-1] - top
        else:
            error = ddim.decode(denoise, top, even_grid(moves), schedule) - latents0
        errors.append(error.abs().max().item())
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(1, abs=0.1), (errors, orders)
    assert errors[-1] < 0.03


def test_encode_then_decode_converges_to_the_identity():
    schedule = NoiseSchedule.from_config(SD)
    mixture = rough_mixture(6, (1, 4, 4), seed=0)
    denoise = mixture.denoiser(schedule)
    latents0 = mixture.sample(8, torch.Generator().manual_seed(0))
    errors = []
    for num_steps in (10, 40, 160):
        grid = schedule.grid(num_steps, 0.8)
        top = ddim.encode(denoise, latents0, grid, schedule)[-1]
        errors.append((ddim.decode(denoise, top, grid, schedule) - latents0).square().mean().sqrt())
    assert errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < 0.02


# --- after_step and on_step


def test_after_step_sees_the_level_of_the_trajectory_entry():
    schedule = NoiseSchedule.from_config(SD)
    grid = schedule.grid(10, 0.6)
    latents0, noise = draw(torch.float64), draw(torch.float64, seed=1)
    labels, seen = [], []

    def oracle(latents, t):  # knows the noise: trajectories up and down are add_noise itself
        labels.append(t)
        return noise

    def after_step(latents, i):
        seen.append(i)
        torch.testing.assert_close(latents, schedule.add_noise(latents0, noise, grid[i]))
        torch.testing.assert_close(latents, trajectory[i])
        return latents

    clean = ddim.step(schedule.add_noise(latents0, noise, CLEAN), noise, CLEAN, CLEAN, schedule)
    trajectory = ddim.encode(oracle, clean, grid, schedule)
    assert labels == list(grid[1:])
    labels.clear()
    ddim.decode(oracle, trajectory[-1], grid, schedule, after_step=after_step)
    assert labels == list(grid[:0:-1])
    assert seen == [5, 4, 3, 2, 1, 0]


def test_an_empty_mask_gives_back_the_input_exactly():
    schedule, denoise, _, _ = setup(torch.float32, "epsilon")
    grid = schedule.grid(10, 0.7)
    latents0 = draw(torch.float32)
    trajectory = ddim.encode(denoise, latents0, grid, schedule)
    result = ddim.decode(
        denoise, trajectory[-1], grid, schedule, after_step=lambda latents, i: trajectory[i]
    )
    assert torch.equal(result, latents0)


def test_on_step_reports_every_move_and_may_stop():
    schedule, denoise, _, _ = setup(torch.float32, "epsilon")
    grid, latents = schedule.grid(10, 0.5), draw(torch.float32)
    reports = []
    trajectory = ddim.encode(
        denoise, latents, grid, schedule, on_step=lambda *report: reports.append(report)
    )
    assert [report[:2] for report in reports] == [(i, 5) for i in range(5)]
    assert reports[-1][2] is trajectory[-1]
    reports.clear()
    result = ddim.decode(
        denoise, latents, grid, schedule, on_step=lambda *report: reports.append(report)
    )
    assert [report[:2] for report in reports] == [(i, 5) for i in range(5)]
    assert reports[-1][2] is result

    def stop(index, total, latents):
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ddim.decode(denoise, latents, grid, schedule, on_step=stop)


def test_a_grid_without_moves_does_nothing():
    schedule, denoise, _, _ = setup(torch.float32, "epsilon")
    latents = draw(torch.float32)
    assert ddim.encode(denoise, latents, (CLEAN,), schedule) == [latents]
    assert ddim.decode(denoise, latents, (CLEAN,), schedule) is latents
    with pytest.raises(ValueError, match="grid"):
        ddim.decode(denoise, latents, (1, 21), schedule)


def test_keeping_the_eps_of_the_label_closes_the_round_trip_of_v_networks_better():
    mixture = rough_mixture(6, (1, 4, 4), seed=0)
    schedule = NoiseSchedule.from_config(SD | {"prediction_type": "v_prediction"})
    denoise = mixture.denoiser(schedule)
    latents0 = mixture.sample(8, torch.Generator().manual_seed(0))
    grid = schedule.grid(10, 0.8)
    errors = []
    for like_diffusers in (True, False):
        top = ddim.encode(denoise, latents0, grid, schedule, like_diffusers=like_diffusers)[-1]
        errors.append((ddim.decode(denoise, top, grid, schedule) - latents0).square().mean())
    assert errors[1] < errors[0] / 2
