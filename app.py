"""The page: tabs, controls and what happens on a click. Knows no tensors; imports no torch.

    python app.py

A tab is a builder function that takes the `Page`, and one line in TABS. A heavy click runs through
`Page.follow`: one job at a time, previews on the way, stoppable, every refusal a sentence. Light
handlers stay out of the queue.
"""

from __future__ import annotations

import base64
import binascii
import functools
import html
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import pandas as pd
from gradio import processing_utils
from PIL import Image
from starlette.middleware import Middleware

from pipelines import (
    costs,
    easel,
    estimates,
    examples,
    gallery,
    images,
    inspection,
    leases,
    packs,
    packs_check,
    params,
    prompt_notes,
    recipes,
    sentences,
    verdicts,
    views,
    workbench,
)
from pipelines.easel import Painted, PaintOrder
from pipelines.errors import Cancelled, InputError
from pipelines.inspection import Inspected
from pipelines.jobs import Done, Gate, Update
from pipelines.layout_files import read_layout
from pipelines.layouts import MAX_STRENGTH, Layout, Segment
from pipelines.memo import Memo
from pipelines.method_params import MaskParams, RetrievalParams
from pipelines.model_cache import ModelCache
from pipelines.registry import METHODS, Method, methods
from pipelines.results import OnStep
from pipelines.workbench import MAX_SEED, SQUARE_PX, Order, Services, Session, Shown, Task

logger = logging.getLogger(__name__)

TITLE = "Semantic image editing"
PROMISE = "Change what a picture shows by changing its description. Everything else stays."
CACHE_BYTES = 6 * 2**30
MEMO_BYTES = 256 * 2**20
MAX_UPLOAD_BYTES = 20 * 2**20
MAX_BODY_BYTES = 32 * 2**20
MAX_TEXT = 1000
HISTORY = 24
PAINT_OPACITY = 0.6
PAINT = "#{:02x}{:02x}{:02x}".format(*views.TINT), PAINT_OPACITY
CSS = Path(__file__).parent / "assets" / "app.css"
DRAWN = "decoding", "optimising"
"""Stages whose previews are the edit itself."""
PRESETS = {"fast": "Fast", "faithful": "Faithful (as published)"}
OURS = "Something went wrong here, not with your input. Please try again; if it stays, reload."
THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Consolas", "monospace"],
)
COPY_LINK = """(picture, source, target, seed) => {
    const query = new URLSearchParams({tab: "TAB", source, target, seed: String(seed ?? 0)});
    if (picture) query.set("picture", picture);
    const link = location.origin + location.pathname + "?" + query;
    const copied = navigator.clipboard?.writeText(link);
    if (!copied) window.prompt("Copy this link", link);
    return copied ? "Link copied" : "Copy link";
}"""
SHOW_RESULT = """() => {
    if (innerWidth < 700) document.querySelector("#result").scrollIntoView({behavior: "smooth"});
}"""
BRUSH_RADIUS_PX = 36
TAKE_PEN = """(pen) => {
    // as a hand would: brush, palette, colour; a brush given by the server keeps its old colour
    const find = (css) => document.querySelector("#easel " + css);
    const palette = "button[aria-label=Color]";
    if (!find(palette)) find("button[aria-label=Brush]")?.click();
    requestAnimationFrame(() => {
        find(palette)?.click();
        requestAnimationFrame(() => {
            find(`.swatch button:nth-child(${pen})`)?.click();
            find(palette)?.click();
        });
    });
}"""
STILL: dict[str, Any] = {"format": "png", "interactive": False}
STRIP: dict[str, Any] = {**STILL, "allow_preview": False, "buttons": []}

PHOTO: dict[str, Any] = {
    "type": "filepath",
    "image_mode": None,
    "format": "png",
    "sources": ["upload", "clipboard"],
    "buttons": ["fullscreen"],
}

Handler = Callable[..., Any]
View = dict[Any, Any]  # component -> what it shows


