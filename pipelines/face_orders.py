"""What one call of the interface asks of Face sliders: a face, its edits, one picture, one report.

The edits are written as recipes write them, so that a recipe can be sent back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipelines import face_numbers, face_sources, faces, params
from pipelines.errors import InputError
from pipelines.faces import Desk, Face, Slider
from pipelines.method_params import FaceParams
from pipelines.results import OnStep
from pipelines.workbench import Services


@dataclass(frozen=True, eq=False)
class FaceOrder:
    """One face and its edits.

    Attributes:
        picture, text: where the face comes from; from `seed` alone where both are missing.
        edits: {"part", "method"} or {"text", "mode"} with "strength" each, as in a recipe.
        layers: of W+; empty for all.
        values: parameters by name; with "refine_steps" a picture's code is refined.
    """

    picture: Image.Image | None
    text: str
    seed: int
    edits: Sequence[Mapping[str, Any]]
    layers: Sequence[int]
    values: Mapping[str, Any]


def order(
    picture: Image.Image | None, text: str | None, seed: int, edits: object, layers: object,
    values: object,
) -> FaceOrder:  # fmt: skip
    """Return an order of what came from outside.

    Raises:
        InputError: the edits are no list of objects, the layers no list of numbers, or a parameter
            cannot be used.
    """
    edits, layers, values = edits or [], layers or [], values or {}
    if not isinstance(edits, list) or not all(isinstance(edit, Mapping) for edit in edits):
        raise InputError("The edits must be a list of objects, each with a part or a text.")
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise InputError("The layers must be a list of whole numbers, or empty for all.")
    if not isinstance(values, Mapping):
        raise InputError("The parameters must be an object of names and values.")
    if len(edits) > faces.SLOTS:
        raise InputError(f"Please ask for at most {faces.SLOTS} edits.")
    params.build(FaceParams, values)
    return FaceOrder(picture, text or "", seed, edits, layers, values)


def carry_out(
    services: Services, one: FaceOrder, on_step: OnStep
) -> tuple[Image.Image, dict[str, Any]]:
    """Return the edited face and a report with its recipe.

    Raises:
        InputError: an edit or a layer that cannot be used.
    """
    desk, strengths = Desk(face_of(services, one, on_step)), [0.0] * faces.SLOTS
    for edit in one.edits:
        place = desk.add(slider_of(services, edit, desk.face_in_hand))
        strengths[place] = edit.get("strength", 1.0)
    every = range(desk.face_in_hand.w_plus.shape[1])
    if not set(one.layers) <= set(every):
        raise InputError(f"The layers have the numbers 0 to {len(every) - 1}.")
    position = services, desk, strengths, one.layers or every
    picture = faces.answer(*position).picture
    told = face_numbers.measure(*position)
    return picture, {
        "recipe": face_numbers.recipe_of(*position),
        "localization_scores": dict(told.scores),
        "identity": told.identity,
        "lpips": told.distance,
        "facts": [list(fact) for fact in told.facts],
        "likeness": face_sources.likeness(services, desk.face_in_hand),
        "unknown_words": list(face_sources.unknown_words(services.pack, one.text)),
    }


def face_of(services: Services, one: FaceOrder, on_step: OnStep) -> Face:
    """Return the face that an order starts from."""
    built = params.build(FaceParams, one.values)
    if one.picture is not None:
        face = face_sources.from_picture(services, one.picture, built)
        is_refined = "refine_steps" in one.values
        return face_sources.refined(services, face, built, on_step) if is_refined else face
    if one.text.strip():
        return face_sources.from_text(services, one.text, built, one.seed, 1)[0]
    return face_sources.from_seed(services, one.seed)


def slider_of(services: Services, edit: Mapping[str, Any], face: Face) -> Slider:
    """Return the slider of a face that an edit names.

    Raises:
        InputError: it names none.
    """
    if "text" in edit:
        mode = edit.get("mode", face_sources.modes(services)[0])
        return face_sources.text_slider(services, edit["text"], mode, face)
    if "part" in edit and "direction" not in edit:
        return face_sources.part_slider(services, edit["part"], edit.get("method", "lelsd"))
    raise InputError("Every edit needs a part that ships with the app, or a text.")
