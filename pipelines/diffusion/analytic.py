"""Data whose denoiser is known in closed form: what tests and benchmarks measure solvers with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.schedule import Denoiser, NoiseSchedule

STABLE_DIFFUSION: Mapping[str, Any] = MappingProxyType(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
    }
)
"""The part of Stable Diffusion 1.5's scheduler_config.json that NoiseSchedule reads."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Latents drawn from sum_k weights[k] N(means[k], diag(variances[k])).

    Attributes:
        weights: (K,), summing to 1.
        means: (K, C, h, w).
        variances: (K, C, h, w), positive.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return (n, C, h, w) latents, of the dtype of the means."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        means = self.means[chosen]
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype)
        return means + self.variances[chosen].sqrt() * noise

    def denoiser(self, schedule: NoiseSchedule) -> Denoiser:
        """Return the exact E[noise | latents at level t]; t is one integer or `CLEAN`.

        Noised data are the mixture of N(sqrt(abar) mu_k, abar s_k^2 + 1 - abar), and
        eps = -sqrt(1 - abar) times the gradient of its log-density.
        """

        def denoise(latents: Tensor, t: int | Tensor) -> Tensor:
            level = schedule.alpha_cumprod(int(t))
            variances = level * self.variances + 1 - level  # (K, C, h, w)
            offsets = latents[:, None] - math.sqrt(level) * self.means  # (B, K, C, h, w)
            log_density = -(offsets**2 / variances + variances.log()).flatten(2).sum(2) / 2
            posterior = (log_density + self.weights.log()).softmax(1)  # (B, K)
            pull = posterior[:, :, None, None, None] * offsets / variances
            return math.sqrt(1 - level) * pull.sum(1)

        return denoise

    def flow(self, latents: Tensor, s: int, t: int, schedule: NoiseSchedule) -> Tensor:
        """Return the exact probability-flow ODE solution at level t through latents at level s.

        For one component only: the ODE of N(mu, s^2) carries each point along at a fixed number
        of standard deviations from the mean.
        """
        if len(self.weights) != 1:
            raise ValueError(f"only one Gaussian flows in closed form, not {len(self.weights)}")
        a_s, a_t = schedule.alpha_cumprod(s), schedule.alpha_cumprod(t)
        mean, variance = self.means[0], self.variances[0]
        stretch = ((a_t * variance + 1 - a_t) / (a_s * variance + 1 - a_s)).sqrt()
        return math.sqrt(a_t) * mean + (latents - math.sqrt(a_s) * mean) * stretch


def gaussian(shape: tuple[int, int, int]) -> GaussianMixture:
    """Return the single Gaussian N(0.4, 0.5^2) in every direction, float64."""
    means = torch.full((1, *shape), 0.4, dtype=torch.float64)
    return GaussianMixture(torch.ones(1, dtype=torch.float64), means, torch.full_like(means, 0.25))


def even_schedule(levels: int) -> NoiseSchedule:
    """Return `levels` + 1 levels evenly spaced in lambda from 3 to -3; CLEAN is the first."""
    lambdas = torch.linspace(3, -3, levels + 1, dtype=torch.float64)
    alphas_cumprod = torch.sigmoid(2 * lambdas)
    return NoiseSchedule(alphas_cumprod, final_alpha_cumprod=alphas_cumprod[0].item())


def rough_mixture(components: int, shape: tuple[int, int, int], seed: int) -> GaussianMixture:
    """Return a mixture with directions as different as those of pictures.

    Means are N(0, 0.9^2) and standard deviations log-uniform in [0.02, 0.8], float64: some
    directions are decided early, others within the last steps, as in latents of pictures.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (components, *shape)
    means = 0.9 * torch.randn(size, generator=generator, dtype=torch.float64)
    deviations = 0.02 * 40 ** torch.rand(size, generator=generator, dtype=torch.float64)
    weights = torch.full((components,), 1 / components, dtype=torch.float64)
    return GaussianMixture(weights, means, deviations**2)
