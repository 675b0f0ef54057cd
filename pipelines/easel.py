"""What a click on Paint sets in motion: a painting becomes a layout, methods run, pictures return.

The Segmentation-to-image tab calls `layout_of` and, in a worker thread, `carry_out`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines import images, prompt_notes, recipes, sentences, verdicts, views
from pipelines.data.captions import describe
from pipelines.errors import InputError
from pipelines.examples import Toy
from pipelines.layouts import SMALLEST_PART, Layout, Segment, check_layout, nearest_labels
from pipelines.leases import models_for
from pipelines.params import build, to_dict
from pipelines.registry import Method
from pipelines.results import OnStep, Step
from pipelines.workbench import Services, Task

if TYPE_CHECKING:
    from pipelines.models.latent_diffusion import LatentDiffusion
    from pipelines.painting import Paintings

PALETTE = (
    (230, 25, 75), (60, 180, 75), (67, 99, 216), (245, 130, 49),
    (145, 30, 180), (66, 212, 244), (255, 225, 25), (240, 50, 230),
)  # fmt: skip
"""Eight colours far apart (S. Trubetskoy's list); pens and words also carry their number."""
CANVAS_PX = 512
ECHO_PX = 128


@dataclass(frozen=True, eq=False)
class Painted:
    """One result as the page shows it.

    Attributes:
        picture: the name that `Services.file` gave the result.
        attention: for every segment its attention map as heat, and its words.
        numbers: a row of the table.
    """

    title: str
    picture: str
    attention: Sequence[tuple[Image.Image, str]]
    numbers: Mapping[str, Any]
    recipe: Mapping[str, Any]


@dataclass(eq=False)
class PaintOrder:
    """What one click on Paint asks for.

    The worker fills `doing`, `notes`, `results`, and `seen`: the maps (K, h, w) of the latest step
    that had some.

    Attributes:
        picture: RGB, any size; then methods that can change the painted segments of it alone.
        window: the square of it that the layout is painted on.
    """

    layout: Layout
    seed: int
    tasks: Sequence[Task]
    picture: Image.Image | None = None
    window: images.Window = images.CENTRE
    doing: str = ""
    seen: npt.NDArray[np.float32] | None = None
    notes: list[str] = field(default_factory=list)
    results: list[Painted] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class LayoutExample:
    """A layout that one click paints."""

    title: str
    layout: Layout


def layout_of(
    layer: Image.Image | None,
    prompt: str,
    texts: Sequence[str],
    strengths: Sequence[float] | None = None,
) -> Layout:
    """Return the layout of a painter's RGBA layer, whose colour i has texts[i], strengths[i].

    Raises:
        InputError: see `layouts.check_layout`.
    """
    if layer is None:
        labels = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    else:
        if layer.size != (CANVAS_PX, CANVAS_PX):  # not from the page
            layer = layer.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.NEAREST)
        labels = nearest_labels(np.asarray(layer.convert("RGBA")), PALETTE)
    return check_layout(prompt or "", [text or "" for text in texts], labels, strengths)


def reworded(layout: Layout, prompt: str, words: object) -> Layout:
    """Return a layout with another prompt and other words, where these are given.

    Raises:
        InputError: words that are no list of as many texts as there are segments; or see
            `layouts.check_layout`.
    """
    texts = [segment.text for segment in layout.segments]
    if words:
        fits = isinstance(words, list) and len(words) == len(texts)
        if not fits or not all(isinstance(word, str) for word in words):
            raise InputError(
                f"The layout has {len(texts)} segments: please give a list of as many texts."
            )
        texts = list(words)
    strengths = [segment.strength for segment in layout.segments]
    return check_layout(prompt or layout.prompt, texts, layout.labels, strengths)


def colours_of(layout: Layout) -> list[tuple[int, int, int]]:
    """Return the colour of every segment: its pen's."""
    return [PALETTE[pen - 1] for pen in layout.pens]


def layer_of(layout: Layout) -> Image.Image:
    """Return a layout as the painter's RGBA layer, CANVAS_PX square."""
    return Image.fromarray(views.label_colours(layout.labels, colours_of(layout))).resize(
        (CANVAS_PX, CANVAS_PX), Image.Resampling.NEAREST
    )


def echo(layout: Layout) -> str:
    """Return how a layout was understood: what is left of the strokes, and what is read."""
    small = layer_of(layout).resize((ECHO_PX, ECHO_PX), Image.Resampling.NEAREST)
    return sentences.understood(layout, recipes.png_text(small), colours_of(layout))


def layout_file(services: Services, layout: Layout) -> str:
    """Return the name of a picture of the layout that `layout_files.read_layout` reads again."""
    flat = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), "white")
    flat.alpha_composite(layer_of(layout))
    return services.file(recipes.embedded(flat.convert("RGB"), recipe_of_layout(layout)), "layout")


