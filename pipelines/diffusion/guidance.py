"""Text in, denoiser out: the one place that knows classifier-free guidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipelines.diffusion.schedule import Denoiser, EpsModel


def condition(eps_model: EpsModel, text_embeds: Tensor) -> Denoiser:
    """Return the denoiser that always reads `text_embeds`, (B, L, D) or (1, L, D) for all.

    One network evaluation a call.
    """
    _check_embeds("text_embeds", text_embeds)

    def denoise(latents: Tensor, t: int | Tensor) -> Tensor:
        return eps_model(latents, t, _for_batch("text_embeds", text_embeds, latents))

    return denoise


def classifier_free(
    eps_model: EpsModel, text_embeds: Tensor, uncond_embeds: Tensor, scale: float
) -> Denoiser:
    """Return the guided denoiser eps_uncond + scale (eps_text - eps_uncond) (Ho & Salimans 2022).

    Scale 1 means off and is one evaluation of B images; any other scale is one call of 2B, the
    unconditional half first. (The paper's w is scale - 1.)

    Args:
        eps_model: the network.
        text_embeds: (B, L, D), or (1, L, D) for all images.
        uncond_embeds: the empty or negative text, (B, L, D) or (1, L, D) with the same L and D.
        scale: finite; 0 is the unconditional estimate.
    """
    if not math.isfinite(scale):
        raise ValueError(f"guidance scale must be finite, got {scale}")
    _check_embeds("uncond_embeds", uncond_embeds)
    _check_embeds("text_embeds", text_embeds)
    if text_embeds.shape[1:] != uncond_embeds.shape[1:]:
        raise ValueError(
            "text_embeds and uncond_embeds must agree in (L, D), "
            f"got {tuple(text_embeds.shape)} and {tuple(uncond_embeds.shape)}"
        )
    if scale == 1:
        return condition(eps_model, text_embeds)

    def denoise(latents: Tensor, t: int | Tensor) -> Tensor:
        embeds = torch.cat(
            [
                _for_batch("uncond_embeds", uncond_embeds, latents),
                _for_batch("text_embeds", text_embeds, latents),
            ]
        )  # (2B, L, D)
        both_t = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim == 1 else t
        eps_uncond, eps_text = eps_model(torch.cat([latents, latents]), both_t, embeds).chunk(2)
        return eps_uncond + scale * (eps_text - eps_uncond)

    return denoise


def _check_embeds(name: str, embeds: Tensor) -> None:
    if embeds.ndim != 3:
        raise ValueError(f"{name} must be (B, L, D) or (1, L, D), got {tuple(embeds.shape)}")


def _for_batch(name: str, embeds: Tensor, latents: Tensor) -> Tensor:
    """Return `embeds` as (B, L, D) for a batch of B latents."""
    batch = latents.shape[0]
    if embeds.shape[0] not in (1, batch):
        raise ValueError(
            f"{name} {tuple(embeds.shape)} do not fit {batch} latents; give {batch} or 1"
        )
    return embeds.expand(batch, -1, -1)
