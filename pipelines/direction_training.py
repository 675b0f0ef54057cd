"""What Train sets in motion in Face sliders: LELSD learns a direction that becomes a slider."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import params
from pipelines.errors import Cancelled, InputError
from pipelines.face_sources import own_slider
from pipelines.faces import Desk, Slider, latents_of
from pipelines.method_params import LELSDParams
from pipelines.results import OnStep, Step
from pipelines.workbench import Services

LIMIT_S = 150.0  # of learning, below the gate's deadline: what is learnt by then is kept
SMOOTH = 10  # batches whose mean score is drawn


@dataclass(eq=False)
class Lesson:
    """What one click on Train asks for; the worker fills in the rest.

    Attributes:
        scores: localization score after every batch that showed the part.
        learnt: the sliders, once it is over.
        notes: what cut it short.
    """

    part: str
    params: LELSDParams
    seed: int
    doing: str = ""
    scores: list[float] = field(default_factory=list)
    learnt: list[Slider] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def curve(self) -> list[float]:
        """The scores, each the mean of the last SMOOTH."""
        windows = (self.scores[max(0, i - SMOOTH) : i] for i in range(1, len(self.scores) + 1))
        return [sum(window) / len(window) for window in windows]


def lesson(part: object, values: Mapping[str, object], seed: int) -> Lesson:
    """Return what to learn, its parameters checked.

    Raises:
        InputError: no part, or a parameter that cannot be used.
    """
    if not isinstance(part, str) or not part:
        raise InputError("Please choose a part of the face first.")
    return Lesson(part, params.build(LELSDParams, values), seed)


def trainable(services: Services) -> list[str]:
    """Return the parts that the face parser finds."""
    services.pack.component("face_parser")
    with services.cache.lease(services.pack.name, "face_parser") as parser:
        return list(parser.parts)


def train(services: Services, desk: Desk, one: Lesson, on_step: OnStep) -> Lesson:
    """Learn; the desk offers what was found, also after Stop.

    Raises:
        InputError: there is no such part, or no picture showed it.
        Cancelled: stopped before anything was learnt.
    """
    services.pack.component("face_parser")
    with (
        latents_of(services, on_step) as latents,
        services.cache.lease(services.pack.name, "face_parser", on_step) as parser,
        services.cache.lease(services.pack.name, "lpips_eval", on_step) as perceptual,
    ):
        from pipelines.directions import calibrated, oriented
        from pipelines.lelsd import lelsd

        if one.part not in parser.parts:
            raise InputError(f"The parts are: {', '.join(parser.parts)}.")
        one.doing = f"Direction for {one.part}"
        found = lelsd(
            latents, parser, one.part, one.params, seed=one.seed,
            on_step=watching(one, on_step), keep_when_stopped=True,
        )  # fmt: skip
        one.doing = "Measuring how far it goes"
        for direction in (direction for direction in found if direction.scores):
            about = {**direction.settings, "batches": len(direction.scores)}
            direction = dataclasses.replace(direction, settings=about)
            direction = calibrated(direction, latents, perceptual, seed=one.seed)
            slider = own_slider(oriented(direction, latents, parser, seed=one.seed))
            desk.own[slider.title] = slider
            one.learnt.append(slider)
    return one


def watching(one: Lesson, on_step: OnStep) -> OnStep:
    """Return `on_step`, with scores kept for the page, that ends the lesson after LIMIT_S."""
    started_s = time.monotonic()

    def watch(step: Step) -> None:
        if step.score is not None:
            one.scores.append(step.score)
        try:
            on_step(step)
        except Cancelled:
            one.notes.append(f"Stopped after {step.index} of {step.total} batches.")
            raise
        if time.monotonic() - started_s > LIMIT_S and step.index < step.total:
            one.notes.append(
                f"Ended after {LIMIT_S:.0f} seconds, {step.index} of {step.total} batches."
            )
            raise Cancelled

    return watch


def file_bytes(slider: Slider) -> bytes:
    """Return the safetensors file of a slider's direction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "direction.safetensors"
        slider.direction.save(path)
        return path.read_bytes()
