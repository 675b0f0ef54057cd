"""CLIP2GAN's mapping network M: from the space of a CLIP to W+ of a StyleGAN2.

Wang, Zhou, Bao, Wang, Li, Li. CLIP2GAN: Towards bridging text with the latent space of GANs.
arXiv 2211.15045, sec. 3.1 and eq. 3.

The paper gives the depth (12), that every layer ends in a LeakyReLU, and both ends. What it leaves
open, and what is done here:

    width         512, that of the paper's features
    slope         0.2, that of StyleGAN's own mapping, whose outputs the last layer has to imitate
    features      a unit vector times sqrt(D), so that its components have variance 1 on average and
                  the published noise, n ~ N(0, 1), is as long as the feature. On unit vectors n
                  would drown it; features of OpenAI's CLIP, as they come, are about half as long
    w_avg         the bias of the last layer starts where the rectifier gives w_avg, and its weight
                  small: training starts at the average face, and the layers are those of eq. 3
    first weights He's for that slope, so that twelve layers without normalisation keep their scale
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.devices import Device
from pipelines.models.storage import load_module, nbytes_of, save_module

DEPTHS = (4, 8, 12)  # those of the paper's Table 3
SLOPE = 0.2
_LAST_SCALE = 0.1  # of the last layer's first weights


class LatentMapper(nn.Module):
    """`depth` fully connected layers, each with LeakyReLU, from D numbers to L codes."""

    def __init__(
        self, clip_dim: int, w_layers: int, w_dim: int, *, depth: int = 12, width: int = 512,
        clip: str = "",
    ) -> None:  # fmt: skip
        """Draw fresh weights; `clip` names the encoder whose features are mapped."""
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth must be at least 2, got {depth}")
        self.clip_dim, self.w_layers, self.w_dim = clip_dim, w_layers, w_dim
        self.depth, self.width, self.clip = depth, width, clip
        sizes = [clip_dim, *[width] * (depth - 1), w_layers * w_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_at(self, w_avg: Tensor) -> None:
        """Make every feature map to about `w_avg` (w_dim,) in all layers."""
        wanted = w_avg.repeat(self.w_layers)
        self.layers[-1].bias.copy_(torch.where(wanted < 0, wanted / SLOPE, wanted))
        self.layers[-1].weight.mul_(_LAST_SCALE)

    def features(self, embeds: Tensor) -> Tensor:
        """Return f (B, D), components of variance about 1, of unit vectors (B, D)."""
        return embeds * math.sqrt(self.clip_dim)

    def forward(self, embeds: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return codes (B, L, w_dim) of unit vectors (B, D); `noise` (B, D) is added to f."""
        if embeds.shape[-1] != self.clip_dim:
            raise ValueError(f"this mapper takes {self.clip_dim} numbers, got {embeds.shape[-1]}")
        x = self.features(embeds)
        x = x if noise is None else x + noise
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)  # eq. 3
        return x.unflatten(1, (self.w_layers, self.w_dim))

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    def config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        names = ("clip_dim", "w_layers", "w_dim", "depth", "width", "clip")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors in float16."""
        save_module(self, folder, self.config())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> LatentMapper:
        """Load what `save` wrote; it always computes in float32."""
        return load_module(cls, folder, device)
