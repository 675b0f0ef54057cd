"""A UNet traced and frozen, where that is quicker: on a CPU, whose time goes into small steps."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.diffusion.attention import exposed
from pipelines.models.text_encoders import Sampled

logger = logging.getLogger(__name__)

FROZEN_BYTES = 2**28
"""Weights of a UNet up to which `frozen` may keep them a second time."""

FROZEN_DTYPES = (torch.float32, torch.bfloat16)
"""Number formats that a CPU computes in."""

Network = Callable[..., Any]
"""(latents (B, C, h, w), times (B,), text_embeds (B, L, D)) -> what the frozen module returns."""


class Mapped(nn.Module):
    """A copy of a UNet that returns (sample, the map of every attn2 in the order they run).

    Attributes:
        sizes: layer name -> (H, W), of the latest call.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        changed, self.store = exposed(unet)
        self.network = Sampled(changed)
        self.sizes: dict[str, tuple[int, int]] = {}

    def forward(self, latents: Tensor, times: Tensor, text_embeds: Tensor) -> tuple[Tensor, ...]:
        """Return the prediction (B, C, h, w) and maps (B, heads, H*W, L)."""
        sample = self.network(latents, times, text_embeds)
        maps, self.sizes = tuple(self.store.maps.values()), dict(self.store.sizes)
        self.store.clear()
        return sample, *maps


def bytes_of(network: nn.Module) -> int:
    """Return the bytes of a network's weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def pays_to_freeze(unet: UNet2DConditionModel) -> bool:
    """Return whether `frozen` helps: on a CPU, where the weights fit twice.

    Not with conditions beside the text, which Stable Diffusion XL has.
    """
    is_small = bytes_of(unet) <= FROZEN_BYTES
    is_plain = unet.config.addition_embed_type is None
    return is_small and is_plain and unet.device.type == "cpu" and unet.dtype in FROZEN_DTYPES


@torch.no_grad()
def frozen(network: nn.Module, unet: UNet2DConditionModel, text_tokens: int) -> Network | None:
    """Return `network`, a module around `unet`, traced and frozen; None where that does not pay.

    Most of what a small network takes on a CPU is Python between its operations, and weights that
    are laid out again at every call. The result is the same to float tolerance, and so are its
    gradients with respect to the latents.
    """
    if not pays_to_freeze(unet):
        return None
    size, width = int(unet.config.sample_size), int(unet.config.cross_attention_dim)
    latents = torch.zeros(2, int(unet.config.in_channels), size, size, dtype=unet.dtype)
    text = torch.zeros(2, text_tokens, width, dtype=unet.dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every branch on a shape
            traced = torch.jit.trace(
                network.eval(), (latents, torch.zeros(2, dtype=torch.long), text), check_trace=False
            )
            quick = torch.jit.freeze(traced)
    except (RuntimeError, AttributeError) as error:  # TorchScript is on its way out of PyTorch
        logger.warning("the UNet runs as it is, since it cannot be frozen: %s", error)
        return None

    def run(*inputs: Tensor) -> Any:
        # Optimised, the first calls would be slow, and gradients differ from them in the last bit.
        with torch.jit.optimized_execution(False):
            return quick(*inputs)

    return run
