"""What a method will cost, from its parameters alone: no torch, nothing is run.

The counts are those that the methods report of themselves; a test compares them. A picture that was
encoded before costs less, as its encoding is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.method_params import (
    ClassifierGuidanceParams,
    DiffEditParams,
    FlexITParams,
    MultiDiffusionParams,
    PaintingParams,
    PromptToPromptParams,
    SamplingParams,
)


@dataclass(frozen=True)
class Cost:
    """What one result takes.

    Attributes:
        evaluations: of the UNet, counted by sample.
        gradients: how many of these are also differentiated.
        batch: samples in the largest call, were there no limit.
        descents: steps of optimisation through autoencoder and CLIPs.
        through_decoder: gradients run back through the decoder as well.
        keeps_attention: the maps of every attention layer are held, not computed piece by piece.
    """

    evaluations: int = 0
    gradients: int = 0
    batch: int = 1
    descents: int = 0
    through_decoder: bool = False
    keeps_attention: bool = False

    @property
    def work(self) -> int:
        """What the time is proportional to, within one method."""
        return self.evaluations or self.descents


CostOf = Callable[..., Cost]
"""(params, is_masked, regions) -> Cost. is_masked: a painter gave the mask; regions: those of a
layout, of which what the prompt fills is one."""

COUNTED = frozenset({"num_steps", "strength", "solver", "guidance_scale", "num_maps", "eta", "tau"})
"""Parameters on which costs depend."""


def branches(params: SamplingParams | PaintingParams) -> int:
    """Return the samples of a guided prediction: two texts, or one where guidance is off."""
    return 1 if params.guidance_scale == 1 else 2


def moves(params: SamplingParams) -> int:
    """Return the steps that a strength leaves of the schedule, as `NoiseSchedule.grid` does."""
    return int(params.num_steps * params.strength + 1e-9)


def encoding(params: SamplingParams) -> int:
    """Return the evaluations of the inversion; the second-order solver needs one more."""
    return moves(params) + (params.solver == "dpm2m" and moves(params) > 0)


def decoding(params: SamplingParams) -> Cost:
    """Return the cost of a guided way down from noise."""
    return Cost(branches(params) * moves(params), batch=branches(params))


def diffedit_no_encode(params: DiffEditParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of DiffEdit's mask and decoding."""
    down = decoding(params)
    if is_masked:
        return down
    return Cost(2 * params.num_maps + down.evaluations, batch=max(params.num_maps, down.batch))


def diffedit(params: DiffEditParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of DiffEdit."""
    rest = diffedit_no_encode(params, is_masked, regions)
    return Cost(encoding(params) + rest.evaluations, batch=rest.batch)


def encode_decode(params: SamplingParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of Encode-Decode."""
    down = decoding(params)
    return Cost(encoding(params) + down.evaluations, batch=down.batch)


def sdedit(params: SamplingParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of SDEdit."""
    return decoding(params)


def prompt_to_prompt(params: PromptToPromptParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of Prompt-to-Prompt: source, negative and target branch at every step."""
    return Cost(encoding(params) + 3 * moves(params), batch=3, keeps_attention=True)


def flexit(params: FlexITParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of FlexIT, which calls no UNet."""
    return Cost(descents=params.num_steps + 1, through_decoder=params.space != "pixels")


def plain_sampling(params: PaintingParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of plain sampling, and of paint-with-words."""
    return Cost(branches(params) * params.num_steps, batch=branches(params))


def multidiffusion(params: MultiDiffusionParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of MultiDiffusion: every region is denoised on its own."""
    samples = regions * branches(params)
    return Cost(samples * params.num_steps, batch=samples)


def zestguide(params: ClassifierGuidanceParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of classifier guidance: with the text, differentiated, and without."""
    steps = range(params.num_steps)
    guided = 0 if params.eta == 0 else sum(step < params.tau * params.num_steps for step in steps)
    return Cost(branches(params) * params.num_steps, gradients=guided, batch=branches(params))


def external_classifier(params: ClassifierGuidanceParams, is_masked: bool, regions: int) -> Cost:
    """Return the cost of guidance that also looks through the decoder."""
    return replace(zestguide(params, is_masked, regions), through_decoder=True)
