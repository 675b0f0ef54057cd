"""The second-order solver against exact solutions, and against DDIM."""

import json
import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from pipelines.benchmarks.report import Report
from pipelines.benchmarks.solvers import measure, mixture_subject
from pipelines.diffusion import ddim, solvers
from pipelines.diffusion.analytic import (
    STABLE_DIFFUSION,
    even_schedule,
    gaussian,
    rough_mixture,
)
from pipelines.diffusion.schedule import CLEAN, NoiseSchedule, coarsen

SD = dict(STABLE_DIFFUSION)
FLOAT64 = torch.float64


def rms(difference):
    return difference.square().mean().sqrt().item()


def typical(difference):
    """The median over images: one on the border between two modes may end in the other one."""
    return difference.square().mean((1, 2, 3)).sqrt().median().item()


def generator():
    return torch.Generator().manual_seed(0)


def fine_grid(top):
    return (CLEAN, *range(1, top + 1))


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_second_order_convergence_to_the_exact_solution(direction):
    schedule, data = even_schedule(1024), gaussian((1, 4, 4))
    denoise = data.denoiser(schedule)
    latents0 = data.sample(2, generator())
    top = data.flow(latents0, CLEAN, 1024, schedule)
    errors = []
    for moves in (128, 256, 512):
        grid = (CLEAN, *range(1024 // moves, 1025, 1024 // moves))
        if direction == "encode":
            errors.append(rms(solvers.encode(denoise, latents0, grid, schedule)[-1] - top))
        else:
            errors.append(rms(solvers.decode(denoise, top, grid, schedule) - latents0))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(2, abs=0.15), (errors, orders)
    assert errors[0] < 2e-4


def test_encode_then_decode_is_the_identity_to_second_order():
    schedule, data = even_schedule(1024), gaussian((4, 8, 8))
    denoise, latents0 = data.denoiser(schedule), data.sample(2, generator())
    errors = []
    for moves in (64, 128):
        grid = (CLEAN, *range(1024 // moves, 1025, 1024 // moves))
        top = solvers.encode(denoise, latents0, grid, schedule)[-1]
        errors.append(rms(solvers.decode(denoise, top, grid, schedule) - latents0))
    assert errors[1] < errors[0] / 3.5
    assert errors[1] < 2e-3


def test_every_entry_of_the_trajectory_is_at_its_level():
    schedule, data = even_schedule(1024), gaussian((4, 8, 8))
    latents0 = data.sample(2, generator())
    grid = (CLEAN, *range(16, 1025, 16))
    trajectory = solvers.encode(data.denoiser(schedule), latents0, grid, schedule)
    assert len(trajectory) == len(grid)
    assert trajectory[0] is latents0
    for latents, level in zip(trajectory, grid, strict=True):
        assert rms(latents - data.flow(latents0, CLEAN, level, schedule)) < 2e-3


def test_decode_equals_the_dpm_solver_of_diffusers_where_both_extrapolate_alike():
    """diffusers' DPMSolverMultistepScheduler, 2M, midpoint, at levels even in lambda."""
    schedule, data = even_schedule(1000), rough_mixture(6, (1, 4, 4), seed=0)
    alphas = schedule.alphas_cumprod[1:]
    betas = 1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])
    reference = DPMSolverMultistepScheduler(
        trained_betas=betas.tolist(),
        num_train_timesteps=1000,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="sigma_min",
        timestep_spacing="trailing",
    )
    reference.set_timesteps(20)
    denoise = data.denoiser(schedule)
    latents = expected = torch.randn(2, 1, 4, 4, generator=generator(), dtype=FLOAT64)
    for t in reference.timesteps:  # level t of diffusers is our level t + 1
        eps = denoise(expected, int(t) + 1)
        expected = reference.step(eps, t, expected).prev_sample
    levels = [int(t) + 1 for t in reference.timesteps]
    # diffusers ends at its first level, our 1; a schedule that has it as CLEAN does the same
    ours = NoiseSchedule(
        schedule.alphas_cumprod[1:], final_alpha_cumprod=schedule.alphas_cumprod[1].item()
    )
    grid = (CLEAN, *(level - 1 for level in reversed(levels)))
    result = solvers.decode(data.denoiser(ours), latents, grid, ours)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_steps", [10, 20, 50])
def test_errors_on_a_mixture_are_a_fraction_of_those_of_ddim(num_steps):
    schedule, data = NoiseSchedule.from_config(SD), rough_mixture(8, (1, 4, 4), seed=1)
    denoise, latents0 = data.denoiser(schedule), data.sample(32, generator())
    grid = schedule.grid(num_steps, 0.8)
    top = solvers.encode(denoise, latents0, fine_grid(grid[-1]), schedule)[-1]
    errors = {}
    for name, (encode, decode) in solvers.SOLVERS.items():
        up = encode(denoise, latents0, grid, schedule)[-1]
        errors[name] = (
            typical(up - top),
            typical(decode(denoise, top, grid, schedule) - latents0),
            typical(decode(denoise, up, grid, schedule) - latents0),
        )
    ratios = [fast / slow for fast, slow in zip(errors["dpm2m"], errors["ddim"], strict=True)]
    assert max(ratios) < 0.6, (errors, ratios)
    assert ratios[0] < 0.35, (errors, ratios)


def test_fine_grids_agree_with_ddim():
    """Both solvers solve the same ODE: with every trained timestep they meet."""
    schedule, data = NoiseSchedule.from_config(SD), rough_mixture(6, (1, 4, 4), seed=0)
    denoise, latents0 = data.denoiser(schedule), data.sample(4, generator())
    grid = fine_grid(300)
    slow, fast = (solver[0](denoise, latents0, grid, schedule)[-1] for solver in BOTH)
    assert rms(slow - fast) < 0.03
    slow, fast = (solver[1](denoise, fast, grid, schedule) for solver in BOTH)
    assert rms(slow - fast) < 0.01


BOTH = (solvers.SOLVERS["ddim"], solvers.SOLVERS["dpm2m"])


@pytest.mark.parametrize(
    "extra",
    [
        {"set_alpha_to_one": True},  # lambda is infinite at CLEAN
        {"steps_offset": 0},  # CLEAN and the first timestep are the same level
        {"timestep_spacing": "trailing"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
    ids=["one", "zero-move", "trailing", "zero-snr"],
)
def test_every_clean_end_is_finite_and_accurate(extra):
    schedule = NoiseSchedule.from_config(SD | extra)
    data = rough_mixture(6, (1, 4, 4), seed=0)
    denoise, latents0 = data.denoiser(schedule), data.sample(16, generator())
    errors = {}
    for name, (encode, decode) in solvers.SOLVERS.items():
        grid = schedule.grid(25, 0.8)
        up = encode(denoise, latents0, grid, schedule)
        errors[name] = typical(decode(denoise, up[-1], grid, schedule) - latents0)
        assert all(torch.isfinite(latents).all() for latents in up)
    assert errors["dpm2m"] < 0.7 * errors["ddim"]


def test_decode_ends_in_the_data_prediction_where_lambda_is_infinite():
    schedule = NoiseSchedule.from_config(SD | {"set_alpha_to_one": True})
    eps = torch.randn(1, 4, 8, 8, generator=generator(), dtype=FLOAT64)
    latents = torch.randn(1, 4, 8, 8, generator=generator(), dtype=FLOAT64)
    result = solvers.decode(lambda x, t: eps, latents, (CLEAN, 500), schedule)
    torch.testing.assert_close(result, ddim.step(latents, eps, 500, CLEAN, schedule))


def test_constant_noise_is_solved_exactly_by_one_move():
    """With a constant eps every exponential integrator is the DDIM step."""
    schedule = NoiseSchedule.from_config(SD)
    latents0, eps = torch.randn(2, 1, 4, 8, 8, generator=generator(), dtype=FLOAT64)
    grid = schedule.grid(10, 0.6)
    expected = ddim.step(latents0, eps, CLEAN, grid[-1], schedule)
    up = solvers.encode(lambda x, t: eps, latents0, grid, schedule)[-1]
    torch.testing.assert_close(up, expected)
    direct = solvers.encode(lambda x, t: eps, latents0, (CLEAN, grid[-1]), schedule)[-1]
    torch.testing.assert_close(direct, expected)


def test_the_network_sees_the_true_levels_once_each():
    schedule = NoiseSchedule.from_config(SD)
    grid, labels = schedule.grid(10, 0.5), []

    def denoise(latents, t):
        labels.append(t)
        return latents

    latents = torch.zeros(1, 4, 8, 8)
    solvers.encode(denoise, latents, grid, schedule)
    assert labels == [0, *grid[1:]]
    labels.clear()
    solvers.decode(denoise, latents, grid, schedule)
    assert labels == list(grid[:0:-1])


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_an_empty_mask_gives_back_the_input_exactly(name):
    encode, decode = solvers.SOLVERS[name]
    schedule, data = NoiseSchedule.from_config(SD), rough_mixture(6, (1, 4, 4), seed=0)
    denoise, latents0 = data.denoiser(schedule), data.sample(2, generator())
    grid, levels = schedule.grid(10, 0.7), []
    trajectory = encode(denoise, latents0, grid, schedule)

    def after_step(latents, i):
        levels.append(i)
        return trajectory[i]

    result = decode(denoise, trajectory[-1], grid, schedule, after_step=after_step)
    assert torch.equal(result, latents0)
    assert levels == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_a_fine_trajectory_serves_a_coarse_decode(name):
    encode, decode = solvers.SOLVERS[name]
    schedule, data = NoiseSchedule.from_config(SD), rough_mixture(6, (1, 4, 4), seed=0)
    denoise, latents0 = data.denoiser(schedule), data.sample(8, generator())
    grid = schedule.grid(50, 0.8)
    coarse = coarsen(grid, 4)
    trajectory = encode(denoise, latents0, grid, schedule)
    levels = [trajectory[grid.index(level)] for level in coarse]
    seen = []

    def after_step(latents, i):
        seen.append(rms(latents - levels[i]))
        return latents

    decode(denoise, levels[-1], coarse, schedule, after_step=after_step)
    assert len(seen) == 10
    assert max(seen) < 0.1


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_solvers_keep_the_dtype_report_every_move_and_do_nothing_without_moves(name):
    encode, decode = solvers.SOLVERS[name]
    schedule, reports = NoiseSchedule.from_config(SD), []
    latents = torch.randn(2, 4, 8, 8, generator=generator())

    def denoise(latents, t):
        return latents.bfloat16()

    def on_step(index, total, latents):
        reports.append((index, total, latents.dtype))

    expected = [(i, 5, torch.float32) for i in range(5)]
    grid = schedule.grid(10, 0.5)
    assert encode(denoise, latents, grid, schedule, on_step=on_step)[-1].dtype == torch.float32
    assert reports == expected
    reports.clear()
    decode(denoise, latents, grid, schedule, on_step=on_step)
    assert reports == expected
    assert encode(denoise, latents, (CLEAN,), schedule) == [latents]
    assert decode(denoise, latents, (CLEAN,), schedule) is latents
    with pytest.raises(ValueError, match="grid"):
        encode(denoise, latents, (21, 1), schedule)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_images_of_a_batch_do_not_influence_each_other(name):
    encode, decode = solvers.SOLVERS[name]
    schedule, data = NoiseSchedule.from_config(SD), rough_mixture(6, (1, 4, 4), seed=0)
    denoise, latents0 = data.denoiser(schedule), data.sample(4, generator())
    grid = schedule.grid(10, 0.7)
    up = encode(denoise, latents0, grid, schedule)[-1]
    alone = encode(denoise, latents0[2:3], grid, schedule)[-1]
    torch.testing.assert_close(up[2:3], alone)
    down = decode(denoise, up, grid, schedule)
    torch.testing.assert_close(down[2:3], decode(denoise, alone, grid, schedule))


def test_the_benchmark_writes_its_records(tmp_path):
    report = Report("solvers", seed=0, path=tmp_path / "solvers.jsonl")
    measure(mixture_subject(2, 0, even_schedule(49)), (5,), report)
    records = [json.loads(line) for line in (tmp_path / "solvers.jsonl").read_text().splitlines()]
    assert len(records) == 3 * 2 + 2
    keys = {"benchmark", "metric", "method", "setting", "value", "n", "seed", "spread"}
    assert all(keys <= set(record) for record in records)
    assert {record["method"] for record in records} == set(solvers.SOLVERS)
    assert all(0 < record["value"] < 2 and record["n"] == 2 for record in records)
