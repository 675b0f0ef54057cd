"""What Face sliders shows for one position of its sliders: the face, and where it changed.

`answer` serves a slider while it moves: one pass of the generator. Every slider is a `Direction`,
whatever it was found by, so a face is the sum of edits in W+, then in StyleSpace. Faces and sliders
come from `face_sources`; `face_numbers` judges them once the sliders rest.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines import images, views
from pipelines.errors import InputError
from pipelines.results import OnStep
from pipelines.workbench import Services

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.directions import Codes, Direction
    from pipelines.models.latent_spaces import StyleGAN2Latents

SLOTS = 8
GROUPS = ("coarse", "middle", "fine")
"""Thirds of the layers of W+: pose and outline, features, colours and light."""
METHODS = {
    "lelsd": "LELSD",
    "stylespace": "StyleSpace channel",
    "first_order": "First order",
    "random": "Random",
}
REACH, TEXT_REACH = 2.0, 1.5  # the ends of a slider of a part, of a text
STRIP = 5
HEAT_FULL = 0.25  # mean change of a pixel, as a part of the range, that is shown brightest

Edit = tuple["Slider", float]  # with its strength, which is not 0


@dataclass(frozen=True, eq=False)
class Face:
    """A face in hand.

    Attributes:
        w_plus: its code (1, L, w_dim).
        picture: the generator's picture of that code, before any edit.
        origin: what makes the code again: {"seed"}, {"text", "seed", ...} or {"upload", ...}.
        z: the code that it is born from; None where nothing leads back to one.
        upload: the square that was uploaded, if it was.
        distance: LPIPS of `picture` to `upload`.
        encoded: what that was as the inversion encoder left it, before any refinement.
    """

    w_plus: Tensor
    picture: Image.Image
    origin: Mapping[str, Any]
    z: Tensor | None = None
    upload: Image.Image | None = None
    distance: float | None = None
    encoded: float | None = None


@dataclass(frozen=True, eq=False)
class Slider:
    """A direction with a name.

    Attributes:
        told: how a recipe names it: {"part", "method"}, {"text", "mode"} or {"direction", ...}.
    """

    title: str
    direction: Direction
    told: Mapping[str, Any]

    @property
    def reach(self) -> float:
        """How far it goes to either side."""
        return TEXT_REACH if "text" in self.told else REACH

    @property
    def first(self) -> float:
        """How far it stands when it is added: a text is to be seen, a part to show what it does."""
        return 1.0 if "text" in self.told else self.reach / 3


@dataclass(eq=False)
class Desk:
    """What one visitor has in hand.

    Attributes:
        sliders: SLOTS places, some of them empty.
        results: the faces of the latest text.
        own: directions that were trained or uploaded, by the name they are offered under.
        moves: positions of the sliders answered so far.
        strengths: of the sliders, by place, in the latest answer.
        picture: the latest answer's.
    """

    face: Face | None = None
    sliders: list[Slider | None] = field(default_factory=lambda: [None] * SLOTS)
    results: list[Face] = field(default_factory=list)
    own: dict[str, Slider] = field(default_factory=dict)
    moves: int = 0
    strengths: Sequence[float] = (0.0,) * SLOTS
    picture: Image.Image | None = None

    @property
    def face_in_hand(self) -> Face:
        """Return the face.

        Raises:
            InputError: there is none.
        """
        if self.face is None:
            raise InputError("Please choose a face first: from a number, a text or a picture.")
        return self.face

    def has_room_for(self, slider: Slider) -> bool:
        """Tell whether `add` would take a slider."""
        titles = [one and one.title for one in self.sliders]
        return None in titles and slider.title not in titles

    def add(self, slider: Slider) -> int:
        """Put a slider into the first empty place; return its number.

        Raises:
            InputError: it is there already, or every place is taken.
        """
        if any(one is not None and one.title == slider.title for one in self.sliders):
            raise InputError(f"There is a slider “{slider.title}” already.")
        if None not in self.sliders:
            raise InputError(f"All {SLOTS} sliders are in use. Please remove one first.")
        place = self.sliders.index(None)
        self.sliders[place] = slider
        return place

    def edits(self, strengths: Sequence[object]) -> list[Edit]:
        """Return the sliders that are not at rest, in their order.

        Raises:
            InputError: a strength is no number within the slider's reach.
        """
        pairs = zip(self.sliders, strengths, strict=True)
        found = [(one, checked_strength(one, value)) for one, value in pairs if one is not None]
        return [(one, strength) for one, strength in found if strength != 0]


@dataclass(frozen=True, eq=False)
class Answer:
    """What is shown while a slider moves."""

    picture: Image.Image
    heat: Image.Image
    seconds: float


def checked_strength(slider: Slider, value: object) -> float:
    """Return a strength within a slider's reach.

    Raises:
        InputError: it is no such number.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or abs(value) > slider.reach:
        reach = f"{-slider.reach:g} to {slider.reach:g}"
        raise InputError(f"The strength of a slider like this must be a number from {reach}.")
    return float(value)


