"""What Mask inspect does: compare the texts once, then cut, paint and hand masks over for free."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipelines import images, params, prompt_notes, recipes
from pipelines.edit_numbers import true_mask
from pipelines.errors import InputError
from pipelines.images import Mask, Window
from pipelines.method_params import MaskParams
from pipelines.results import OnStep
from pipelines.visits import SQUARE_PX, HandedMask, Session
from pipelines.workbench import Services, inferred_source, refuse_equal

if TYPE_CHECKING:
    from pipelines.examples import Toy
    from pipelines.text_edit import MaskInspection

REFERENCES = ("source", "empty")


@dataclass(eq=False)
class Inspected:
    """What Mask inspect cuts masks from.

    Attributes:
        by_reference: an inspection for each of REFERENCES.
        truth: (H, W) where the texts disagree in truth; None where nobody knows.
        painted: what was painted by hand in its place, (SQUARE_PX, SQUARE_PX); None before.
        offered: what the painter started from.
        square: the mask in force, (SQUARE_PX, SQUARE_PX), 1 = edit.
        window: which square of the picture that is.
        notes: what the model did not read of the texts.
    """

    picture: Image.Image
    source_text: str
    target_text: str
    seed: int
    by_reference: Mapping[str, MaskInspection]
    truth: Mask | None
    square: Mask | None = None
    painted: Mask | None = None
    offered: Mask | None = None
    window: Window = images.CENTRE
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall time of the networks."""
        return sum(one.seconds for one in self.by_reference.values())

    @property
    def network_evaluations(self) -> int:
        """UNet evaluations, counted by sample."""
        return sum(one.network_evaluations for one in self.by_reference.values())


@dataclass(frozen=True, eq=False)
class InspectOrder:
    """What one click on Inspect asks for.

    Attributes:
        values: of the mask's parameters, by name.
        toy: the picture's truth, if it is a toy's.
        window: the square of the picture that is looked at.
    """

    picture: Image.Image
    source_text: str
    target_text: str
    values: Mapping[str, object]
    seed: int
    toy: Toy | None = None
    window: Window = images.CENTRE


def inspect(services: Services, order: InspectOrder, on_step: OnStep) -> Inspected:
    """Compare the texts on a picture, against both references."""
    from pipelines import text_edit

    by_reference, notes = {}, list[str]()
    source_text, target_text = order.source_text, order.target_text
    with services.cache.lease(services.pack.name, "latent_diffusion", on_step) as model:
        if not source_text.strip():
            source_text = inferred_source(
                services, model, order.picture, target_text, order.seed, on_step, notes,
                order.window,
            )  # fmt: skip
        refuse_equal(source_text, target_text)
        texts = source_text, target_text
        notes += prompt_notes.notes(model, services.pack, texts, [])
        for reference in REFERENCES:
            built = params.build(MaskParams, {**order.values, "reference": reference})
            compare = functools.partial(
                text_edit.inspect_mask, model, order.picture, *texts, built, seed=order.seed,
                on_step=on_step, memo=services.memo, window=order.window,
            )  # fmt: skip
            by_reference[reference] = services.cache.retry_on_out_of_memory(compare)
    return Inspected(
        order.picture, *texts, order.seed, by_reference, true_mask(order.toy, *texts),
        window=order.window, notes=notes,
    )  # fmt: skip


def cut(done: Inspected, values: Mapping[str, object]) -> tuple[Mask, Mask]:
    """Return (mask (H, W), heat (h, w) in [0, 1]) with other mask parameters; no network.

    A mask that was painted by hand stays; of the parameters only its soft border is new.
    """
    from pipelines import text_edit

    built = params.build(MaskParams, values)
    one = done.by_reference[built.reference]
    if done.painted is not None:
        return text_edit.soft_mask(one, done.painted, built), text_edit.heat_map(one)
    mask = text_edit.cut_mask(one, built)
    hard = (mask[one.placement.window] > 0).astype(np.float32)
    done.square = images.resize_mask(hard, (SQUARE_PX, SQUARE_PX))
    return mask, text_edit.heat_map(one)


def paint(done: Inspected, layer: Image.Image) -> None:
    """Take a painted RGBA layer as the mask, unless it is what the painter started from."""
    alpha = np.asarray(layer.convert("RGBA").getchannel("A"))
    square = images.resize_mask((alpha > 0).astype(np.float32), (SQUARE_PX, SQUARE_PX))
    if done.offered is not None and not np.array_equal(square, done.offered):
        done.square = done.painted = done.offered = square


def hand_over(session: Session) -> Inspected:
    """Make the mask in force the one that Text edit uses.

    Raises:
        InputError: there is none, or it is empty.
    """
    done = session.inspected
    if done is None or done.square is None:
        raise InputError("Please press Inspect first.")
    if not done.square.any():
        raise InputError("The mask is empty. Please lower the threshold or paint a part.")
    session.mask = HandedMask(recipes.fingerprint(done.picture), done.square, done.window)
    return done
