"""The latent spaces of a StyleGAN2 as the methods on directions see them (`directions`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from pipelines.directions import Codes, LatentSpace
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.noise import seeded_noise, sub_seed


class StyleGAN2Latents:
    """A `LatentGenerator` over a StyleGAN2, its stored noise the same for every picture."""

    def __init__(self, model: StyleGAN2, *, psi: float | None = None) -> None:
        """Draw codes pulled to the average by `psi`, the model's own choice if None."""
        self.model, self.psi = model, model.config.truncation_psi if psi is None else psi

    @cached_property
    def spaces(self) -> Mapping[str, LatentSpace]:
        """Z, W, W+ and StyleSpace."""
        config = self.model.config
        layers = (config.w_dim,) * config.w_layers
        average = self.model.w_plus(self.model.w_avg[None])
        return {
            "z": LatentSpace((config.z_dim,)),
            "w": LatentSpace(layers, is_shared=True),
            "w+": LatentSpace(layers),
            "s": LatentSpace(tuple(style.shape[1] for style in self.model.styles(average))),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen digits of the SHA-256 of all weights."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def draw(self, space: str, seeds: Sequence[int]) -> Codes:
        """Return the codes of random pictures; code i depends on seeds[i] only."""
        streams = [sub_seed(seed, "z") for seed in seeds]
        z = seeded_noise((self.model.config.z_dim,), streams, self.model.w_avg)
        return (z,) if space == "z" else self.codes_of(space, self._w_plus(z))

    def codes_of(self, space: str, w_plus: Tensor) -> Codes:
        """Return a code in W+ (B, L, w_dim), such as an inverted picture's, as one of a space.

        Raises:
            ValueError: nothing leads back to Z.
        """
        if space in ("w", "w+"):
            return w_plus.unbind(1)
        if space == "s":
            return tuple(self.model.styles(w_plus))
        raise ValueError(f'space must be "w", "w+" or "s", got {space!r}')

    def features(self, space: str, codes: Codes) -> tuple[Tensor, list[Tensor]]:
        """Return images (B, 3, H, W) and what every convolution gives; differentiable."""
        if space == "s":
            return self.model.features(list(codes))
        w_plus = self._w_plus(codes[0]) if space == "z" else torch.stack(list(codes), 1)
        return self.model.features(w_plus)

    def _w_plus(self, z: Tensor) -> Tensor:
        return self.model.w_plus(self.model.mapping(z, psi=self.psi))