def recipe_of_layout(layout: Layout) -> dict[str, Any]:
    """Return the part of a recipe that holds the layout."""
    return {
        "prompt": layout.prompt,
        "segments": [vars(segment) for segment in layout.segments],
        "labels_png": recipes.labels_text(layout.labels),
    }


def toy_layout(toy: Toy) -> Layout:
    """Return the true layout of a toy scene: its place as prompt, its things as segments.

    Things of which next to nothing is seen are left out.
    """
    texts, labels = [], toy.labels.copy()
    for i, thing in enumerate(toy.scene.things, 1):
        is_seen = (labels == i).mean() >= SMALLEST_PART
        texts.append(describe(thing) if is_seen else "")
        if not is_seen:
            labels[labels == i] = 0
    return check_layout(toy.scene.place, texts, labels)


def examples() -> tuple[LayoutExample, ...]:
    """Return layouts of a few coarse strokes, as a visitor would paint them."""
    size = 128
    rows, columns = np.mgrid[:size, :size] / size

    def blobs(prompt: str, *things: tuple[str, float, float, float, float]) -> Layout:
        labels = np.zeros((size, size), np.uint8)
        for i, (_, x, y, width, height) in enumerate(things, 1):
            inside = ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 0.25
            labels[inside] = i
        return Layout(prompt, tuple(Segment(thing[0]) for thing in things), labels)

    return (
        LayoutExample("a car by a tree", blobs(
            "on the street", ("a red car", 0.3, 0.68, 0.48, 0.3), ("a tree", 0.75, 0.5, 0.36, 0.66),
        )),
        LayoutExample("a zebra and a tent", blobs(
            "on the grass", ("a zebra", 0.7, 0.62, 0.4, 0.46),
            ("a yellow tent", 0.26, 0.62, 0.4, 0.4),
        )),
        LayoutExample("one castle", blobs("on the beach", ("a castle", 0.4, 0.6, 0.6, 0.5))),
        LayoutExample("a rabbit by a mushroom", blobs(
            "at night", ("a blue mushroom", 0.3, 0.5, 0.46, 0.56),
            ("a white rabbit", 0.76, 0.6, 0.26, 0.5),
        )),
        LayoutExample("apple, pear, lemon", blobs(
            "on the beach", ("a green apple", 0.2, 0.66, 0.3, 0.3),
            ("a green pear", 0.51, 0.62, 0.28, 0.4), ("a lemon", 0.82, 0.68, 0.28, 0.24),
        )),
    )  # fmt: skip


def carry_out(services: Services, order: PaintOrder, on_step: OnStep) -> PaintOrder:
    """Carry out every task of an order; its results appear one by one."""
    layout = order.layout
    with services.cache.lease(services.pack.name, "latent_diffusion", on_step) as model:
        # not before: a model that is just being loaded imports the same libraries in its thread
        from pipelines.diffusion.attention import PhraseError

        values = [one.values for one in order.tasks]
        order.notes += prompt_notes.notes(model, services.pack, [layout.text], values)
        for one in order.tasks:
            order.doing = one.title
            params = build(one.method.load_params(), one.values)
            with further(services, model, order, one.method) as more:
                run = functools.partial(
                    one.method.load(), model, [layout], params, seeds=[order.seed],
                    on_step=watching(order, on_step), **more,
                )  # fmt: skip
                started = time.perf_counter()
                try:
                    made: Paintings = services.cache.retry_on_out_of_memory(run)
                except PhraseError as error:
                    advice = " Please use fewer words." if error.truncated else ""
                    raise InputError(f"{error}{advice}") from error
                seconds = time.perf_counter() - started
            took = made.network_evaluations, seconds
            services.meter.note(services.pack.name, one.method, one.values, *took)
            square = images.to_pil(made.images)[0]
            is_pasted = "initial" in more
            image = pasted(order, square) if is_pasted else square
            window = order.window if is_pasted else images.CENTRE
            looked_at, _ = images.fit(image, model.resolution, window)
            recipe = recipe_of(services, model, order, one, image)
            name = f"{layout.text} {one.title} seed {order.seed}"
            order.results.append(
                Painted(
                    one.title,
                    services.file(recipes.embedded(image, recipe), name),
                    []
                    if made.attention is None
                    else attention_views(layout, made.attention[0].cpu().numpy()),
                    measured(services, order, one, looked_at, made, seconds),
                    recipe,
                )
            )
    return order


