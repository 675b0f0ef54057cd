"""The codes of a face generator in the place of an autoencoder's latents, for FlexIT.

Latents are codes in W+ less the average code, so that their length says how far a face is from the
average one: (B, w_dim, L, 1), whose channels are a layer's code and whose positions are the layers.
A picture becomes the generator's face nearest to it as the inversion encoder sees it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.models.inversion import InversionEncoder
from pipelines.models.stylegan2 import StyleGAN2


class GeneratorSpace:
    """Generator and inversion encoder as FlexIT takes an autoencoder; never modified."""

    def __init__(
        self, generator: StyleGAN2, encoder: InversionEncoder, *, fingerprint: str
    ) -> None:
        self.generator, self.encoder, self.fingerprint = generator, encoder, fingerprint
        self.resolution = generator.config.size_px

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.generator.w_avg.device

    def encode_images(self, images: Tensor) -> Tensor:
        """Return latents0 (B, w_dim, L, 1) of images (B, 3, H, H) in [-1, 1]."""
        offsets = self.encoder(images) - self.generator.w_avg  # (B, L, w_dim)
        return offsets.transpose(1, 2).unsqueeze(-1)

    def decode_latents(self, latents0: Tensor) -> Tensor:
        """Return images (B, 3, H, H) in [-1, 1] of latents0."""
        codes = latents0.squeeze(-1).transpose(1, 2) + self.generator.w_avg
        return self.generator.synthesis(codes).clamp(-1, 1)
