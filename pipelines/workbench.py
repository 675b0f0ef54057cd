"""What a visitor's click sets in motion: leases, methods, judgement and recipe, no page in sight.

The app makes one `Services`, and calls `carry_out` in a worker thread.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import images, params, prompt_notes, recipes, views
from pipelines.data.captions import tokens
from pipelines.edit_numbers import measured
from pipelines.errors import InputError
from pipelines.estimates import Meter
from pipelines.examples import Toy
from pipelines.images import Mask, Window
from pipelines.jobs import Gate
from pipelines.leases import fingerprints, models_for
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.packs import Pack
from pipelines.registry import Method, methods
from pipelines.results import EditResult, OnStep

if TYPE_CHECKING:
    from pipelines.models.latent_diffusion import LatentDiffusion

logger = logging.getLogger(__name__)

MAX_SEED = 2**31 - 1
SWEEP = 5


@dataclass(frozen=True, eq=False)
class Services:
    """What all visitors share; `file` puts a picture where the page can show it and names it."""

    cache: ModelCache
    memo: Memo
    gate: Gate
    pack: Pack
    file: Callable[[Image.Image, str], str]
    meter: Meter = field(default_factory=Meter)


# ---------------------------------------------------------------- editing


@dataclass(frozen=True, eq=False)
class Task:
    """One result to make: a method with its parameters, and its title among the results."""

    method: Method
    title: str
    values: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Shown:
    """One result as the page shows it; the pictures are names that `Services.file` gave.

    Attributes:
        curves: {name: value after each step} of methods that optimise.
        snapshots: (picture, its step in words) of methods that show their way.
    """

    title: str
    before: str
    after: str
    mask_view: str | None
    reconstruction: str | None
    numbers: Mapping[str, Any]
    recipe: Mapping[str, Any]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    snapshots: Sequence[tuple[str, str]] = ()


@dataclass(eq=False)
class Order:
    """What one click on Run asks for.

    The worker fills in `source_text` (where it was empty, then `inferred` too), `doing`, `notes`
    and, one by one, `results` (of a sweep backwards, so that the weakest stands first); the page
    reads them meanwhile. `seconds` is the wall time of everything, at its end.

    Attributes:
        name, toy: of the picture, if it is a toy's.
        mask: (H, W) where to edit, painted by hand; None = the methods say where.
        window: the square of the picture that is worked on.
    """

    picture: Image.Image
    source_text: str
    target_text: str
    seed: int
    tasks: Sequence[Task]
    name: str = ""
    toy: Toy | None = None
    mask: Mask | None = None
    window: Window = images.CENTRE
    is_sweep: bool = False
    doing: str = ""
    inferred: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    results: list[Shown] = field(default_factory=list)


def warm_up(services: Services) -> None:
    """Load the model in the background, unless it would have to be downloaded or is there."""
    if services.cache.state():
        return

    def load() -> None:
        try:
            if services.pack.component("latent_diffusion").is_here():
                with services.cache.lease(services.pack.name, "latent_diffusion") as model:
                    model.warm_up()
        except InputError as error:  # the first edit will say so
            logger.warning("no model to warm up: %s", error)

    threading.Thread(target=load, daemon=True).start()


def preset_values(pack: Pack, method: Method, preset: str) -> dict[str, Any]:
    """Return all parameters of a method in a preset of the pack."""
    values = {spec.name: spec.default for spec in params.specs(method.load_params())}
    named, prefix = pack.presets.get(preset, {}), f"{method.name}."
    own = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
    changes = {**pack.defaults.get(method.name, {}), **named, **own}
    return values | {name: value for name, value in changes.items() if name in values}


def task(name: str, values: Mapping[str, object], tab: str = "text_edit") -> Task:
    """Return the task of one method of a tab with checked parameters.

    Raises:
        InputError: no such method, or a parameter that cannot be used.
    """
    offered = {method.name: method for method in methods(tab)}
    if name not in offered:
        raise InputError(f"The method must be one of: {', '.join(offered)}.")
    method = offered[name]
    return Task(method, method.title, params.to_dict(params.build(method.load_params(), values)))


def sweep_tasks(one: Task) -> list[Task]:
    """Return a task at SWEEP strengths, the largest first: its inversion serves the others."""
    params_class = one.method.load_params()
    spec = {spec.name: spec for spec in params.specs(params_class)}.get("strength")
    if spec is None:
        raise InputError(f"{one.title} has no strength. Please choose another method first.")
    tasks = []
    for k in range(SWEEP, 0, -1):
        strength = spec.low + (spec.high - spec.low) * k / SWEEP
        built = params.build(params_class, {**one.values, "strength": strength})
        title = f"{one.title} at {built.strength:g}"
        tasks.append(Task(one.method, title, params.to_dict(built)))
    return tasks


def carry_out(services: Services, order: Order, on_step: OnStep) -> Order:
    """Carry out every task of an order; its results appear one by one."""
    started_s = time.monotonic()
    before = services.file(order.picture, "before")
    ruler = order.mask
    with services.cache.lease(services.pack.name, "latent_diffusion", on_step) as model:
        # not before: a model that is just being loaded imports the same libraries in its thread
        from pipelines import text_edit

        is_read = any(one.method.reads_source for one in order.tasks)
        if is_read and not order.source_text.strip():
            order.doing = "Source text"
            order.source_text = order.inferred = inferred_source(
                services, model, order.picture, order.target_text, order.seed, on_step,
                order.notes, order.window,
            )  # fmt: skip
        if is_read:
            refuse_equal(order.source_text, order.target_text)
        texts, values = (order.source_text, order.target_text), [one.values for one in order.tasks]
        order.notes += prompt_notes.notes(model, services.pack, texts, values)
        for one in order.tasks:
            order.doing = one.title
            with models_for(services.cache, services.pack, one.method, one.values, on_step) as more:
                keywords = {name: other for name, other in more.items() if name != "space"}
                edit = functools.partial(
                    text_edit.edit, one.method.name, more.get("space", model), order.picture,
                    order.source_text, order.target_text, one.values, seed=order.seed,
                    on_step=on_step, memo=services.memo, mask=order.mask, window=order.window,
                    models=keywords, reconstruct=True,
                )  # fmt: skip
                result = services.cache.retry_on_out_of_memory(edit)
                recipe = edit_recipe(services, model, order, one, result, more)
            took = result.network_evaluations, result.seconds
            services.meter.note(services.pack.name, one.method, one.values, *took)
            ruler = result.mask if ruler is None else ruler
            numbers = measured(services, order, one, result, ruler)
            one_shown = shown(services, order, one, result, before, numbers, recipe)
            order.results.insert(0 if order.is_sweep else len(order.results), one_shown)
    order.seconds = time.monotonic() - started_s
    return order


def shown(
    services: Services,
    order: Order,
    one: Task,
    result: EditResult,
    before: str,
    numbers: Mapping[str, Any],
    recipe: Mapping[str, Any],
) -> Shown:
    """Return a result with its pictures filed."""
    title = f"{order.target_text} {one.title} seed {order.seed}"
    mask = None if result.mask is None else views.mask_over(order.picture, result.mask)
    return Shown(
        title=one.title,
        before=before,
        after=services.file(recipes.embedded(result.image, recipe), title),
        mask_view=mask and services.file(mask, "mask"),
        reconstruction=result.reconstruction
        and services.file(result.reconstruction, "reconstruction"),
        numbers=numbers,
        recipe=recipe,
        curves={name: rows[0] for name, rows in result.diagnostics.get("curves", {}).items()},
        snapshots=[
            (services.file(image, f"{title} step {step}"), f"step {step}")
            for step, image in result.snapshots.items()
        ],
    )


def edit_recipe(
    services: Services, model: LatentDiffusion, order: Order, one: Task, result: EditResult,
    further: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return all that is needed to make a result again to the byte."""
    return {
        "method": one.method.name,
        "source_text": order.source_text,
        "target_text": order.target_text,
        "seed": order.seed,
        "parameters": dict(one.values),
        "picture": {
            "name": order.name,
            "size": list(order.picture.size),
            "fingerprint": recipes.fingerprint(order.picture),
            "window": params.to_dict(order.window),
        },
        "painted_mask_png": None if order.mask is None else recipes.mask_text(order.mask),
        **recipes.made_with(services.pack.name, model),
        "further_models": fingerprints(further),
        "result": recipes.fingerprint(result.image),
    }


