"""The numbers beside an edit, with the reason where one is missing, and the curves of sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import images, params, recipes, verdicts
from pipelines.errors import InputError
from pipelines.leases import chosen_encoders, is_of_faces
from pipelines.packs import Pack
from pipelines.registry import Method

if TYPE_CHECKING:
    from pipelines.examples import Toy
    from pipelines.images import Mask
    from pipelines.results import EditResult
    from pipelines.workbench import Order, Services, Shown, Task

CURVES_KEPT = 8


def measured(
    services: Services,
    order: Order,
    one: Task,
    result: EditResult,
    ruler: Mask | None,
) -> dict[str, Any]:
    """Return a row of the table; the order's notes say why a number is missing.

    `ruler` is the mask outside of which change is measured where the method has none of its own:
    the painted one, or that of the first method with one.
    """
    ruler = ruler if result.mask is None else result.mask
    outside = None if ruler is None else recipes.change_outside(order.picture, result.image, ruler)
    if ruler is None:
        order.notes.append(f"{one.method.title} has no mask to measure outside of.")
    elif result.mask is None:
        order.notes.append(f"{one.method.title} has no mask; it is measured outside the first one.")
    verdict = verdicts.Verdict(None, "this pack has no judge")
    if "scene_judge" in services.pack.components:
        with services.cache.lease(services.pack.name, "scene_judge") as judge:
            texts = order.source_text, order.target_text
            verdict = verdicts.judged(judge, result.image, *texts, order.window)
    if verdict.success is None:
        order.notes.append(f"Edit success cannot be judged: {verdict.reason}.")
    elif not verdict.success:
        order.notes.append(f"{one.title} failed: {verdict.reason}.")
    truth = true_mask(order.toy, order.source_text, order.target_text)
    has_both = truth is not None and result.mask is not None
    return {
        "title": one.title,
        "success": verdict.success,
        "iou": verdicts.overlap(result.mask, truth) if has_both else None,
        "l1": outside and outside[0],
        "changed": outside and outside[1],
        **looks(services, order, one, result.image),
        "seconds": result.seconds,
        "evaluations": result.network_evaluations,
    }


def true_mask(toy: Toy | None, source_text: str, target_text: str) -> Mask | None:
    """Return where a toy picture holds what the texts disagree about; None if nobody knows."""
    return toy and verdicts.true_mask(toy.scene, toy.labels, source_text, target_text)


def looks(
    services: Services, order: Order, one: Task, after: Image.Image
) -> dict[str, float | None]:
    """Return {"lpips", "clip"}: distance to the input, and CLIPScore with the target text.

    Of the square that was worked on, by the pack's `rulers`; None where their files are not here:
    nothing is fetched for a number.
    """
    numbers: dict[str, float | None] = {"lpips": None, "clip": None}
    pack = services.pack
    roles = dict(pack.rulers)
    if roles and is_of_faces(one.values):
        roles["clip"] = chosen_encoders(pack, one.values)[0]
    if not roles or not all(is_here(pack, role) for role in roles.values()):
        order.notes.append("LPIPS and CLIP score: their networks are not on this machine.")
        return numbers
    if "clips" in one.method.takes and roles["clip"] in chosen_encoders(pack, one.values):
        order.notes.append(f"{one.method.title} is led by the CLIP that scores it.")
    pair = [images.fit(p, pack.resolution_px, order.window)[0] for p in (order.picture, after)]
    lease = services.cache.lease
    with lease(pack.name, roles["lpips"]) as perceptual, lease(pack.name, roles["clip"]) as clip:
        import torch

        from pipelines.metrics.clip_score import clip_score

        with torch.no_grad():
            before, edited = images.to_tensor(pair, pack.resolution_px).to(clip.device).split(1)
            numbers["lpips"] = float(perceptual.distance(before, edited))
            numbers["clip"] = float(clip_score(clip, edited, [order.target_text]))
    return numbers


def is_here(pack: Pack, role: str) -> bool:
    """Return whether a model of a pack can be loaded without a download."""
    try:
        return pack.component(role).is_here()
    except InputError:  # the visitor's own folder is not complete
        return False


# ---------------------------------------------------------------- curves


@dataclass(frozen=True, eq=False)
class Sweep:
    """One method at several strengths: what is alike in all of them, and the numbers of each."""

    method: Method
    fixed: Mapping[str, object]
    rows: Sequence[Mapping[str, Any]]


@dataclass(eq=False)
class TradeOff:
    """Distance to the input against CLIP score, by strength: the sweeps of one visitor.

    Curves of the same picture and target are kept beside each other; another picture or target
    starts anew.
    """

    subject: tuple[object, ...] = ()
    sweeps: list[Sweep] = field(default_factory=list)

    def follow(self, order: Order) -> None:
        """Take in what was carried out: a sweep is a new curve."""
        subject = (recipes.fingerprint(order.picture), order.window, order.target_text)
        if subject != self.subject:
            self.subject, self.sweeps = subject, []
        if not order.is_sweep:
            return
        task = order.tasks[0]
        mask = None if order.mask is None else "painted by hand"
        fixed = {**task.values, "seed": order.seed, "source": order.source_text, "mask": mask}
        del fixed["strength"]
        again = task.method.name, fixed
        others = [s for s in self.sweeps if (s.method.name, s.fixed) != again]
        new = Sweep(task.method, fixed, [curve_row(one) for one in order.results])
        self.sweeps = [*others, new][-CURVES_KEPT:]

    def points(self) -> list[tuple[float, float, float, str]]:
        """Return (distance, CLIP score, strength, name of the curve) of every point measured."""
        return [
            (row["lpips"], row["clip"], row["strength"], self.name(sweep))
            for sweep in self.sweeps
            for row in sweep.rows
            if row["lpips"] is not None
        ]

    def name(self, sweep: Sweep) -> str:
        """Return the method and whatever tells this curve from others of the same method."""
        others = [s.fixed for s in self.sweeps if s.method.name == sweep.method.name]
        labels = {spec.name: spec.label for spec in params.specs(sweep.method.load_params())}
        differs = differing(sweep.fixed, others)
        details = [f"{labels.get(key, key).lower()} {written(sweep.fixed[key])}" for key in differs]
        return ", ".join([sweep.method.title, *details])


def curve_row(one: Shown) -> dict[str, Any]:
    """Return the numbers of a result with the strength it was made at."""
    return {**one.numbers, "strength": one.recipe["parameters"]["strength"]}


def written(value: object) -> str:
    """Return a parameter as a person writes it: 3, not 3.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing(fixed: Mapping[str, object], others: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the keys under which any of the others has another value, in the order of `fixed`."""
    found = {key for other in others for key in fixed if other[key] != fixed[key]}
    return [key for key in fixed if key in found]