@contextmanager
def further(
    services: Services, model: LatentDiffusion, order: PaintOrder, method: Method
) -> Iterator[dict[str, Any]]:
    """Give the keyword arguments that a method takes beyond the usual ones; lease what it needs.

    Raises:
        InputError: the pack has no segmentation network, and the method cannot do without.
    """
    with models_for(services.cache, services.pack, method, {}) as more:
        if order.picture is not None and "initial" in method.takes:
            square, _ = images.fit(order.picture, model.resolution, order.window)
            more["initial"] = images.to_tensor([square], model.resolution).to(model.device)
        elif order.picture is not None:
            order.notes.append(f"{method.title} cannot start from a picture; it paints a new one.")
        for text in dict.fromkeys(segment.text for segment in order.layout.segments):
            if "segmenter" in more and more["segmenter"].class_of(text) is None:
                order.notes.append(f"{method.title} leaves “{text}” alone: it knows no such class.")
        yield more


def pasted(order: PaintOrder, square: Image.Image) -> Image.Image:
    """Return the order's picture with the painted segments of `square` in it, the rest as it was.

    Painting and result are both of the picture's square that `order.window` says.
    """
    assert order.picture is not None
    fitted, placement = images.fit(order.picture, square.width, order.window)
    mask = (order.layout.labels > 0).astype(np.float32)
    return images.paste(order.picture, square, images.resize_mask(mask, fitted.size), placement)


def watching(order: PaintOrder, on_step: OnStep) -> OnStep:
    """Return `on_step`, with the maps of each step kept in the order for the page to show."""

    def watch(step: Step) -> None:
        if step.segmentation is not None:
            order.seen = step.segmentation
        on_step(step)

    return watch


def attention_views(layout: Layout, maps: npt.NDArray[np.float32]) -> list[tuple[Image.Image, str]]:
    """Return the map (of K, h, w) of every segment, each brightest at its maximum, and its words.

    What was painted is outlined.
    """
    return [
        (views.heat(plane / max(float(plane.max()), 1e-6), layout.labels == i), segment.text)
        for i, (plane, segment) in enumerate(zip(maps, layout.segments, strict=False), 1)
    ]


def measured(
    services: Services,
    order: PaintOrder,
    one: Task,
    image: Image.Image,
    made: Paintings,
    seconds: float,
) -> dict[str, Any]:
    """Return a row of the table; the order's notes say why a number is missing."""
    verdict = verdicts.Verdict(None, "this pack has no judge")
    if "scene_judge" in services.pack.components:
        with services.cache.lease(services.pack.name, "scene_judge") as judge:
            verdict = verdicts.judged(judge, image, "", order.layout.text)
    if verdict.success is None:
        order.notes.append(f"Success cannot be judged: {verdict.reason}.")
    elif not verdict.success:
        order.notes.append(f"{one.title}: {verdict.reason}.")
    return {
        "title": one.title,
        "success": verdict.success,
        "overlaps": overlaps(services, order, image),
        "loss": made.losses and (made.losses[0][0], made.losses[-1][0]),
        "seconds": seconds,
        "evaluations": made.network_evaluations,
        "gradients": made.gradients,
    }


def overlaps(services: Services, order: PaintOrder, image: Image.Image) -> list[float | None]:
    """Return the IoU of every segment with what the segmentation network sees of its class.

    What lies on another segment of the same class counts for that one. None for a segment whose
    words name no class of its, and without such a network.
    """
    segments = order.layout.segments
    if "scene_segmenter" not in services.pack.components:
        order.notes.append("No segmentation network in this pack: overlaps are not measured.")
        return [None] * len(segments)
    with services.cache.lease(services.pack.name, "scene_segmenter") as segmenter:
        seen = segmenter.class_map(image)
    painted = np.asarray(
        Image.fromarray(order.layout.labels).resize(seen.shape[::-1], Image.Resampling.NEAREST)
    )
    found: list[float | None] = []
    classes = [segmenter.class_of(segment.text) for segment in segments]
    for i, k in enumerate(classes, 1):
        others = [j for j, other in enumerate(classes, 1) if other == k and j != i]
        there = (seen == k) & ~np.isin(painted, others)
        found.append(None if k is None else verdicts.overlap(there * 1.0, (painted == i) * 1.0))
    return found


def recipe_of(
    services: Services, model: LatentDiffusion, order: PaintOrder, one: Task, image: Image.Image
) -> dict[str, Any]:
    """Return all that is needed to paint a result again to the byte, given the picture."""
    return {
        "method": one.method.name,
        **recipe_of_layout(order.layout),
        "initial": order.picture and recipes.fingerprint(order.picture),
        "window": order.picture and to_dict(order.window),
        "seed": order.seed,
        "parameters": dict(one.values),
        **recipes.made_with(services.pack.name, model),
        "result": recipes.fingerprint(image),
    }