def inferred_source(
    services: Services, model: LatentDiffusion, picture: Image.Image, target_text: str, seed: int,
    on_step: OnStep, notes: list[str], window: Window = images.CENTRE,
) -> str:  # fmt: skip
    """Return the description of the picture that is closest to the target text.

    "" where there is nothing to infer it from: the notes say so.
    """
    from pipelines.data.rewordings import rewordings
    from pipelines.source_text import infer

    if not rewordings(target_text):
        notes.append(
            "What the picture shows could not be inferred, as the target text names nothing that "
            "is known here. Describe it yourself for a better mask."
        )
        return ""
    return infer(
        model, picture, target_text, rewordings, seed=seed, on_step=on_step, memo=services.memo,
        window=window,
    )  # fmt: skip


# ---------------------------------------------------------------- checks


def refuse_equal(source_text: str, target_text: str) -> None:
    """Refuse texts that do not differ in a word, where their difference is what is edited."""
    if source_text.strip() and tokens(source_text) == tokens(target_text):
        raise InputError(
            "Both texts say the same, so there is nothing to edit. Please describe something else "
            "in the target text."
        )


def checked_seed(seed: object, is_random: object = False) -> int:
    """Return the seed to use, a new one where a random one is asked for."""
    if is_random is True:
        return random.SystemRandom().randrange(MAX_SEED)
    number = isinstance(seed, int | float) and not isinstance(seed, bool)
    if not number or not 0 <= seed <= MAX_SEED or seed != int(seed):
        raise InputError(f"The seed must be a whole number from 0 to {MAX_SEED}.")
    return int(seed)


def checked_inputs(picture: Image.Image | None, target_text: object) -> Image.Image:
    """Return the picture, or refuse where it or the target text is missing."""
    if picture is None:
        raise InputError("Please choose a picture first: upload one, or click an example.")
    if not isinstance(target_text, str) or not target_text.strip():
        raise InputError("Please describe the picture you want in the target text.")
    return picture
