"""Noise levels and timestep grids of a trained diffusion model, immutable, in float64.

A *level* is an integer timestep 0 <= t < T of training, or `CLEAN`. A *grid* is an ascending tuple
(CLEAN, t_1, ..., t_K): K moves up (encode) or down (decode). Nothing here is changed by use, so
any number of requests may share one schedule (diffusers' `set_timesteps` writes into the object).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

EpsModel = Callable[[Tensor, int | Tensor, Tensor], Tensor]
"""(latents (B,C,h,w), t int or (B,) integer tensor, text_embeds (B,L,D)) -> eps (B,C,h,w)."""

Denoiser = Callable[[Tensor, int | Tensor], Tensor]
"""(latents (B,C,h,w), t int or (B,) integer tensor) -> eps (B,C,h,w)."""

Grid = tuple[int, ...]

CLEAN = -1
"""The level of a clean latent; its cumulative alpha is `NoiseSchedule.final_alpha_cumprod`."""

PREDICTION_TYPES = ("epsilon", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")

# Zero terminal SNR: at alphas_cumprod = 0 exactly, eps says nothing about the image and the log-SNR
# is -inf. diffusers' EulerDiscreteScheduler stops at the same 2**-24.
_SMALLEST_ALPHA_CUMPROD = 2.0**-24


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise levels of one trained model.

    Attributes:
        alphas_cumprod: (T,) float64 on the CPU, strictly decreasing in (0, 1]; never written to.
        prediction_type: what the network outputs, "epsilon" or "v_prediction".
        final_alpha_cumprod: cumulative alpha of `CLEAN`: 1.0, or alphas_cumprod[0].
        steps_offset: added to "leading" timesteps (1 for Stable Diffusion).
        timestep_spacing: "leading", "trailing" or "linspace" (Lin et al. 2023, table 2).
    """

    alphas_cumprod: Tensor
    prediction_type: str = "epsilon"
    final_alpha_cumprod: float = 1.0
    steps_offset: int = 0
    timestep_spacing: str = "leading"
    _levels: Tensor = field(init=False, repr=False)  # (T + 1,), the last (index -1) is CLEAN

    def __post_init__(self) -> None:
        """Reject values that no model was trained with."""
        alphas = self.alphas_cumprod
        if alphas.ndim != 1 or len(alphas) < 1 or alphas.dtype != torch.float64:
            raise ValueError(
                f"alphas_cumprod must be (T,) float64, got {tuple(alphas.shape)} {alphas.dtype}"
            )
        if not (alphas[-1] > 0 and alphas[0] <= 1 and bool((alphas.diff() < 0).all())):
            raise ValueError(
                "alphas_cumprod must decrease strictly within (0, 1], "
                f"got {alphas[0].item()} ... {alphas[-1].item()}"
            )
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type must be one of {PREDICTION_TYPES}, got {self.prediction_type!r}"
            )
        if not alphas[0] <= self.final_alpha_cumprod <= 1:
            raise ValueError(
                f"final_alpha_cumprod must lie in [{alphas[0].item()}, 1], "
                f"got {self.final_alpha_cumprod}"
            )
        if self.steps_offset < 0:
            raise ValueError(f"steps_offset must not be negative, got {self.steps_offset}")
        _check_spacing(self.timestep_spacing)
        levels = torch.cat([alphas, alphas.new_tensor([self.final_alpha_cumprod])])
        object.__setattr__(self, "_levels", levels)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read the dictionary of a diffusers `scheduler_config.json` (of any scheduler class).

        Missing keys take DDIMScheduler's defaults, but x0 is never clipped: clipping cannot be
        inverted and is meant for pixels, so an explicit `clip_sample` or `thresholding` of true
        is an error. Keys that only sampling with noise needs are ignored.
        """
        for key in ("clip_sample", "thresholding"):
            if config.get(key, False):
                raise ValueError(f"{key} is true: predictions of latents cannot be clipped")
        prediction_type = config.get("prediction_type", "epsilon")
        betas = _betas(config)  # (T,)
        if config.get("rescale_betas_zero_snr", False):
            if prediction_type != "v_prediction":
                raise ValueError(
                    "rescale_betas_zero_snr needs prediction_type v_prediction, "
                    f"got {prediction_type!r}"
                )
            alphas_cumprod = _rescale_zero_terminal_snr(torch.cumprod(1 - betas, dim=0))
        else:
            alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        return cls(
            alphas_cumprod=alphas_cumprod,
            prediction_type=prediction_type,
            final_alpha_cumprod=(
                1.0 if config.get("set_alpha_to_one", True) else alphas_cumprod[0].item()
            ),
            steps_offset=config.get("steps_offset", 0),
            timestep_spacing=config.get("timestep_spacing", "leading"),
        )

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of trained timesteps."""
        return len(self.alphas_cumprod)

    def timesteps(self, num_steps: int, spacing: str | None = None) -> tuple[int, ...]:
        """Return `num_steps` ascending timesteps: diffusers' `set_timesteps`, reversed.

        Args:
            num_steps: 1 to T.
            spacing: "leading", "trailing" or "linspace"; None takes the model's own.
        """
        spacing = _check_spacing(self.timestep_spacing if spacing is None else spacing)
        total = self.num_train_timesteps
        if not 1 <= num_steps <= total:
            raise ValueError(f"num_steps must lie in [1, {total}], got {num_steps}")
        if spacing == "leading":
            ratio = total // num_steps
            steps = [i * ratio + self.steps_offset for i in range(num_steps)]
        elif spacing == "trailing":
            # numpy.arange(total, 0, -ratio), which increments by (total - ratio) - total
            increment = (total - total / num_steps) - total
            steps = [round(total + i * increment) - 1 for i in reversed(range(num_steps))]
        else:
            # numpy.linspace; one step is the lowest timestep
            increment = (total - 1) / max(num_steps - 1, 1)
            steps = [round(i * increment) for i in range(num_steps)]
        if steps[-1] >= total:
            raise ValueError(
                f"{num_steps} {spacing} steps with steps_offset {self.steps_offset} reach timestep "
                f"{steps[-1]}, but the last trained one is {total - 1}"
            )
        return tuple(steps)

    def grid(self, num_steps: int, strength: float = 1.0, spacing: str | None = None) -> Grid:
        """Return (CLEAN, t_1, ..., t_K), the lower part of a schedule of `num_steps`.

        Args:
            num_steps: steps of the full schedule.
            strength: the encoding ratio r in [0, 1]: K = int(num_steps * r). K may be 0.
            spacing: as in `timesteps`.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must lie in [0, 1], got {strength}")
        kept = int(num_steps * strength + 1e-9)  # 50 * 0.58 is 28.999... in floating point
        return (CLEAN, *self.timesteps(num_steps, spacing)[:kept])

    def alpha_cumprod(self, t: int) -> float:
        """Return the cumulative alpha of level `t`; `CLEAN` gives `final_alpha_cumprod`."""
        return float(self._levels[self._check_level(t)])

    def half_log_snr(self, t: int) -> float:
        """Return lambda_t = log(alpha_t / sigma_t) (Lu et al. 2022); +inf at alphas_cumprod 1."""
        level = self.alpha_cumprod(t)
        return math.inf if level == 1 else 0.5 * math.log(level / (1 - level))

    def alpha_sigma(self, t: int | Tensor, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return sqrt(alphas_cumprod[t]) and sqrt(1 - alphas_cumprod[t]), ready to multiply `like`.

        Args:
            t: one level for all (two floats come back), or a (B,) integer tensor of levels (two
                tensors (B, 1, ..., 1) of the dtype and device of `like` come back).
            like: (B, ...).
        """
        if not isinstance(t, Tensor):
            level = self.alpha_cumprod(t)
            return math.sqrt(level), math.sqrt(1 - level)
        if t.ndim == 0:
            return self.alpha_sigma(int(t), like)
        if t.shape != like.shape[:1]:
            raise ValueError(f"{tuple(t.shape)} timesteps for a batch of shape {tuple(like.shape)}")
        indices = t.cpu()
        for extreme in (indices.min().item(), indices.max().item()):
            self._check_level(extreme)
        levels = self._levels[indices].reshape(-1, *[1] * (like.ndim - 1))  # (B, 1, ..., 1)
        return levels.sqrt().to(like), (1 - levels).sqrt().to(like)

    def add_noise(self, latents0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Return sqrt(abar_t) latents0 + sqrt(1 - abar_t) noise (Ho et al. 2020).

        `t` is one level (`CLEAN` included) or a (B,) tensor of them.
        """
        if noise.shape != latents0.shape:
            raise ValueError(
                f"noise {tuple(noise.shape)} for latents of shape {tuple(latents0.shape)}"
            )
        alpha, sigma = self.alpha_sigma(t, latents0)
        return alpha * latents0 + sigma * noise

    def _check_level(self, t: int) -> int:
        if not CLEAN <= t < self.num_train_timesteps:
            raise ValueError(
                f"a level must be CLEAN ({CLEAN}) or lie in [0, {self.num_train_timesteps}), "
                f"got {t}"
            )
        return t


def epsilon_from_v(model: EpsModel, schedule: NoiseSchedule) -> EpsModel:
    """Return a network that outputs eps, from one that outputs what the schedule says.

    v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho 2022), so
    eps = sqrt(abar) v + sqrt(1 - abar) x. Done in the dtype of the latents. The identity for
    "epsilon" schedules.
    """
    if schedule.prediction_type == "epsilon":
        return model

    def eps_model(latents: Tensor, t: int | Tensor, text_embeds: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(t, latents)
        return alpha * model(latents, t, text_embeds).to(latents.dtype) + sigma * latents

    return eps_model


def coarsen(grid: Grid, every: int) -> Grid:
    """Return every `every`-th level of a grid, counted from its top, and CLEAN.

    Both ends stay, so a trajectory encoded on `grid` serves a decode on the coarse grid: it is
    at level `coarse[j]` at index `grid.index(coarse[j])`.
    """
    check_grid(grid)
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    return (CLEAN, *grid[:0:-every][::-1])


def check_grid(grid: Grid) -> Grid:
    """Return `grid` if it is (CLEAN, t_1 < ... < t_K), else raise ValueError."""
    if not grid or grid[0] != CLEAN or any(a >= b for a, b in zip(grid, grid[1:], strict=False)):
        raise ValueError(f"a grid must be (CLEAN = {CLEAN}, t_1 < ... < t_K), got {grid}")
    return grid


def _check_spacing(spacing: str) -> str:
    if spacing not in SPACINGS:
        raise ValueError(f"timestep_spacing must be one of {SPACINGS}, got {spacing!r}")
    return spacing


def _betas(config: Mapping[str, Any]) -> Tensor:
    """Return the (T,) float64 betas of training."""
    total = config.get("num_train_timesteps", 1000)
    if total < 1:
        raise ValueError(f"num_train_timesteps must be at least 1, got {total}")
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
        if betas.shape != (total,):
            raise ValueError(f"{tuple(betas.shape)} trained_betas for {total} timesteps")
        return _check_betas(betas)
    kind = config.get("beta_schedule", "linear")
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if kind == "linear":
        return _check_betas(torch.linspace(start, end, total, dtype=torch.float64))
    if kind == "scaled_linear":
        if start < 0 or end < 0:
            raise ValueError(f"betas must lie in (0, 1), got {start} to {end}")
        return _check_betas(torch.linspace(start**0.5, end**0.5, total, dtype=torch.float64) ** 2)
    if kind == "squaredcos_cap_v2":
        # Nichol & Dhariwal 2021, with betas capped at 0.999
        ends = torch.arange(total + 1, dtype=torch.float64) / total
        bars = torch.cos((ends + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - bars[1:] / bars[:-1]).clamp(max=0.999)
    raise ValueError(
        f"beta_schedule must be linear, scaled_linear or squaredcos_cap_v2, got {kind!r}"
    )


def _check_betas(betas: Tensor) -> Tensor:
    if not bool(((betas > 0) & (betas < 1)).all()):  # also rejects NaN
        raise ValueError(
            f"betas must lie in (0, 1), got {betas.min().item()} to {betas.max().item()}"
        )
    return betas


def _rescale_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale sqrt(abar) so that it ends at zero (Lin et al. 2023, algorithm 1).

    The last level is set to 2**-24 instead of 0, a noise-to-signal ratio of 4096.
    """
    roots = alphas_cumprod.sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return (roots**2).clamp(min=_SMALLEST_ALPHA_CUMPROD)
