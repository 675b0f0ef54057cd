"""Parameters of the methods, declared without torch so that a page is built without loading it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.params import choice, ranged


@dataclass(frozen=True)
class SamplingParams:
    """What every diffusion method takes, with the defaults of DiffEdit but for the guidance."""

    strength: float = ranged(0.8, 0.1, 1.0, 0.05, "how far back the picture goes: the ratio r")
    guidance_scale: float = ranged(3.0, 1.0, 12.0, 0.5, "pull towards the target text")
    num_steps: int = ranged(50, 5, 100, 1, "steps of the whole schedule")
    solver: str = choice("ddim", "ddim", "dpm2m", help="ddim: as published; dpm2m: second order")


@dataclass(frozen=True)
class EncodeDecodeParams(SamplingParams):
    """Encode-Decode: DiffEdit without a mask (sec. 5.4.2)."""


@dataclass(frozen=True)
class SDEditParams(SamplingParams):
    """SDEdit: `strength` is how much noise is added."""

    strength: float = ranged(0.6, 0.1, 1.0, 0.05, "how much noise, as a fraction of the schedule")


@dataclass(frozen=True)
class MaskParams:
    """How DiffEdit infers where to edit (sec. 5.3.2, step 1)."""

    mask_strength: float = ranged(
        0.5,
        0.1,
        0.9,
        0.05,
        "noise added before comparing, as a fraction of the schedule",
        "Noise level",
    )
    num_maps: int = ranged(
        10, 1, 20, 1, "noise draws averaged into the difference map", "Noise draws"
    )
    reference: str = choice(
        "source",
        "source",
        "empty",
        help="compare the target text with the source text or with none",
        label="Reference text",
    )
    recipe: str = choice(
        "refined",
        "refined",
        "thesis",
        help="how the difference map becomes a mask",
        label="Mask recipe",
    )
    threshold: float = ranged(
        0.5, 0.05, 0.95, 0.05, "part of the map's range where the mask starts"
    )
    feather_px: int = ranged(0, 0, 16, 1, "soft border inside the mask, in pixels", "Soft border")


@dataclass(frozen=True)
class DiffEditParams(MaskParams, SamplingParams):
    """DiffEdit: the parameters of sampling, then those of the mask."""

    compositing: str = choice(
        "latents", "latents", "x0", help="keep the background in x_t (DiffEdit) or in x_0 (GLIDE)"
    )


@dataclass(frozen=True)
class CopyParams:
    """Copy has no parameters."""


@dataclass(frozen=True)
class EncodeParams:
    """Encode has no parameters."""
