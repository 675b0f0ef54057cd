"""A mapping network that read captions: from a face's code and a text to where the code moves.

Not of the CLIP2GAN paper, whose M sees pictures alone and one embedding. Here the face takes part:
"a red hat" asks another move of a face under a blue hat than of one without, and what the text does
not name stays. Fully connected layers with LeakyReLU between, as M's are (`latent_mapper`); the
last one is linear, because moves have both signs.

CLIP hardly separates texts by what it hardly sees in pictures, such as the tilt of eyebrows. So
embeddings are whitened first, along the axes of many texts (`read_along`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.devices import Device
from pipelines.models.latent_mapper import SLOPE
from pipelines.models.storage import load_module, nbytes_of, save_module

NARROWEST = 2e-3
"""Standard deviation that no axis of embeddings counts below, lest rounding be blown up."""


class CaptionMapper(nn.Module):
    """`depth` layers from an embedding of D numbers and a code of W to a move in W.

    Attributes:
        centre, axes: (D,) and (D, D); texts are read as (embeds - centre) @ axes.
    """

    def __init__(
        self, clip_dim: int, w_dim: int, *, depth: int = 6, width: int = 512, clip: str = ""
    ) -> None:
        """Draw fresh weights; `clip` names the encoder whose embeddings are read."""
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth must be at least 2, got {depth}")
        self.clip_dim, self.w_dim = clip_dim, w_dim
        self.depth, self.width, self.clip = depth, width, clip
        self.register_buffer("centre", torch.zeros(clip_dim))
        self.register_buffer("axes", math.sqrt(clip_dim) * torch.eye(clip_dim))
        self.centre: Tensor
        self.axes: Tensor
        sizes = [clip_dim + w_dim, *[width] * (depth - 1), w_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.layers[-1].weight)  # training starts where nothing moves

    @torch.no_grad()
    def read_along(self, embeds: Tensor) -> None:
        """Whiten from now on, so that these embeddings (N, D) vary alike along every axis.

        Rounded as `save` rounds, lest a saved mapper read otherwise.
        """
        variances, axes = torch.linalg.eigh(torch.cov(embeds.double().T))
        self.centre.copy_(embeds.mean(0).half())
        self.axes.copy_((axes / variances.clamp(min=NARROWEST**2).sqrt()).half())

    def forward(self, embeds: Tensor, w: Tensor) -> Tensor:
        """Return moves (B, w_dim) of codes w (B, w_dim) towards unit vectors (B, D) of texts."""
        x = torch.cat([(embeds - self.centre) @ self.axes, w], 1)
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
        moves: Tensor = self.layers[-1](x)
        return moves

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    def config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        names = ("clip_dim", "w_dim", "depth", "width", "clip")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors in float16."""
        save_module(self, folder, self.config())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> CaptionMapper:
        """Load what `save` wrote; it always computes in float32."""
        return load_module(cls, folder, device)