def layers_of(face: Face, groups: Sequence[str]) -> list[int]:
    """Return the layers of W+ in the chosen thirds.

    Raises:
        InputError: none is chosen.
    """
    count = face.w_plus.shape[1]
    layers = [i for i in range(count) if GROUPS[i * len(GROUPS) // count] in groups]
    if not layers:
        raise InputError("No layer may move. Please choose coarse, middle or fine.")
    return layers


@contextmanager
def latents_of(services: Services, on_step: OnStep | None = None) -> Iterator[StyleGAN2Latents]:
    """Lease the pack's generator of faces.

    Raises:
        InputError: the pack has none.
    """
    services.pack.component("face_stylegan2")
    with services.cache.lease(services.pack.name, "face_stylegan2", on_step) as model:
        from pipelines.models.latent_spaces import StyleGAN2Latents

        yield StyleGAN2Latents(model)


# ---------------------------------------------------------------- the picture


def answer(
    services: Services, desk: Desk, strengths: Sequence[object], layers: Sequence[int]
) -> Answer:
    """Return the face in hand with all sliders where they are.

    Raises:
        InputError: there is no face, or a strength cannot be used.
    """
    import torch

    started = time.perf_counter()
    desk.moves += 1
    face, edits = desk.face_in_hand, desk.edits(strengths)
    desk.strengths = tuple(strengths)
    with latents_of(services) as latents, torch.no_grad():
        made = latents.model.synthesis(moved(latents, face, edits, layers))
    desk.picture = picture = images.to_pil(made)[0]
    return Answer(picture, heat(face.picture, picture), time.perf_counter() - started)


def moved(
    latents: StyleGAN2Latents, face: Face, edits: Sequence[Edit], layers: Sequence[int]
) -> Codes:
    """Return the face's code in StyleSpace after all edits, each in `layers` of W+ only.

    A direction in Z moves all layers, as Z has but one.

    Raises:
        InputError: a direction in Z, but the face was not born from a code there.
    """
    from pipelines.directions import apply

    def in_spaces(*spaces: str) -> list[tuple[Direction, float]]:
        found = ((slider.direction, strength) for slider, strength in edits)
        return [(one, strength) for one, strength in found if one.space in spaces]

    w_plus, model = face.w_plus, latents.model
    if born := in_spaces("z"):
        if face.z is None:
            raise InputError(
                "A direction in Z moves what a face is born from, which is known for faces from a "
                "number only. Please remove that slider, or take a face from a number."
            )
        z = (face.z,)
        for direction, strength in born:
            z = apply(direction, z, strength)
        w_plus = model.w_plus(model.mapping(z[0], psi=latents.psi))
    codes = latents.codes_of("w+", w_plus)
    for direction, strength in in_spaces("w", "w+"):
        codes = apply(direction, codes, strength, layers=layers)
    styles = latents.codes_of("s", _stacked(codes))
    chosen = [i for i, layer in enumerate(model.style_layers) if layer in layers]
    for direction, strength in in_spaces("s"):
        styles = apply(direction, styles, strength, layers=chosen)
    return styles


def _stacked(codes: Codes) -> Tensor:
    import torch

    return torch.stack(list(codes), 1)


def painted(latents: StyleGAN2Latents, codes: Sequence[Codes]) -> tuple[Tensor, list[Tensor]]:
    """Return the pictures (B, 3, H, W) of B codes in StyleSpace, and what the layers gave."""
    import torch

    return latents.features("s", tuple(torch.cat(layer) for layer in zip(*codes, strict=True)))


def heat(before: Image.Image, after: Image.Image) -> Image.Image:
    """Return where two pictures differ, brightest from HEAT_FULL of the range on."""
    pair = [np.asarray(picture, np.float32) / 255 for picture in (before, after)]
    return views.heat(np.abs(pair[1] - pair[0]).mean(2) / HEAT_FULL)


def strip(
    services: Services, desk: Desk, strengths: Sequence[object], layers: Sequence[int], place: int
) -> list[tuple[Image.Image, str]]:
    """Return the face at STRIP strengths of one slider, the others where they are."""
    steps = spread(slider_at(desk, place), STRIP)
    rows = [{place: strength} for strength in steps]
    made = _variants(services, desk, strengths, layers, rows)
    return [(picture, f"{strength:+.2g}") for picture, strength in zip(made, steps, strict=True)]


def grid(
    services: Services,
    desk: Desk,
    strengths: Sequence[object],
    layers: Sequence[int],
    places: tuple[int, int],
    side: int,
) -> Image.Image:
    """Return the face at `side` strengths of two sliders, the first across, the second down.

    Raises:
        InputError: both are the same.
    """
    if places[0] == places[1]:
        raise InputError("Please choose two different sliders for the grid.")
    pair = [slider_at(desk, place) for place in places]
    across, down = (spread(one, side) for one in pair)
    rows = [{places[0]: a, places[1]: d} for d in down for a in across]
    made = _variants(services, desk, strengths, layers, rows)
    titles = [[f"{one.title} {s:+.2g}" for s in spread(one, side)] for one in pair]
    return views.sheet([made[i : i + side] for i in range(0, len(made), side)], *titles)


def spread(slider: Slider, count: int) -> list[float]:
    """Return evenly spaced strengths from one end of a slider to the other."""
    values = np.linspace(-slider.reach, slider.reach, count)
    return [float(value) for value in values.round(3)]


def slider_at(desk: Desk, place: object) -> Slider:
    """Return a slider by its place.

    Raises:
        InputError: there is none.
    """
    slider = desk.sliders[place] if isinstance(place, int) and 0 <= place < SLOTS else None
    if slider is None:
        raise InputError("Please choose one of your sliders.")
    return slider


def _variants(
    services: Services,
    desk: Desk,
    strengths: Sequence[object],
    layers: Sequence[int],
    rows: Sequence[Mapping[int, float]],
) -> list[Image.Image]:
    """Return a picture for each row, which replaces some of the strengths."""
    import torch

    def placed(row: Mapping[int, float]) -> list[object]:
        return [row.get(place, value) for place, value in enumerate(strengths)]

    face = desk.face_in_hand
    with latents_of(services) as latents, torch.no_grad():
        codes = [moved(latents, face, desk.edits(placed(row)), layers) for row in rows]
        return images.to_pil(painted(latents, codes)[0])