class Photo(gr.Image):
    """A picture input that hands over upright RGB, or refuses with a sentence."""

    is_template = True  # no constructor of its own: Gradio reads the settings off its signature

    def preprocess(self, payload: Any) -> Image.Image | None:
        """Return the decoded picture; None where there is none."""
        if payload is None:
            return None
        try:
            return images.decode(self._file(payload))
        except InputError as error:
            raise refusal(error) from error

    def _file(self, payload: Any) -> str | None:
        url = payload.url or ""
        if not url.startswith("data:"):
            return payload.path
        if len(url) > MAX_UPLOAD_BYTES * 4 / 3:
            raise InputError("The picture file is larger than 20 MB. Please make it smaller.")
        try:
            content = base64.b64decode(url.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise InputError("The picture did not arrive whole. Please send it again.") from error
        return processing_utils.save_bytes_to_cache(content, "upload.bin", self.GRADIO_CACHE)


def file_picture(image: Image.Image, name: str) -> str:
    """Write a picture into Gradio's cache as PNG and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "picture"
    folder = gr.utils.get_upload_folder()
    return processing_utils.save_pil_to_cache(image, folder, name=slug, format="png")


def refusal(error: InputError) -> gr.Error:
    """Return the toast that says what an InputError says."""
    return gr.Error(html.escape(str(error)), title="Please check", print_exception=False)


def fault(error: Exception) -> gr.Error:
    """Log an unexpected error and return the toast for it."""
    logger.error("handler failed", exc_info=error)
    return gr.Error(OURS, print_exception=False)


def polite(handler: Handler) -> Handler:
    """Make a light handler, or what a heavy one does before its job, refuse with sentences."""

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except InputError as error:
            raise refusal(error) from error
        except Exception as error:
            raise fault(error) from error

    return wrapped


@dataclass(frozen=True, eq=False)
class Page:
    """What every tab builder gets.

    Attributes:
        session: the visitor's State(Session).
        tabs: to switch between tabs.
        menu: the choice of the model pack, by name.
        model_line: says which models are loaded.
        tab: the tabs by name.
        parts: what earlier tabs offer to later ones.
    """

    services: Services
    session: gr.State
    tabs: gr.Tabs
    menu: gr.Dropdown
    model_line: gr.HTML
    tab: dict[str, gr.Tab] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)

    def services_for(self, name: str) -> Services:
        """Return the services with the pack that the menu names."""
        if name == self.services.pack.name:
            return self.services
        return replace(self.services, pack=packs.find(name))

    def quiet(self, trigger: Handler, handler: Handler, inputs: Any, outputs: Any) -> Any:
        """Wire a light handler: no queue, no spinner, no public endpoint."""
        return trigger(
            polite(handler),
            inputs,
            outputs,
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )

    def heavy(
        self, trigger: Handler, handler: Handler, inputs: Any, outputs: Any, **options: Any
    ) -> Any:
        """Wire a generator that waits in the gate's own line, which tells its place."""
        return trigger(
            handler,
            inputs,
            outputs,
            concurrency_id="heavy",
            concurrency_limit=16,
            show_progress="hidden",
            **{"api_visibility": "private", "trigger_mode": "once", **options},
        )

    def follow(
        self,
        request: gr.Request,
        work: Callable[[OnStep], Any],
        running: Callable[[Update], Any],
        finished: Callable[[Any], Any],
        rest: Callable[[str], Any],
    ) -> Iterator[Any]:
        """Run a job; yield what the page shows meanwhile, at its end, or at rest without one."""
        try:
            with closing(self.services.gate.run(owner(request), work)) as updates:
                for update in updates:
                    done = isinstance(update, Done)
                    yield finished(update.value) if done else running(update)
        except Cancelled:
            yield rest("Stopped.")
        except InputError as error:
            yield rest("")
            raise refusal(error) from error
        except Exception as error:
            yield rest("")
            raise fault(error) from error

    def progress(self, update: Update, doing: str) -> str:
        """Return the status line of a running job."""
        leased = any(entry.state == "leased" for entry in self.services.cache.state())
        return sentences.progress(update, doing, loading=not leased)

    def models(self) -> str:
        """Return which models are in memory."""
        return sentences.models(self.services.cache.state(), self.services.pack.title)

    def stop(self, request: gr.Request) -> None:
        """Stop every job of this visitor."""
        self.services.gate.stop(owner(request))


def owner(request: gr.Request) -> str:
    """Return whose job it is."""
    return request.session_hash or "api"


# ---------------------------------------------------------------- shared by the tabs


@dataclass(frozen=True, eq=False)
class Inputs:
    """The controls that say which picture, which texts and which seed."""

    photo: Photo
    name: gr.Textbox  # hidden: a toy's name, for links
    source: gr.Textbox
    target: gr.Textbox
    seed: gr.Number
    is_random: gr.Checkbox

    @property
    def fillable(self) -> list[gr.components.Component]:
        """What a click on an example, a toy or "use the picture" sets."""
        return [self.photo, self.name, self.source, self.target]


def picture_controls(page: Page) -> list[Any]:
    """Build picture, toy scene and texts, with the notice about unknown words."""
    photo = Photo(label="Picture", height=200, elem_classes="photo", **PHOTO)
    with gr.Row(equal_height=True, elem_classes="compact"):
        new_toy = gr.Button("New toy scene from number", size="md", scale=2, min_width=150)
        toy_seed = gr.Number(
            1, precision=0, minimum=0, maximum=MAX_SEED, label="Scene number", show_label=False,
            container=False, min_width=80,
        )  # fmt: skip
    source = gr.Textbox(
        label="What the picture shows", placeholder="empty: it is inferred", max_length=MAX_TEXT
    )
    target = gr.Textbox(
        label="What it should show", placeholder="a zebra on the grass", max_length=MAX_TEXT
    )
    notice, name = gr.HTML(), gr.Textbox(visible=False)

    def toy_scene(seed: float, session: Session) -> tuple[Any, ...]:
        toy, seed = remembered_toy(seed, session)
        return toy.image, f"toy-{seed}", examples.caption(toy.scene), "", (seed + 1) % MAX_SEED

    def name_picture(picture: Image.Image | None, session: Session) -> str:
        return session.known(picture)[0] if picture else ""

    def name_unknown(source_text: str | None, target_text: str | None, name: str) -> str:
        pack = page.services_for(name).pack
        texts = source_text or "", target_text or ""
        unknown = verdicts.unknown_words(texts, pack.words())
        cut = prompt_notes.cut_off_now(page.services.cache, pack, texts)
        return sentences.notice(unknown, pack.title, verdicts.word_groups()) + sentences.cut(cut)

    page.quiet(
        new_toy.click, toy_scene, [toy_seed, page.session], [photo, name, source, target, toy_seed]
    )
    page.quiet(photo.change, name_picture, [photo, page.session], name)
    for box in (source, target, page.menu):
        page.quiet(box.change, name_unknown, [source, target, page.menu], notice)
    return [photo, name, source, target]


def remembered_toy(seed: object, session: Session) -> tuple[examples.Toy, int]:
    """Return the toy scene of a seed, and the seed; the session keeps its truth."""
    checked = workbench.checked_seed(seed)
    toy = examples.new_toy(checked)
    session.remember(f"toy-{checked}", toy)
    return toy, checked


def seed_controls() -> tuple[gr.Number, gr.Checkbox]:
    """Build the seed and the switch that draws a new one for each run."""
    with gr.Row(equal_height=True):
        seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", min_width=90)
        is_random = gr.Checkbox(label="Random seed", min_width=120)
    return seed, is_random


def run_controls(label: str, elem_id: str) -> tuple[gr.Button, gr.Button]:
    """Build Run and Stop."""
    run = gr.Button(label, variant="primary", elem_id=elem_id, min_width=110)
    return run, gr.Button("Stop", interactive=False, elem_id=f"stop_{elem_id}", min_width=90)


def parameter_control(
    spec: params.ParamSpec, value: Any, options: Sequence[str] = ()
) -> gr.components.Component:
    """Return the control that a declared parameter asks for; `options` stand for its own."""
    named = {"label": spec.label, "info": spec.help, "value": value}
    if spec.kind == "flag":
        return gr.Checkbox(**named)
    if spec.kind == "text":
        return gr.Textbox(max_length=params.MAX_TEXT, **named)
    if spec.kind == "choice":
        return gr.Radio(choices=list(options or spec.options), **named)
    return gr.Slider(spec.low, spec.high, step=spec.step, buttons=[], **named)


def copy_link(page: Page, tab: str, inputs: Inputs) -> None:
    """Build the button that copies a link to these settings."""
    button = gr.Button("Copy link", size="md", min_width=110)
    given = [inputs.name, inputs.source, inputs.target, inputs.seed]
    js = COPY_LINK.replace("TAB", tab)
    button.click(None, given, button, js=js, api_visibility="private")


# ---------------------------------------------------------------- Text edit


@dataclass(frozen=True, eq=False)
class Closer:
    """The panels that show one result."""

    slider: gr.ImageSlider
    mask: gr.Image
    reconstruction: gr.Image
    download: gr.DownloadButton
    recipe: gr.Code
    curves: gr.LinePlot
    snapshots: gr.Gallery

    @property
    def all(self) -> list[gr.components.Component]:
        """Every panel."""
        return [
            self.slider, self.mask, self.reconstruction, self.download, self.recipe, self.curves,
            self.snapshots,
        ]  # fmt: skip

    def show(self, one: Shown) -> View:
        """Return the view of one result."""
        return {
            self.slider: (one.before, one.after),
            self.mask: gr.Image(one.mask_view, visible=one.mask_view is not None),
            self.reconstruction: gr.Image(
                one.reconstruction, visible=one.reconstruction is not None
            ),
            self.download: gr.DownloadButton(value=one.after, interactive=True),
            self.recipe: recipes.pretty(one.recipe),
            self.curves: gr.LinePlot(curve_table(one.curves), visible=bool(one.curves)),
            self.snapshots: gr.Gallery(one.snapshots, visible=bool(one.snapshots)),
        }


def curve_table(curves: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Return curves as the rows that a line plot takes."""
    rows = [(step, name, v) for name, row in curves.items() for step, v in enumerate(row)]
    return pd.DataFrame(rows, columns=["step", "term", "loss"])


def method_controls(
    page: Page, offered: tuple[Method, ...], *, with_presets: bool = True
) -> tuple[gr.CheckboxGroup, dict[tuple[str, str], gr.components.Component]]:
    """Build the choice of methods, the presets, and every declared parameter of every method."""
    pack = page.services.pack
    named = pack.presets if with_presets else ()
    presets = {PRESETS.get(name, name.capitalize()): name for name in named}
    first = next(iter(presets), "")
    chosen = gr.CheckboxGroup(
        [(method.title, method.name) for method in offered],
        value=[offered[0].name],
        label="Methods, side by side",
    )
    if presets:
        preset = gr.Radio(list(presets), value=first, label="Preset", elem_id="preset")
    controls, by_pack = {}, {}
    accordions: dict[str, gr.Accordion] = {}
    for method in offered:
        specs = params.specs(method.load_params())
        if not specs:
            continue
        values = workbench.preset_values(pack, method, presets.get(first, ""))
        accordions[method.name] = gr.Accordion(
            f"{method.title} settings", open=False, visible=method is offered[0]
        )
        with accordions[method.name]:
            gr.Markdown(f"{method.summary} <small>{html.escape(method.paper)}</small>")
            for spec in specs:
                offer = leases.options(pack, spec)
                controls[method.name, spec.name] = parameter_control(spec, values[spec.name], offer)
                if spec.among:
                    by_pack[method.name, spec.name] = spec

    def choose_preset(pack_name: str, title: str = "") -> list[Any]:
        chosen_pack = page.services_for(pack_name).pack
        values = {
            name: workbench.preset_values(chosen_pack, METHODS[name], presets.get(title, ""))
            for name in accordions
        }

        def shown(method: str, name: str) -> Any:
            spec = by_pack.get((method, name))
            offer = spec and list(leases.options(chosen_pack, spec))
            value = values[method][name]
            return gr.Radio(choices=offer, value=value) if offer else value

        return [shown(*key) for key in controls]

    def show_settings(picked: list[str]) -> list[Any]:
        return [gr.Accordion(visible=name in picked) for name in accordions]

    given = [page.menu, preset] if presets else [page.menu]
    for trigger in given:
        page.quiet(trigger.change, choose_preset, given, list(controls.values()))
    page.quiet(chosen.change, show_settings, chosen, list(accordions.values()))
    return chosen, controls


def follow_costs(
    page: Page,
    line: gr.HTML,
    chosen: gr.CheckboxGroup,
    controls: Mapping[tuple[str, str], gr.components.Component],
    ran: Sequence[Handler],
    words: Sequence[gr.Textbox] = (),
) -> None:
    """Say in `line` what a run will take, anew with methods, settings, words and after each run."""

    def tell(data: View) -> str:
        picked = [
            (
                METHODS[name],
                {key: data[c] for (method, key), c in controls.items() if method == name},
            )
            for name in data[chosen] or []
        ]
        services = page.services_for(data[page.menu])
        regions = 1 + sum(bool((data[word] or "").strip()) for word in words)
        try:
            one = estimates.estimate(
                services.cache, services.pack, services.meter, picked, regions=regions
            )
        except InputError as error:  # a slider that moves must not throw toasts
            return sentences.status(str(error))
        return sentences.estimate(one)

    given = {page.menu, chosen, *controls.values(), *words}
    counted = [control for (_, name), control in controls.items() if name in costs.COUNTED]
    triggers = [control.change for control in (page.menu, chosen, *counted, *words)]
    for trigger in (functools.partial(gr.on, triggers), *ran):
        page.quiet(trigger, tell, given, line)
    page.parts.setdefault("costs", []).append((tell, given, line))


def text_edit_tab(page: Page) -> None:
    """Build the Text edit tab: one or several methods on the same picture, texts and seed."""
    offered = methods("text_edit")
    shelf = examples.examples()
    gr.Markdown("**Try one** – a click runs it", elem_classes="lead")
    strip = gr.Gallery(
        [(example.toy.image, example.title) for example in shelf], elem_id="examples",
        elem_classes="strip", columns=len(shelf), show_label=False, container=False, **STRIP,
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            pictures = picture_controls(page)
            with gr.Row(visible=False, equal_height=True) as mask_row:
                mask_chip = gr.Image(
                    label="Your mask is used", height=120, buttons=[], elem_classes="view",
                    min_width=120, **STILL,
                )  # fmt: skip
                drop_mask = gr.Button("Remove mask", size="md", elem_id="drop_mask", min_width=110)
            with gr.Row():
                run, stop = run_controls("Run", "run")
            cost_line = gr.HTML(elem_id="edit_cost")
            chosen, controls = method_controls(page, offered)
            inputs = Inputs(*pictures, *seed_controls())
            sweep = gr.Button("Strength sweep of the first method", size="md", elem_id="sweep")
        with gr.Column(scale=6, min_width=300):
            slider = gr.ImageSlider(
                label="Before and after", max_height=620, elem_id="result",
                buttons=["download", "fullscreen"], **STILL,
            )  # fmt: skip
            status = gr.HTML(sentences.status("Click an example, or press Run."), elem_id="status")
            compare = gr.Gallery(
                label="Side by side (click to look closer)", elem_id="compare", visible=False,
                elem_classes="strip wide titled", **STRIP,
            )  # fmt: skip
            table = gr.HTML(elem_id="numbers")
            with gr.Row():
                mask_panel, reconstruction = (
                    gr.Image(
                        label=label, height=240, buttons=["fullscreen"], elem_classes="view",
                        min_width=140, visible=False, **STILL,
                    )
                    for label in ("Where it edited", "Encoded and decoded, no edit")
                )  # fmt: skip
            snapshots = gr.Gallery(
                label="On the way", elem_id="snapshots", visible=False,
                elem_classes="strip titled", **STRIP,
            )  # fmt: skip
            curves = gr.LinePlot(
                x="step", y="loss", color="term", title="Loss by step", height=220, visible=False,
                elem_id="curves",
            )  # fmt: skip
            with gr.Row():
                download = gr.DownloadButton(
                    "Download PNG with recipe", interactive=False, size="md", min_width=150
                )
                copy_link(page, "edit", inputs)
            with gr.Accordion("Recipe", open=False):
                recipe = gr.Code(language="json", show_label=False, interactive=False, max_lines=18)
            history = gr.Gallery(
                label="This session (click to bring back)", elem_id="history", visible=False,
                elem_classes="strip titled", **STRIP,
            )  # fmt: skip
    closer = Closer(slider, mask_panel, reconstruction, download, recipe, curves, snapshots)

    def results_view(order: Order) -> View:
        made = order.results
        return {
            compare: gr.Gallery([(one.after, one.title) for one in made], visible=len(made) > 1),
            table: sentences.numbers([one.numbers for one in made], order.notes),
            inputs.source: order.source_text,
        }

    def finish(order: Order) -> View:
        session = order.session
        session.results = list(order.results)
        session.history = [*order.results[::-1], *session.history][:HISTORY]
        tiles = [(one.after, f"{one.title}, seed {one.recipe['seed']}") for one in session.history]
        seconds = sum(one.numbers["seconds"] for one in order.results)
        return {
            **at_rest(f"Done in {seconds:.1f} s with seed {order.seed}."),
            **closer.show(order.results[len(order.results) // 2 if order.is_sweep else 0]),
            **results_view(order),
            history: gr.Gallery(tiles, visible=True),
        }

    def at_rest(text: str) -> View:
        return {
            run: gr.Button(interactive=True),
            sweep: gr.Button(interactive=True),
            stop: gr.Button(interactive=False),
            status: sentences.status(text),
            page.model_line: page.models(),
        }

    def proceed(order: Order, pack_name: str, request: gr.Request) -> Iterator[View]:
        told, services = 0, page.services_for(pack_name)
        square, _ = images.fit(order.picture, services.pack.resolution_px)

        def running(update: Update) -> View:
            nonlocal told
            view: View = {status: page.progress(update, order.doing)}
            if update.preview is not None and update.step.stage in DRAWN:
                view[slider] = square.resize(update.preview.size), update.preview
            if len(order.results) > told:
                told = len(order.results)
                view |= results_view(order)
            return view

        yield {
            run: gr.Button(interactive=False),
            sweep: gr.Button(interactive=False),
            stop: gr.Button(interactive=True),
            status: sentences.status("Starting"),
            inputs.seed: order.seed,
            table: "",
            compare: gr.Gallery(visible=False),
        }
        work = functools.partial(workbench.carry_out, services, order)
        yield from page.follow(request, work, running, finish, at_rest)

    @polite
    def order_of(data: Mapping[Any, Any], *, is_sweep: bool) -> Order:
        picture = workbench.checked_inputs(data[inputs.photo], data[inputs.target])
        picked = [method.name for method in offered if method.name in (data[chosen] or [])]
        if not picked:
            raise InputError("Please choose at least one method.")
        tasks = [
            workbench.task(
                name, {key: data[c] for (method, key), c in controls.items() if method == name}
            )
            for name in picked
        ]
        session: Session = data[page.session]
        return Order(
            picture=picture,
            source_text=data[inputs.source] or "",
            target_text=data[inputs.target],
            seed=workbench.checked_seed(data[inputs.seed], data[inputs.is_random]),
            tasks=workbench.sweep_tasks(tasks[0]) if is_sweep else tasks,
            is_sweep=is_sweep,
            session=session,
            mask=session.mask_for(picture),
        )

    def run_edit(data: View, request: gr.Request) -> Iterator[View]:
        yield from proceed(order_of(data, is_sweep=False), data[page.menu], request)

    def run_sweep(data: View, request: gr.Request) -> Iterator[View]:
        yield from proceed(order_of(data, is_sweep=True), data[page.menu], request)

    def fill(session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        example = shelf[event.index]
        session.remember(example.name, example.toy)
        session.mask = None
        return example.toy.image, example.name, example.source_text, example.target_text

    def bring_back(which: str) -> Handler:
        def bring_back_one(session: Session, event: gr.SelectData) -> View:
            kept: list[Shown] = getattr(session, which)
            if not 0 <= event.index < len(kept) or not Path(kept[event.index].after).is_file():
                raise InputError("That picture is no longer kept. Please run the edit again.")
            return closer.show(kept[event.index])

        return bring_back_one

    def show_mask(picture: Image.Image | None, session: Session) -> tuple[Any, Any]:
        if picture is None or session.mask_for(picture) is None:
            session.mask = None
            return gr.Row(visible=False), None
        square, _ = images.fit(picture, SQUARE_PX)
        return gr.Row(visible=True), views.mask_over(square, session.mask.square)

    def remove_mask(session: Session) -> Any:
        session.mask = None
        return gr.Row(visible=False)

    everything = {
        page.session, page.menu, inputs.photo, inputs.source, inputs.target, inputs.seed,
        inputs.is_random, chosen, *controls.values(),
    }  # fmt: skip
    shows = [
        *closer.all, compare, table, history, status, run, sweep, stop, inputs.seed, inputs.source,
        page.model_line,
    ]  # fmt: skip
    filled = page.quiet(strip.select, fill, page.session, inputs.fillable)
    ran = [
        page.heavy(trigger, run_edit, everything, shows).then
        for trigger in (run.click, inputs.target.submit, filled.then)
    ]
    page.heavy(sweep.click, run_sweep, everything, shows)
    follow_costs(page, cost_line, chosen, controls, ran)
    for trigger in (run.click, sweep.click, strip.select):
        trigger(None, js=SHOW_RESULT, api_visibility="private")
    page.quiet(stop.click, page.stop, None, None)
    page.quiet(compare.select, bring_back("results"), page.session, closer.all)
    page.quiet(history.select, bring_back("history"), page.session, closer.all)
    page.quiet(inputs.photo.change, show_mask, [inputs.photo, page.session], [mask_row, mask_chip])
    page.quiet(drop_mask.click, remove_mask, page.session, mask_row)
    page.parts.update(
        edit=inputs,
        edit_feather=controls["diffedit", "feather_px"],
        edit_mask=[mask_row, mask_chip],
        show_mask=show_mask,
    )


# ---------------------------------------------------------------- Mask inspect


def mask_inspect_tab(page: Page) -> None:
    """Build the Mask inspect tab: where the texts disagree, and the mask cut from it."""
    specs = {spec.name: spec for spec in params.specs(MaskParams)}

    def controls_for(*names: str) -> dict[str, gr.components.Component]:
        return {name: parameter_control(specs[name], specs[name].default) for name in names}

    gr.Markdown(
        "DiffEdit compares the noise that the model predicts with each text; where they differ, it "
        "edits. Threshold, recipe, border and reference act at once: no network runs.",
        elem_classes="lead",
    )
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            borrow = gr.Button("Use the picture from Text edit", size="md")
            pictures = picture_controls(page)
            with gr.Row():
                run, stop = run_controls("Inspect", "inspect")
            costly = controls_for("mask_strength", "num_maps")
            inputs = Inputs(*pictures, *seed_controls())
            copy_link(page, "mask", inputs)
        with gr.Column(scale=6, min_width=300):
            with gr.Row():
                mask_panel, heat_panel = (
                    gr.Image(
                        label=label, height=310, buttons=["download", "fullscreen"],
                        elem_id=elem_id, elem_classes="view", min_width=150, **STILL,
                    )
                    for label, elem_id in (("What may change", "mask"), ("Difference map", "heat"))
                )  # fmt: skip
            facts = gr.HTML(elem_id="facts")
            status = gr.HTML(sentences.status("Press Inspect."), elem_id="mask_status")
            with gr.Row():
                instant = controls_for("threshold", "feather_px")
            with gr.Row():
                instant |= controls_for("recipe", "reference")
            use_mask = gr.Button("Use this mask to edit", interactive=False, elem_id="use_mask")
            with gr.Accordion("Repaint by hand", open=False, elem_id="repaint") as repaint:
                painter = gr.ImageEditor(
                    label="Paint what may change; the eraser takes away", type="pil",
                    format="png", image_mode="RGBA", fixed_canvas=True, layers=False,
                    canvas_size=(SQUARE_PX, SQUARE_PX), height=SQUARE_PX + 90, transforms=(),
                    sources=(), elem_id="painter", interactive=True, visible=False,
                    brush=gr.Brush(28, colors=[PAINT], default_color=PAINT, color_mode="fixed"),
                    eraser=gr.Eraser(28),
                )  # fmt: skip
                with gr.Row():
                    take = gr.Button("Take this painting", size="md", min_width=130)
                    refresh = gr.Button("Back to the inferred mask", size="md", min_width=130)
            words = gr.Gallery(
                label="Where each word of the target text looks (cross-attention)",
                elem_id="words", elem_classes="strip wide titled", visible=False, **STRIP,
            )  # fmt: skip

    def inspect(data: View, request: gr.Request) -> Iterator[View]:
        work, seed = job_of(data)
        session: Session = data[page.session]

        def running(update: Update) -> View:
            return {status: page.progress(update, "Mask")}

        def finished(done: Inspected) -> View:
            tiles = [
                (views.heat(values), word)
                for word, values in done.by_reference["source"].word_maps.items()
            ]
            shown = cut(*(data[control] for control in instant.values()), session)
            text = (
                f"Done in {done.seconds:.1f} s and {done.network_evaluations} UNet evaluations "
                f"with seed {seed}, both references."
            )
            return {
                **at_rest(" ".join([text, *done.notes])),
                **dict(zip((mask_panel, heat_panel, facts), shown, strict=True)),
                words: gr.Gallery(tiles, visible=bool(tiles)),
                repaint: gr.Accordion(open=False),
                painter: gr.ImageEditor(visible=False),
                inputs.source: done.source_text,
                use_mask: gr.Button(interactive=True),
            }

        yield {
            run: gr.Button(interactive=False),
            stop: gr.Button(interactive=True),
            status: sentences.status("Starting"),
            inputs.seed: seed,
        }
        yield from page.follow(request, work, running, finished, at_rest)

    @polite
    def job_of(data: Mapping[Any, Any]) -> tuple[Callable[[OnStep], Inspected], int]:
        picture = workbench.checked_inputs(data[inputs.photo], data[inputs.target])
        seed = workbench.checked_seed(data[inputs.seed], data[inputs.is_random])
        values = {name: data[control] for name, control in costly.items()}
        params.build(MaskParams, values)
        texts = data[inputs.source] or "", data[inputs.target]
        job = functools.partial(
            inspection.inspect,
            page.services_for(data[page.menu]),
            data[page.session],
            picture,
            *texts,
            values,
            seed,
        )
        return job, seed

    def at_rest(text: str) -> View:
        return {
            run: gr.Button(interactive=True),
            stop: gr.Button(interactive=False),
            status: sentences.status(text),
            page.model_line: page.models(),
        }

    def cut(
        threshold: float, feather_px: float, recipe: str, reference: str, session: Session
    ) -> tuple[Any, Any, Any]:
        done = session.inspected
        if done is None:
            return gr.skip(), gr.skip(), gr.skip()
        values = {
            "threshold": threshold, "feather_px": feather_px, "recipe": recipe,
            "reference": reference,
        }  # fmt: skip
        mask, difference = inspection.cut(done, values)
        facts = sentences.mask_facts(mask, done.truth, "inferred")
        return views.mask_over(done.picture, mask), views.heat(difference), facts

    def painted(value: dict[str, Any] | None, session: Session) -> tuple[Any, Any]:
        done = session.inspected
        layers = (value or {}).get("layers")
        mask = inspection.paint(done, layers[0]) if done is not None and layers else None
        if done is None or mask is None:
            return gr.skip(), gr.skip()
        facts = sentences.mask_facts(mask, done.truth, "repainted by hand")
        return views.mask_over(done.picture, mask), facts

    # An editor on the page loses a race between its new picture and its new layer; one that comes
    # back into the page with both loads them in turn. So it leaves with them, then comes back.
    def fill_painter(session: Session) -> Any:
        done = session.inspected
        if done is None or done.square is None:
            raise InputError("Please press Inspect first.")
        square, _ = images.fit(done.picture, SQUARE_PX)
        layer = views.paint_layer(done.square, SQUARE_PX, PAINT_OPACITY)
        value = {"background": square, "layers": [layer], "composite": None}
        return gr.ImageEditor(value=value, visible=False)

    def unfold_painter() -> Any:
        return gr.ImageEditor(visible=True)

    def hand_over(
        feather_px: float, name: str, source_text: str, target_text: str, seed: float,
        session: Session,
    ) -> tuple[Any, ...]:  # fmt: skip
        done = inspection.hand_over(session)
        chip = page.parts["show_mask"](done.picture, session)
        filled = done.picture, name, source_text, target_text, workbench.checked_seed(seed)
        return gr.Tabs(selected="edit"), *filled, *chip, feather_px

    def take_over(
        picture: Image.Image | None, name: str, source_text: str, target_text: str
    ) -> tuple[Any, ...]:
        if picture is None:
            raise InputError("There is no picture in Text edit yet.")
        return picture, name, source_text, target_text

    edit: Inputs = page.parts["edit"]
    cut_inputs = [*instant.values(), page.session]
    cut_outputs = [mask_panel, heat_panel, facts]
    everything = {
        page.session, page.menu, inputs.photo, inputs.source, inputs.target, inputs.seed,
        inputs.is_random, *costly.values(), *instant.values(),
    }  # fmt: skip
    shows = [
        *cut_outputs, words, repaint, painter, inputs.source, inputs.seed, use_mask, run, stop,
        status, page.model_line,
    ]  # fmt: skip
    for trigger in (run.click, inputs.target.submit):
        page.heavy(trigger, inspect, everything, shows)
    page.quiet(stop.click, page.stop, None, None)
    for control in instant.values():
        page.quiet(control.change, cut, cut_inputs, cut_outputs)
    # No painter.change: the page would upload every layer after every stroke.
    page.quiet(take.click, painted, [painter, page.session], [mask_panel, facts])
    recut = page.quiet(refresh.click, cut, cut_inputs, cut_outputs)
    for trigger in (repaint.expand, recut.then):
        filled = page.quiet(trigger, fill_painter, page.session, painter)
        page.quiet(filled.then, unfold_painter, None, painter)
    page.quiet(borrow.click, take_over, edit.fillable, inputs.fillable)
    page.quiet(
        use_mask.click,
        hand_over,
        [instant["feather_px"], *inputs.fillable[1:], inputs.seed, page.session],
        [
            page.tabs, *edit.fillable, edit.seed, *page.parts["edit_mask"],
            page.parts["edit_feather"],
        ],
    )  # fmt: skip
    page.parts["mask"] = inputs


# ---------------------------------------------------------------- Segmentation to image


def segment_css() -> str:
    """Return the style that gives pens and words of segment i the colour of its paint."""
    rules = (
        f"#pen label:nth-child({i}), .segment-{i} {{ border-left: 5px solid rgb{rgb} !important; }}"
        for i, rgb in enumerate(easel.PALETTE, 1)
    )
    return "\n".join(rules)


def in_pairs(control: Callable[[int], Any]) -> list[Any]:
    """Build the control of every segment, 1 and on, two in a row."""
    made = []
    for first in range(1, len(easel.PALETTE) + 1, 2):
        with gr.Row():
            made += [control(first), control(first + 1)]
    return made


def painting_tab(page: Page) -> None:
    """Build the Segmentation-to-image tab: paint where things belong, compare the methods."""
    offered = methods("layouts")
    shelf = easel.examples()
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in easel.PALETTE]
    blank_layer = Image.new("RGBA", (easel.CANVAS_PX, easel.CANVAS_PX))  # with one, the pen is out
    gr.Markdown("**Try one** – a click paints it", elem_classes="lead")
    strip = gr.Gallery(
        [(easel.layer_of(example.layout), example.title) for example in shelf],
        elem_id="layouts", elem_classes="strip", columns=len(shelf), show_label=False,
        container=False, **STRIP,
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            prompt = gr.Textbox(
                label="The whole picture", placeholder="on the grass", max_length=MAX_TEXT
            )
            pen = gr.Radio(
                [str(i + 1) for i in range(len(easel.PALETTE))], value="1", elem_id="pen",
                label="Pen: the segment you paint",
            )  # fmt: skip
            painter = gr.ImageEditor(
                label="Paint where things belong; the eraser takes away", type="pil", format="png",
                image_mode="RGBA", fixed_canvas=True, layers=False, height=easel.CANVAS_PX + 90,
                canvas_size=(easel.CANVAS_PX, easel.CANVAS_PX), transforms=(), sources=(),
                elem_id="easel", interactive=True, eraser=gr.Eraser(BRUSH_RADIUS_PX), visible=False,
                brush=gr.Brush(BRUSH_RADIUS_PX, colours, colours[0], color_mode="fixed"),
                value={"background": None, "layers": [blank_layer], "composite": None},
            )  # fmt: skip
            with gr.Row():
                run, stop = run_controls("Paint", "paint")
            cost_line = gr.HTML(elem_id="paint_cost")
            words = in_pairs(
                lambda i: gr.Textbox(
                    label=f"Segment {i}", placeholder="a red car", min_width=140,
                    max_length=MAX_TEXT, elem_classes=f"segment segment-{i}",
                )
            )  # fmt: skip
            with gr.Accordion("Strength of each segment", open=False):
                strengths = in_pairs(
                    lambda i: gr.Slider(
                        0.1, MAX_STRENGTH, 1.0, step=0.1, label=f"Segment {i}", min_width=140,
                        elem_classes=f"segment-{i}",
                    )
                )  # fmt: skip
            with gr.Accordion("Start from a picture", open=False, elem_id="backdrop"):
                gr.Markdown("What is not painted stays as it is: put something into a picture.")
                photo = Photo(label="Picture", height=160, elem_classes="photo", **PHOTO)
            with gr.Row(equal_height=True, elem_classes="compact"):
                new_toy = gr.Button("Layout of toy scene number", size="md", scale=2, min_width=150)
                toy_seed = gr.Number(
                    1, precision=0, minimum=0, maximum=MAX_SEED, label="Scene number",
                    show_label=False, container=False, min_width=80,
                )  # fmt: skip
            upload = gr.UploadButton(
                "Load a layout: a label map, or a picture painted here", size="md",
                file_types=["image"], elem_id="upload_layout",
            )  # fmt: skip
            with gr.Row():
                save = gr.Button("Save this layout", size="md", min_width=130)
                saved = gr.DownloadButton(
                    "Download layout", visible=False, size="md", elem_id="saved", min_width=130
                )
            seed, is_random = seed_controls()
            chosen, controls = method_controls(page, offered, with_presets=False)
        with gr.Column(scale=6, min_width=300):
            result = gr.Image(
                label="Result", height=520, elem_id="painting", elem_classes="view",
                buttons=["download", "fullscreen"], **STILL,
            )  # fmt: skip
            status = gr.HTML(sentences.status("Click a layout, or paint one."), elem_id="painted")
            compare = gr.Gallery(
                label="Side by side (click to look closer)", visible=False, elem_id="paintings",
                elem_classes="strip wide titled", **STRIP,
            )  # fmt: skip
            table = gr.HTML(elem_id="painting_numbers")
            understood = gr.HTML(elem_id="understood")
            maps = gr.Gallery(
                label="Where guidance saw each segment; what was painted is outlined",
                elem_id="maps", elem_classes="strip wide titled", visible=False, **STRIP,
            )  # fmt: skip
            download = gr.DownloadButton(
                "Download PNG with recipe", interactive=False, size="md", min_width=150
            )
            with gr.Accordion("Recipe", open=False):
                recipe = gr.Code(language="json", show_label=False, interactive=False, max_lines=18)

    def close_up(one: Painted) -> View:
        return {
            result: one.picture,
            maps: gr.Gallery(list(one.attention), visible=bool(one.attention)),
            download: gr.DownloadButton(value=one.picture, interactive=True),
            recipe: recipes.pretty(one.recipe),
        }

    def results_view(order: PaintOrder) -> View:
        made = order.results
        segments = [segment.text for segment in order.layout.segments]
        return {
            compare: gr.Gallery([(one.picture, one.title) for one in made], visible=len(made) > 1),
            table: sentences.painted([one.numbers for one in made], segments, order.notes),
        }

    def at_rest(text: str) -> View:
        return {
            run: gr.Button(interactive=True),
            stop: gr.Button(interactive=False),
            status: sentences.status(text),
            page.model_line: page.models(),
        }

    def proceed(order: PaintOrder, data: Mapping[Any, Any], request: gr.Request) -> Iterator[View]:
        told, session = 0, data[page.session]

        def running(update: Update) -> View:
            nonlocal told
            view: View = {status: page.progress(update, order.doing)}
            if update.preview is not None:
                view[result] = update.preview
                if order.seen is not None:
                    shown = easel.attention_views(order.layout, order.seen)
                    view[maps] = gr.Gallery(shown, visible=True)
            if len(order.results) > told:
                told = len(order.results)
                view |= results_view(order)
            return view

        def finish(order: PaintOrder) -> View:
            session.paintings = list(order.results)
            seconds = sum(one.numbers["seconds"] for one in order.results)
            return {
                **at_rest(f"Done in {seconds:.1f} s with seed {order.seed}."),
                **close_up(order.results[0]),
                **results_view(order),
            }

        yield {
            run: gr.Button(interactive=False),
            stop: gr.Button(interactive=True),
            status: sentences.status("Starting"),
            seed: order.seed,
            table: "",
            compare: gr.Gallery(visible=False),
            understood: sentences.legend([s.text for s in order.layout.segments], easel.PALETTE),
        }
        services = page.services_for(data[page.menu])
        work = functools.partial(easel.carry_out, services, order)
        yield from page.follow(request, work, running, finish, at_rest)

    @polite
    def order_of(data: Mapping[Any, Any], layout: Layout) -> PaintOrder:
        picked = [method.name for method in offered if method.name in (data[chosen] or [])]
        if not picked:
            raise InputError("Please choose at least one method.")
        tasks = [
            workbench.task(
                name,
                {key: data[c] for (method, key), c in controls.items() if method == name},
                "layouts",
            )
            for name in picked
        ]
        checked = workbench.checked_seed(data[seed], data[is_random])
        return PaintOrder(layout, checked, tasks, data[photo])

    @polite
    def painted_layout(data: Mapping[Any, Any]) -> Layout:
        layers = (data[painter] or {}).get("layers") or [None]
        texts, weights = ([data[control] for control in row] for row in (words, strengths))
        return easel.layout_of(layers[0], data[prompt], texts, weights)

    def run_painting(data: View, request: gr.Request) -> Iterator[View]:
        order = order_of(data, painted_layout(data))
        yield from proceed(order, data, request)

    def paint_loaded(data: View, request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]
        if session.layout is not None:
            yield from proceed(order_of(data, session.layout), data, request)

    # Without a background there is no race between it and the layer, as there is in Mask inspect.
    def load(layout: Layout, session: Session) -> tuple[Any, ...]:
        session.layout = layout
        value = {"background": None, "layers": [easel.layer_of(layout)], "composite": None}
        padded = [*layout.segments, *[Segment("")] * (len(words) - len(layout.segments))]
        texts, weights = ([getattr(s, name) for s in padded] for name in ("text", "strength"))
        return value, None, layout.prompt, *texts, *weights

    def load_example(session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        return load(shelf[event.index].layout, session)

    def load_toy(number: float, session: Session) -> tuple[Any, ...]:
        toy, number = remembered_toy(number, session)
        return *load(easel.toy_layout(toy), session), (number + 1) % MAX_SEED

    def load_file(path: str | None, session: Session) -> tuple[Any, ...]:
        if path is None:
            raise InputError("The file did not arrive. Please choose it again.")
        return load(read_layout(path), session)

    # The editor leaves the page and comes back: see Mask inspect.
    def set_backdrop(picture: Image.Image | None, value: dict[str, Any] | None) -> Any:
        value = value or {}
        if picture is None and value.get("background") is None:
            return gr.skip()
        square = picture and images.fit(picture, easel.CANVAS_PX)[0]
        layers = value.get("layers") or [blank_layer]
        return gr.ImageEditor(
            value={"background": square, "layers": layers, "composite": None}, visible=False
        )

    def bring_easel_back() -> Any:
        return gr.ImageEditor(visible=True)

    def save_layout(data: View) -> Any:
        path = easel.layout_file(page.services, painted_layout(data))
        return gr.DownloadButton(value=path, visible=True)

    def look_closer(session: Session, event: gr.SelectData) -> View:
        if not 0 <= event.index < len(session.paintings):
            raise InputError("That picture is no longer kept. Please paint again.")
        return close_up(session.paintings[event.index])

    everything = {
        page.session, page.menu, painter, photo, prompt, *words, *strengths, seed, is_random,
        chosen, *controls.values(),
    }  # fmt: skip
    fillable = [painter, photo, prompt, *words, *strengths]
    closer = [result, maps, download, recipe]
    shows = [*closer, compare, table, understood, status, run, stop, seed, page.model_line]
    painted = page.heavy(run.click, run_painting, everything, shows)
    page.quiet(stop.click, page.stop, None, None)
    page.parts["easel"] = painter
    # An editor that is born on a hidden tab takes its width for 350 pixels.
    page.quiet(page.tab["paint"].select, bring_easel_back, None, painter)
    pen.change(None, pen, None, js=TAKE_PEN, api_visibility="private")
    page.quiet(save.click, save_layout, {painter, prompt, *words, *strengths}, saved)
    moved = page.quiet(photo.change, set_backdrop, [photo, painter], painter)
    page.quiet(moved.then, bring_easel_back, None, painter)
    filled = page.quiet(strip.select, load_example, page.session, fillable)
    loaded = page.heavy(filled.then, paint_loaded, everything - {painter}, shows)
    follow_costs(page, cost_line, chosen, controls, [painted.then, loaded.then], words)
    page.quiet(new_toy.click, load_toy, [toy_seed, page.session], [*fillable, toy_seed])
    page.quiet(upload.upload, load_file, [upload, page.session], fillable)
    page.quiet(compare.select, look_closer, page.session, closer)


# ---------------------------------------------------------------- Retrieval

TOYS, OWN = "The toy set", "My pictures"


def retrieval_tab(page: Page) -> None:
    """Build the Retrieval tab: move a picture by the change of two words, see what lies there."""
    services = page.services
    clips = gallery.clips(services.pack)
    specs = params.specs(RetrievalParams)
    gr.Markdown("**Try one** – a click answers; so does every move of λ", elem_classes="lead")
    strip = gr.Gallery(
        [], elem_id="queries", elem_classes="strip", columns=10, show_label=False, **STRIP
    )
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            photo = Photo(label="Picture", height=200, elem_classes="photo", **PHOTO)
            with gr.Row(equal_height=True, elem_classes="compact"):
                new_toy = gr.Button("Toy scene from number", size="md", scale=2, min_width=150)
                toy_seed = gr.Number(
                    1, precision=0, minimum=0, maximum=MAX_SEED, show_label=False,
                    label="Number of the toy scene", container=False, min_width=80,
                )  # fmt: skip
            with gr.Row():
                words = [
                    gr.Dropdown(
                        list(gallery.WORDS), value=None, allow_custom_value=True, label=label,
                        elem_id=elem_id, min_width=120,
                    )
                    for label, elem_id in (("From", "from_word"), ("To", "to_word"))
                ]  # fmt: skip
            notice = gr.HTML()
            values = workbench.preset_values(services.pack, METHODS["simat"], "")
            controls = {spec.name: parameter_control(spec, values[spec.name]) for spec in specs}
            clip = gr.Radio(list(clips), value=clips[0] if clips else None, label="CLIP")
            where = gr.Radio([TOYS, OWN], value=TOYS, label="Search in")
            with gr.Accordion("My pictures", open=False, elem_id="own_pictures"):
                gr.Markdown("They stay in memory while this page is open, and nowhere else.")
                uploads = [
                    gr.UploadButton(label, file_count=count, file_types=kinds, size="md")
                    for label, count, kinds in (
                        ("Index a zip file, or pictures", "multiple", [".zip", "image"]),
                        ("Index a folder", "directory", None),
                    )
                ]
                stop = gr.Button("Stop", interactive=False, elem_id="stop_index", min_width=90)
                indexed = gr.HTML(elem_id="indexed")
        with gr.Column(scale=6, min_width=300):
            results = gr.Gallery(
                label="Closest to the moved picture; ✓ and ✗ are the scenes' own word",
                elem_id="retrieved", elem_classes="strip wide titled", **STRIP,
            )  # fmt: skip
            status = gr.HTML(sentences.status("Click an example."), elem_id="retrieval_status")
            baselines = gr.Gallery(
                label="Best picture of the baselines", elem_id="retrieval_baselines",
                elem_classes="strip wide titled", **STRIP,
            )  # fmt: skip
            reasons = gr.HTML(elem_id="reasons")

    def answer(data: View) -> View:
        session: Session = data[page.session]
        values = {name: data[control] for name, control in controls.items()}
        try:
            if session.query is None:
                raise InputError("Please choose a picture, or click an example.")
            if data[where] == OWN and session.collection is None:
                raise InputError("Please index pictures of your own first, below.")
            own = session.collection if data[where] == OWN else None
            asked = data[words[0]], data[words[1]]
            one = gallery.look(services, session.query, asked, values, data[clip], own)
        except InputError as error:  # a slider that moves must not throw toasts
            return {status: sentences.status(str(error))}
        best = [(tile.picture, f"{name}: {tile.title}") for name, tile in one.baselines.items()]
        return {
            results: [(tile.picture, tile.title) for tile in one.tiles],
            baselines: best,
            reasons: sentences.reasons(one.words, one.notes),
            status: sentences.retrieved([t.agrees for t in one.tiles], one.seconds),
        }

    def take(picture: Image.Image | None, session: Session) -> None:
        session.query = gallery.query_of(session, picture) if picture else None

    def name_unknown(value: str | None, target: str | None) -> str:
        pack = services.pack
        unknown = gallery.unknown_words(pack, [value, target])
        return sentences.notice(unknown, pack.title, verdicts.word_groups())

    def show_examples() -> Any:
        shelf = gallery.examples(services)
        return gr.Gallery([(picture, f"{one.value} → {one.target}") for one, picture in shelf])

    def pick(session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        one, _ = gallery.examples(services)[event.index]
        picture = gallery.from_set(services, session, one.row)
        take(picture, session)
        return picture, one.value, one.target

    def toy_scene(number: float, session: Session) -> tuple[Any, ...]:
        toy, number = remembered_toy(number, session)
        take(toy.image, session)
        return toy.image, (number + 1) % MAX_SEED

    def index(
        paths: list[str] | None, role: str, session: Session, request: gr.Request
    ) -> Iterator[View]:
        def running(update: Update) -> View:
            return {indexed: page.progress(update, "My pictures")}

        def at_rest(text: str) -> View:
            return {stop: gr.Button(interactive=False), indexed: sentences.status(text)}

        def finished(own: gallery.Collection) -> View:
            left = f" Left out: {len(own.left_out)}." if own.left_out else ""
            return {**at_rest(f"Pictures ready: {len(own)}.{left}"), where: OWN}

        yield {stop: gr.Button(interactive=True), indexed: sentences.status("Starting")}
        work = functools.partial(gallery.index_collection, services, session, paths or [], role)
        yield from page.follow(request, work, running, finished, at_rest)

    changed = (*words, *controls.values(), clip, where)
    everything = {page.session, *changed}
    shows = [results, baselines, reasons, status]
    taken = page.quiet(photo.change, take, [photo, page.session], None)
    for trigger in (taken.then, *(control.change for control in changed)):
        page.quiet(trigger, answer, everything, shows)
    for word in words:
        page.quiet(word.change, name_unknown, words, notice)
    page.quiet(strip.select, pick, page.session, [photo, *words])
    page.quiet(new_toy.click, toy_scene, [toy_seed, page.session], [photo, toy_seed])
    for upload in uploads:
        made = page.heavy(
            upload.upload, index, [upload, clip, page.session], [stop, indexed, where]
        )
        page.quiet(made.then, answer, everything, shows)
    page.quiet(stop.click, page.stop, None, None)
    page.quiet(page.tab["retrieve"].select, show_examples, None, strip)
    page.parts["queries"] = strip, show_examples


# ---------------------------------------------------------------- the page


TABS: tuple[tuple[str, str, Callable[[Page], None]], ...] = (
    ("edit", "Text edit", text_edit_tab),
    ("mask", "Mask inspect", mask_inspect_tab),
    ("paint", "Segmentation to image", painting_tab),
    ("retrieve", "Retrieval", retrieval_tab),
)


def build(
    *, cache: ModelCache | None = None, gate: Gate | None = None, pack: packs.Pack | None = None
) -> gr.Blocks:
    """Return the app; the services may be given, as tests do."""
    services = Services(
        cache=cache or ModelCache(CACHE_BYTES, packs.LOADERS),
        memo=Memo(MEMO_BYTES),
        gate=gate or Gate(),
        pack=pack or packs.find("toybox"),
        file=file_picture,
    )
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 7200)) as demo:
        gr.HTML(f"<h1>{TITLE}</h1><p>{PROMISE}</p>", elem_id="headline")
        offered = {services.pack.name: services.pack} | packs.PACKS
        with gr.Row(equal_height=True, elem_classes="compact"):
            menu = gr.Dropdown(
                [(one.title, name) for name, one in offered.items()], value=services.pack.name,
                label="Model pack", container=False, elem_id="packs", scale=1, min_width=180,
            )  # fmt: skip
            with gr.Column(scale=4, min_width=280):
                pack_line = gr.HTML(sentences.pack(services.pack), elem_id="pack")
        model_line = gr.HTML(render=False)
        session = gr.State(Session(), time_to_live=7200)
        with gr.Tabs() as tabs:
            page = Page(services, session, tabs, menu, model_line)
            for name, title, builder in TABS:
                with gr.Tab(title, id=name) as page.tab[name]:
                    builder(page)
        model_line.render()
        about = gr.HTML(about_pack(services.pack))

        def choose_pack(name: str) -> tuple[str, str]:
            chosen = page.services_for(name).pack
            return sentences.pack(chosen), about_pack(chosen)

        page.quiet(menu.change, choose_pack, menu, [pack_line, about])
        open_from_link(demo, page)
        public_endpoints(page)
    return demo.queue(max_size=32, api_open=False, default_concurrency_limit=1)


def about_pack(pack: packs.Pack) -> str:
    """Return what a pack knows."""
    return sentences.about(pack.notes, verdicts.word_groups() if pack.vocabulary else {})


def open_from_link(demo: gr.Blocks, page: Page) -> None:
    """Fill the page when it opens: from its link, else with the first example."""
    edit, mask = page.parts["edit"], page.parts["mask"]
    shelf = {example.name: example for example in examples.examples()}

    def restore(session: Session, request: gr.Request) -> tuple[Any, ...]:
        workbench.warm_up(page.services)
        query = dict(request.query_params)
        name = query.get("picture", "")
        if toy_seed := re.fullmatch(r"toy-(\d{1,9})", name):
            toy, _ = remembered_toy(int(toy_seed[1]), session)
            source, target = examples.caption(toy.scene), ""
        else:
            example = shelf.get(name, next(iter(shelf.values())))
            name, source, target = example.name, example.source_text, example.target_text
            toy = example.toy
            session.remember(name, toy)
        source = query.get("source", source)[:MAX_TEXT]
        target = query.get("target", target)[:MAX_TEXT]
        seed = query.get("seed", "")
        seed = int(seed) if re.fullmatch(r"\d{1,9}", seed) else 0
        tab = query.get("tab")
        tab = tab if tab in [known for known, _, _ in TABS] else TABS[0][0]
        filled = toy.image, name, source, target, seed
        easel_shown = gr.ImageEditor(visible=True) if tab == "paint" else gr.skip()
        strip_shown = show_queries() if tab == "retrieve" else gr.skip()
        shown = easel_shown, strip_shown
        return gr.Tabs(selected=tab), *filled, *filled, page.models(), *shown

    strip, show_queries = page.parts["queries"]
    filled = [*edit.fillable, edit.seed, *mask.fillable, mask.seed]
    shows = [page.tabs, *filled, page.model_line, page.parts["easel"], strip]
    page.quiet(demo.load, restore, page.session, shows)
    for tell, given, line in page.parts["costs"]:
        page.quiet(demo.load, tell, given, line)


def public_endpoints(page: Page) -> None:
    """Offer the same work under clean names; no button shows them."""
    with gr.Column(visible=False):
        picture = Photo(label="image", **PHOTO)
        source, target = gr.Textbox(label="source_text"), gr.Textbox(label="target_text")
        name = gr.Textbox("diffedit", label="method")
        clip = gr.Textbox("clip_resnet", label="clip")
        seed = gr.Number(0, precision=0, label="seed")
        values = gr.JSON({}, label="parameters")
        pack = gr.Textbox(page.services.pack.name, label="pack")
        edited, mask = (gr.Image(label=label, format="png") for label in ("edited", "mask"))
        report = gr.JSON(label="report")
        layout, words = gr.File(label="layout"), gr.JSON([], label="words")
        trigger = gr.Button()

    services_for = polite(page.services_for)

    @polite
    def task_of(services: Services, method: str, parameters: Any, tab: str = "text_edit") -> Task:
        if not isinstance(parameters or {}, dict):
            raise InputError("The parameters must be an object of names and values.")
        defaults = services.pack.defaults.get(method, {})
        return workbench.task(method, {**defaults, **(parameters or {})}, tab)

    @polite
    def paint_order(
        file: str | None, prompt: str, words: Any, task: Task, seed: float,
        picture: Image.Image | None,
    ) -> PaintOrder:  # fmt: skip
        if file is None:
            raise InputError("Please send a label map, or a picture that was painted here.")
        return PaintOrder(
            easel.reworded(read_layout(file), prompt, words),
            workbench.checked_seed(seed),
            [task],
            picture,
        )

    def paint(
        layout: str | None, prompt: str, words: Any, method: str, seed: float, parameters: Any,
        pack: str, picture: Image.Image | None = None, request: gr.Request = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Paint a layout file; `words` has one text for each segment, none keeps the file's own.

        With a picture, only its painted parts change. `pack` is a name that /packs lists.
        """
        services = services_for(pack)
        task = task_of(services, method, parameters, "layouts")
        order = paint_order(layout, prompt, words, task, seed, picture)

        def finished(order: PaintOrder) -> tuple[Any, ...]:
            one = order.results[0]
            notes = list(dict.fromkeys(order.notes))
            return one.picture, {"recipe": one.recipe, "numbers": one.numbers, "notes": notes}

        yield from page.follow(
            request,
            functools.partial(easel.carry_out, services, order),
            lambda update: (None, {"ahead": update.ahead}),
            finished,
            lambda text: (None, {"status": text}),
        )

    def retrieve(
        image: Image.Image | None, source_word: str, target_word: str, clip: str, parameters: Any,
        pack: str, session: Session,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Move a picture by the change of two words; returns the closest picture and a report."""
        if not isinstance(parameters or {}, dict):
            raise InputError("The parameters must be an object of names and values.")
        query = gallery.query_of(session, image)
        words = source_word, target_word
        answer = gallery.look(page.services_for(pack), query, words, parameters or {}, clip)
        return answer.tiles[0].picture, answer.report()

    @polite
    def order_of(
        image: Image.Image | None, texts: tuple[str, str], seed: float, task: Task, session: Session
    ) -> Order:
        image = workbench.checked_inputs(image, texts[1])
        return Order(image, texts[0] or "", texts[1], workbench.checked_seed(seed), [task], session)

    def edit(
        image: Image.Image | None, source_text: str, target_text: str, method: str, seed: float,
        parameters: Any, pack: str, session: Session, request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Edit a picture; `parameters` by name, see /methods. Returns picture, mask, report.

        `pack` is a name that /packs lists.
        """
        services = services_for(pack)
        task = task_of(services, method, parameters)
        order = order_of(image, (source_text, target_text), seed, task, session)

        def finished(order: Order) -> tuple[Any, ...]:
            one = order.results[0]
            notes = list(dict.fromkeys(order.notes))
            report = {"recipe": one.recipe, "numbers": one.numbers, "notes": notes}
            return one.after, one.mask_view, {**report, "curves": one.curves}

        yield from page.follow(
            request,
            functools.partial(workbench.carry_out, services, order),
            lambda update: (None, None, {"ahead": update.ahead}),
            finished,
            lambda text: (None, None, {"status": text}),
        )

    def list_methods() -> dict[str, Any]:
        """Return every method with its parameters, ranges and defaults."""
        return {
            method.name: {
                "title": method.title,
                "tab": method.tab,
                "summary": method.summary,
                "paper": method.paper,
                "parameters": [
                    {
                        **vars(spec),
                        "default": values[spec.name],
                        "options": leases.options(page.services.pack, spec),
                    }
                    for spec in params.specs(method.load_params())
                ],
            }
            for method in METHODS.values()
            for values in [workbench.preset_values(page.services.pack, method, "")]
        }

    def list_packs() -> dict[str, Any]:
        """Return every model pack: title, licence, pixels, components and what of them is here."""
        offered = {page.services.pack.name: page.services.pack} | packs.PACKS
        return {name: packs_check.listing(pack) for name, pack in offered.items()}

    def new_scene(seed: float, session: Session) -> tuple[Any, ...]:
        """Return the toy scene of a seed, its caption and what stands where."""
        toy, _ = remembered_toy(seed, session)
        return toy.image, {"caption": examples.caption(toy.scene), "scene": toy.scene.to_dict()}

    page.heavy(
        trigger.click, edit, [picture, source, target, name, seed, values, pack, page.session],
        [edited, mask, report], api_name="edit", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    page.heavy(
        trigger.click, paint, [layout, source, words, name, seed, values, pack, picture],
        [edited, report], api_name="paint", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    trigger.click(polite(list_methods), None, report, api_name="methods")
    trigger.click(polite(list_packs), None, report, api_name="packs")
    trigger.click(
        polite(retrieve), [picture, source, target, clip, values, pack, page.session],
        [edited, report],
        api_name="retrieve",
    )  # fmt: skip
    trigger.click(polite(new_scene), [seed, page.session], [edited, report], api_name="new_scene")


class BodyLimit:
    """ASGI middleware that refuses request bodies above MAX_BODY_BYTES, data: URLs included."""

    def __init__(self, app: Handler) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or answer 413."""
        sizes = [value for key, value in scope.get("headers", ()) if key == b"content-length"]
        if not sizes or not sizes[0].isdigit() or int(sizes[0]) <= MAX_BODY_BYTES:
            await self.app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": "request too large"}'})


def launch_settings() -> dict[str, Any]:
    """Return what `launch` is called with, here and in the tests."""
    return {
        "max_file_size": MAX_UPLOAD_BYTES,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "ssr_mode": False,
        "strict_cors": True,
        "state_session_capacity": 200,
        "enable_monitoring": False,
        "blocked_paths": [str(Path(__file__).parent)],
        "app_kwargs": {"middleware": [Middleware(BodyLimit)]},
        "theme": THEME,
        "css_paths": [str(CSS)],
        "css": segment_css(),
    }


def main() -> None:
    """Serve the page."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    build().launch(**launch_settings())


if __name__ == "__main__":
    main()
