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
import io
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # Stop cannot reach a download by Xet's client

import gradio as gr
import pandas as pd
from gradio import processing_utils
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs
from gradio.data_classes import FileData
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from pipelines import (
    costs,
    devices,
    direction_training,
    easel,
    estimates,
    examples,
    face_numbers,
    face_orders,
    face_sources,
    faces,
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
    zerogpu,
)
from pipelines.data.spec import WORDS
from pipelines.easel import Painted, PaintOrder
from pipelines.errors import Cancelled, InputError
from pipelines.image_collections import Collection
from pipelines.inspection import Inspected, InspectOrder
from pipelines.jobs import Done, Gate, Update
from pipelines.layout_files import read_layout
from pipelines.layouts import MAX_STRENGTH, Layout, Segment
from pipelines.memo import Memo
from pipelines.method_params import FaceParams, LELSDParams, MaskParams, RetrievalParams
from pipelines.model_cache import ModelCache
from pipelines.registry import METHODS, Method, methods
from pipelines.results import OnStep
from pipelines.retrieval_desk import Answer
from pipelines.visits import SQUARE_PX, Session, Visits
from pipelines.workbench import MAX_SEED, Order, Services, Shown, Task
from pipelines.zerogpu import Loan

logger = logging.getLogger(__name__)

TITLE = "Semantic image editing"
PROMISE = "Change what a picture shows by changing its description. Everything else stays."
CACHE_BYTES = 6 * 2**30
MEMO_BYTES = 256 * 2**20
MAX_UPLOAD_BYTES = 20 * 2**20
MAX_BODY_BYTES = 32 * 2**20
MAX_PAINTINGS = 32
MAX_LAYERS = 4
MAX_LAYER_PIXELS = 4_000_000
MAX_LAYER_BYTES = 4 * 2**20
MAX_TEXT = 1000
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
    if (!picture) return "Copied, without your picture";  // which is on nobody else's page
    return copied ? "Link copied" : "Copy link";
}"""
# A page that is loaded again, from the same link in the same browser tab, finds its session.
ASK_FOR_VISIT = """(visit, session) => {
    try {
        return [sessionStorage.getItem("visit " + location.search) ?? "", session];
    } catch {  // a browser that keeps nothing
        return ["", session];
    }
}"""
KEEP_VISIT = """(visit) => {
    try {
        sessionStorage.setItem("visit " + location.search, visit);
    } catch {}
}"""
SHOW_RESULT = """() => {
    if (innerWidth < 700) document.querySelector("PLACE").scrollIntoView({behavior: "smooth"});
}"""
BRUSH_RADIUS_PX = 36
TAKE_PEN = """(pen) => {
    // as a hand would: brush, palette, colour; a brush given by the server keeps its old colour
    const find = (css) => document.querySelector("#easel " + css);
    const palette = "button[aria-label=Color]", brush = "button[aria-label=Brush]";
    const take = (tries) => {
        if (!find("canvas") || (!find(palette) && !find(brush))) {  // it is on its way back
            if (tries) setTimeout(take, 100, tries - 1);
            return;
        }
        if (!find(palette)) find(brush).click();
        requestAnimationFrame(() => {
            if (!find(".swatch")) find(palette)?.click();
            requestAnimationFrame(() => find(`.swatch button:nth-child(${pen})`)?.click());
        });
    };
    take(50);
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

T = TypeVar("T")
Updates = Generator[Update | Done[Any]]
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


class Painter(gr.ImageEditor):
    """An editor whose pictures are decoded safely, or refused with a sentence.

    The page sends them ahead of the event that reads them; of a visitor who never does, they are
    dropped after those of MAX_PAINTINGS others.
    """

    is_template = True

    @server
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep what the page sends ahead; refuse what no painting has."""
        known = {"null", *map(str, range(MAX_LAYERS))}
        if str(data.data.get("index") or "0") not in known or len(str(data.data.get("id"))) > 64:
            raise HTTPException(400, "no layer of a painting")
        if any(len(content) > MAX_LAYER_BYTES for _, content in data.files):
            raise HTTPException(413, "a layer is too large")
        super().accept_blobs(data)
        while len(self.blob_storage) > MAX_PAINTINGS:
            self.blob_storage.pop(next(iter(self.blob_storage)))

    def preprocess(self, payload: Any) -> Any:
        """Return {"background", "layers", "composite"} of decoded pictures, at most one layer."""
        if payload is not None and len(payload.layers) > MAX_LAYERS:
            raise refusal(InputError(f"A painting has at most {MAX_LAYERS} layers."))
        value = super().preprocess(payload)
        if value is not None and value["layers"]:  # the page has an empty one beside the painting
            flat, *others = value["layers"]
            for layer in others:
                flat.alpha_composite(layer.resize(flat.size))
            value["layers"] = [flat]
        return value

    def convert_and_format_image(
        self, file: FileData | bytes | None, flatten_on_white: bool = False
    ) -> Image.Image | None:
        """Return the decoded picture, RGBA; None where there is none."""
        if file is None:
            return None
        source = io.BytesIO(file) if isinstance(file, bytes) else file.path
        try:
            return images.decode(source, max_pixels=MAX_LAYER_PIXELS, mode="RGBA")
        except InputError as error:
            raise refusal(error) from error


def save_whole(img: Image.Image, cache_dir: str, name: str = "image", format: str = "webp") -> str:
    """Put a picture into Gradio's cache and return its path, as `save_pil_to_cache` does (6.31).

    But not in place: who reads a file while the same picture is put there again finds it whole.
    """
    content = processing_utils.encode_pil_to_bytes(img, format)
    folder = Path(cache_dir) / processing_utils.hash_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    part, path = folder / uuid.uuid4().hex, folder / f"{name}.{format}"
    part.write_bytes(content)
    part.replace(path)
    return str(path.resolve())


processing_utils.save_pil_to_cache = save_whole  # what every component calls


def file_picture(image: Image.Image, name: str) -> str:
    """Write a picture into Gradio's cache as PNG and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "picture"
    return save_whole(image, gr.utils.get_upload_folder(), name=slug, format="png")


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
        returned: changes when the page was loaded again and `session` is the one it had before.
        loan: the GPU that ZeroGPU lends; None anywhere else.
        tab: the tabs by name.
        parts: what earlier tabs offer to later ones.
        latest: the handler wired last, by what triggers it.
    """

    services: Services
    session: gr.State
    tabs: gr.Tabs
    menu: gr.Dropdown
    model_line: gr.HTML
    returned: gr.State
    loan: Loan | None = None
    tab: dict[str, gr.Tab] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    latest: dict[tuple[int, str], Any] = field(default_factory=dict)

    def services_for(self, name: str | None) -> Services:
        """Return the services with the pack that is named, the app's own if none is."""
        if not name or name == self.services.pack.name:
            return self.services
        return replace(self.services, pack=packs.find(name, self.offered))

    @property
    def offered(self) -> dict[str, packs.Pack]:
        """The packs to choose from, the app's own first; on ZeroGPU no other."""
        own = {self.services.pack.name: self.services.pack}
        return own if self.loan else own | packs.PACKS

    @property
    def cache(self) -> ModelCache:
        """Where edits find their models."""
        return self.loan.cache if self.loan else self.services.cache

    @property
    def _no_spinner(self) -> dict[str, Any]:
        """Settings of an event without a spinner, which Gradio's page (6.31) believes it shows.

        It tells every output of every event so far of every event's progress, and for a row or tab
        among them first asks all it holds for their values: painters would upload theirs each time.
        """
        return {"show_progress": "hidden", "show_progress_on": self.model_line}

    def quiet(
        self,
        trigger: Handler | Sequence[Handler],
        handler: Handler,
        inputs: Any,
        outputs: Any,
        *,
        refuses: bool = False,
        js: str | None = None,
    ) -> Any:
        """Wire a light handler: no spinner, no public endpoint; of several the latest call counts.

        Where a trigger has a handler already, the next one runs after it: when a call had to wait,
        Gradio's page (6.31) repeats it for all handlers of its trigger, so that two would call each
        other for ever. `trigger` may be several, for one handler that has them alone.

        One that `refuses` goes through Gradio's queue, without waiting in it: of errors that come
        another way its page (6.31) loses `visible`, and shows nothing. The others stay out of it.
        """
        triggers = trigger if isinstance(trigger, Sequence) else [trigger]
        keys = [
            (one.__self__._id, one.event_name) for one in triggers if hasattr(one, "event_name")
        ]
        before = [self.latest[key] for key in keys if key in self.latest]
        if isinstance(trigger, Sequence):
            assert not before, "chain these handlers one by one"
            trigger = functools.partial(gr.on, trigger)
        done = (before[0].then if before else trigger)(
            polite(handler),
            inputs,
            outputs,
            queue=refuses,
            concurrency_limit=None,
            **self._no_spinner,
            trigger_mode="always_last",
            api_visibility="private",
            js=js,
        )
        self.latest.update(dict.fromkeys(keys, done))
        return done

    def name_unknown(self, boxes: Sequence[gr.Textbox], notice: gr.HTML) -> None:
        """Say in `notice` which words of the boxes the pack does not know, or does not read."""

        def tell(pack_name: str, *texts: str | None) -> str:
            pack = self.services_for(pack_name).pack
            given = [text or "" for text in texts]
            unknown = verdicts.unknown_words(given, pack.words())
            cut = prompt_notes.cut_off_now(self.cache, pack, given)
            said = sentences.notice(unknown, pack.title, verdicts.word_groups())
            return said + sentences.cut(cut)

        for box in (*boxes, self.menu):
            self.quiet(box.change, tell, [self.menu, *boxes], notice)

    def heavy(
        self, trigger: Handler, handler: Handler, inputs: Any, outputs: Any, **options: Any
    ) -> Any:
        """Wire a generator that waits in the gate's own line, which tells its place."""
        return trigger(
            handler,
            inputs,
            outputs,
            concurrency_id="heavy",
            concurrency_limit=2 * self.services.gate.max_jobs,  # which refuses with a sentence
            **self._no_spinner,
            **{"api_visibility": "private", "trigger_mode": "once", **options},
        )

    def start(
        self,
        who: str,
        work: Callable[[OnStep], T],
        *,
        on_gpu: bool = False,
        place: str = "",
        keep: Callable[[T], Any] | None = None,
    ) -> Updates:
        """Return the updates of a new job; `keep` gets its result even if nobody looks any more.

        On ZeroGPU one that is `on_gpu` works on copies: only what it returns is news. With a
        `place` (a tab) it ends an earlier job of this visitor there.
        """
        if on_gpu and self.loan is not None:
            work = functools.partial(self.loan.carry_out, work)

        def kept(on_step: OnStep) -> T:
            value = work(on_step)
            if keep is not None:
                keep(value)
            return value

        return self.services.gate.run(who, kept, place)

    def follow(
        self,
        who: str,
        updates: Updates,
        running: Callable[[Update], Any],
        finished: Callable[[Any], Any],
        rest: Callable[[str], Any],
        place: str = "",
    ) -> Iterator[Any]:
        """Yield what the page shows while a job runs, at its end, or at rest without one.

        A job with a place shows no more once another one has taken it.
        """
        gate = self.services.gate
        try:
            with closing(updates):
                for update in updates:
                    done = isinstance(update, Done)
                    if done and place and gate.is_busy(who, place):
                        return
                    yield finished(update.value) if done else running(update)
        except Cancelled:
            if not (place and gate.is_busy(who, place)):
                yield rest("Stopped.")
        except gr.Error:  # of ZeroGPU, about quotas
            yield rest("")
            raise
        except InputError as error:
            yield rest(str(error))
            raise refusal(error) from error
        except Exception as error:
            yield rest(OURS)
            raise fault(error) from error

    def progress(self, update: Update, doing: str) -> str:
        """Return the status line of a running job."""
        entries = self.services.cache.state()
        loading = self.loan is None and all(entry.state != "leased" for entry in entries)
        return sentences.progress(update, doing, loading=loading)

    def models(self) -> str:
        """Return which models are in memory."""
        lent = self.loan.cache.state() if self.loan else ()
        entries = (*lent, *self.services.cache.state())
        return sentences.models(entries, self.services.pack.title)

    def stop(self, session: Session, request: gr.Request) -> None:
        """Stop every job of this visitor."""
        self.services.gate.stop(owner(request, session))


def owner(request: gr.Request, session: Session | None = None) -> str:
    """Return whose job it is."""
    return (session and session.token) or request.session_hash or "api"


# ---------------------------------------------------------------- shared by the tabs


@dataclass(frozen=True, eq=False)
class Inputs:
    """The controls that say which picture, which texts and which seed."""

    photo: Photo
    name: gr.Textbox  # hidden: a toy's name, for links
    source: gr.Textbox
    target: gr.Textbox
    window: list[gr.components.Component]  # of the picture, by the fields of `images.Window`
    seed: gr.Number
    is_random: gr.Checkbox

    @property
    def fillable(self) -> list[gr.components.Component]:
        """What a click on an example, a toy or "use the picture" sets."""
        return [self.photo, self.name, self.source, self.target, *self.window]

    def window_of(self, data: Mapping[Any, Any]) -> images.Window:
        """Return the square of the picture that is asked for."""
        return built_window([data[control] for control in self.window])


def built_window(values: Sequence[Any]) -> images.Window:
    """Return the window of its controls' values."""
    names = [spec.name for spec in params.specs(images.Window)]
    return params.build(images.Window, dict(zip(names, values, strict=True)))


def window_values(window: images.Window = images.CENTRE) -> tuple[Any, ...]:
    """Return what the controls of a window show."""
    return tuple(params.to_dict(window).values())


def window_controls(page: Page, photo: Photo) -> list[gr.components.Component]:
    """Build what says which square of a picture is worked on, and shows it; return the sliders."""
    with gr.Accordion("Which part is worked on", open=False) as part:
        line = gr.HTML()
        view = gr.Image(height=200, show_label=False, buttons=[], elem_classes="view", **STILL)
        window = [parameter_control(one, one.default) for one in params.specs(images.Window)]

    def show_window(picture: Image.Image | None, pack_name: str, *values: float) -> Any:
        if picture is None:
            return None, ""
        chosen, size_px = built_window(values), page.services_for(pack_name).pack.resolution_px
        told = sentences.window(images.fit(picture, size_px, chosen)[1])
        return views.square_of(picture, chosen), told

    for trigger in (part.expand, photo.change, page.menu.change, *(one.change for one in window)):
        given = [photo, page.menu, *window]
        page.quiet(trigger, show_window, given, [view, line], refuses=True)
    return window


def picture_controls(page: Page) -> list[Any]:
    """Build picture, toy scene and texts, with the notice about unknown words."""
    photo = Photo(label="Picture", height=200, elem_classes="photo", **PHOTO)
    window = window_controls(page, photo)
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
        filled = toy.image, f"toy-{seed}", examples.caption(toy.scene), "", *window_values()
        return *filled, (seed + 1) % MAX_SEED

    def name_picture(picture: Image.Image | None, said: str, session: Session) -> tuple[str, Any]:
        name = session.known(picture)[0] if picture else ""
        is_new = picture and not name and session.is_inferred_of_another(picture, said)
        return name, "" if is_new else gr.skip()

    page.quiet(
        new_toy.click, toy_scene, [toy_seed, page.session],
        [photo, name, source, target, *window, toy_seed], refuses=True,
    )  # fmt: skip
    page.quiet(photo.change, name_picture, [photo, source, page.session], [name, source])
    page.name_unknown([source, target], notice)
    return [photo, name, source, target, window]


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


def show_on_a_phone(place: str, *triggers: Handler) -> None:
    """Bring a result into view where it stands below the controls."""
    for trigger in triggers:
        trigger(None, js=SHOW_RESULT.replace("PLACE", place), api_visibility="private")


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
    names = [method.name for method in offered]
    ticked = pack.ticked(names)
    chosen = gr.CheckboxGroup(
        [(method.title, method.name) for method in offered],
        value=ticked,
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
            f"{method.title} settings", open=False, visible=method.name in ticked
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

    def tick(pack_name: str) -> list[str]:
        return page.services_for(pack_name).pack.ticked(names)

    def show_settings(picked: list[str]) -> list[Any]:
        return [gr.Accordion(visible=name in picked) for name in accordions]

    given = [page.menu, preset] if presets else [page.menu]
    for trigger in given:
        page.quiet(trigger.change, choose_preset, given, list(controls.values()))
    page.quiet(page.menu.change, tick, page.menu, chosen)
    page.quiet(chosen.change, show_settings, chosen, list(accordions.values()))
    return chosen, controls


def settings_view(
    tasks: Sequence[Task],
    chosen: gr.CheckboxGroup,
    controls: Mapping[tuple[str, str], gr.components.Component],
    *,
    is_sweep: bool = False,
) -> View:
    """Return the view of the methods and settings that tasks were made with."""
    values = {
        (one.method.name, key): v
        for one in tasks
        for key, v in one.values.items()
        if not (is_sweep and key == "strength")
    }
    shown = {control: values[key] for key, control in controls.items() if key in values}
    return {chosen: list(dict.fromkeys(one.method.name for one in tasks)), **shown}


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
                page.cache, services.pack, services.meter, picked, regions=regions
            )
        except InputError as error:  # a slider that moves must not throw toasts
            return sentences.status(str(error))
        return sentences.estimate(one)

    given = {page.menu, chosen, *controls.values(), *words}
    counted = [control for (_, name), control in controls.items() if name in costs.COUNTED]
    shared = [control.change for control in (page.menu, chosen, *words)]
    for trigger in ([control.change for control in counted], *shared, *ran):
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
            trade_off = gr.LinePlot(
                x="distance", y="score", color="sweep", tooltip="all", height=260, visible=False,
                title="Strength sweeps: LPIPS to input against CLIP score", color_title=" ",
                x_title="LPIPS to input", y_title="CLIP score", elem_id="trade_off",
                buttons=["export"],
            )  # fmt: skip
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

    services_for = polite(page.services_for)

    def results_view(order: Order) -> View:
        made = order.results
        return {
            compare: gr.Gallery([(one.after, one.title) for one in made], visible=len(made) > 1),
            table: sentences.numbers([one.numbers for one in made], order.notes),
        }

    def finished(order: Order, session: Session) -> View:
        session.trade_off.follow(order)
        points = session.trade_off.points()
        names = list(dict.fromkeys(name for *_, name in points))
        return {
            **at_rest(f"Done in {order.seconds:.1f} s with seed {order.seed}.", session),
            **closer.show(order.results[len(order.results) // 2 if order.is_sweep else 0]),
            **results_view(order),
            trade_off: gr.LinePlot(
                pd.DataFrame(points, columns=["distance", "score", "strength", "sweep"]),
                visible=bool(points),
                colors_in_legend=names,  # without news of them Gradio would not draw a new curve
            ),
        }

    def at_rest(text: str, session: Session) -> View:
        tiles = [(one.after, f"{one.title}, seed {one.recipe['seed']}") for one in session.history]
        return {
            run: gr.Button(interactive=True),
            sweep: gr.Button(interactive=True),
            stop: gr.Button(interactive=False),
            status: sentences.status(text),
            history: gr.Gallery(tiles, visible=bool(tiles)),
            page.model_line: page.models(),
        }

    def watch(order: Order, who: str, updates: Updates, session: Session) -> Iterator[View]:
        told, is_said = 0, False

        def inferred(order: Order) -> View:
            nonlocal is_said
            is_news, is_said = bool(order.inferred) and not is_said, bool(order.inferred)
            return {inputs.source: order.inferred} if is_news else {}

        def running(update: Update) -> View:
            nonlocal told
            view: View = {status: page.progress(update, order.doing), **inferred(order)}
            is_first = order.is_sweep or not order.results  # which stays while the others run
            if update.preview is not None and update.step.stage in DRAWN and is_first:
                square, _ = images.fit(order.picture, max(update.preview.size), order.window)
                view[slider] = square, update.preview
            if len(order.results) > told:
                view |= closer.show(order.results[0]) if not told and not order.is_sweep else {}
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
        yield from page.follow(
            who,
            updates,
            running,
            lambda done: finished(done, session) | inferred(done),
            lambda text: at_rest(text, session),
            "edit",
        )

    def proceed(order: Order, data: Mapping[Any, Any], request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]
        work = functools.partial(workbench.carry_out, services_for(data[page.menu]), order)

        def keep(done: Order) -> None:  # on ZeroGPU a copy
            session.order = done if session.order is order else session.order

        session.begin(order)
        who = owner(request, session)
        updates = page.start(who, work, on_gpu=True, place="edit", keep=keep)
        yield from watch(order, who, updates, session)

    def take_up(data: View, request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]
        order, who = session.order, owner(request, session)
        if order is None:
            yield {status: gr.skip()}  # where nothing at all is yielded, Gradio empties all outputs
            return
        yield settings_view(order.tasks, chosen, controls, is_sweep=order.is_sweep)
        updates = page.services.gate.rejoin(who, "edit")
        if updates is not None:
            yield from watch(order, who, updates, session)
        elif order.seconds:
            yield finished(order, session)
        else:
            part = results_view(order) | closer.show(order.results[0]) if order.results else {}
            yield at_rest("Stopped.", session) | part

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
        name, toy = session.known(picture)
        return Order(
            picture=picture,
            source_text=data[inputs.source] or "",
            target_text=data[inputs.target],
            seed=workbench.checked_seed(data[inputs.seed], data[inputs.is_random]),
            tasks=workbench.sweep_tasks(tasks[0]) if is_sweep else tasks,
            is_sweep=is_sweep,
            name=name,
            toy=toy,
            mask=session.mask_for(picture),
            window=inputs.window_of(data),
        )

    def run_edit(data: View, request: gr.Request) -> Iterator[View]:
        yield from proceed(order_of(data, is_sweep=False), data, request)

    def run_sweep(data: View, request: gr.Request) -> Iterator[View]:
        yield from proceed(order_of(data, is_sweep=True), data, request)

    def fill(session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        example = shelf[event.index]
        session.remember(example.name, example.toy)
        session.mask = None
        texts = example.source_text, example.target_text
        return example.toy.image, example.name, *texts, *window_values()

    def bring_back(kept_in: Callable[[Session], Sequence[Shown]]) -> Handler:
        def bring_back_one(session: Session, event: gr.SelectData) -> View:
            kept = kept_in(session)
            if not 0 <= event.index < len(kept) or not Path(kept[event.index].after).is_file():
                raise InputError("That picture is no longer kept. Please run the edit again.")
            return closer.show(kept[event.index])

        return bring_back_one

    def show_mask(picture: Image.Image | None, session: Session) -> tuple[Any, Any]:
        if picture is None or session.mask_for(picture) is None:
            session.mask = None
            return gr.Row(visible=False), None
        square, _ = images.fit(picture, SQUARE_PX, session.mask.window)
        return gr.Row(visible=True), views.mask_over(square, session.mask.square)

    def remove_mask(session: Session) -> Any:
        session.mask = None
        return gr.Row(visible=False)

    everything = {
        page.session, page.menu, inputs.photo, inputs.source, inputs.target, *inputs.window,
        inputs.seed, inputs.is_random, chosen, *controls.values(),
    }  # fmt: skip
    shows = [
        *closer.all, compare, table, trade_off, history, status, run, sweep, stop, inputs.seed,
        inputs.source, page.model_line,
    ]  # fmt: skip
    filled = page.quiet(strip.select, fill, page.session, inputs.fillable)
    ran = [
        page.heavy(trigger, run_edit, everything, shows).then
        for trigger in (run.click, inputs.target.submit, filled.then)
    ]
    page.heavy(sweep.click, run_sweep, everything, shows)
    settings = [chosen, *controls.values()]
    page.heavy(page.returned.change, take_up, {page.session}, [*shows, *settings])
    follow_costs(page, cost_line, chosen, controls, ran)
    show_on_a_phone("#result", run.click, sweep.click, strip.select)
    page.quiet(stop.click, page.stop, page.session, None)
    for tiles, kept_in in (
        (compare, lambda session: session.order.results if session.order else []),
        (history, lambda session: session.history),
    ):
        page.quiet(tiles.select, bring_back(kept_in), page.session, closer.all, refuses=True)
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
                painter = Painter(
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

    def at_rest(text: str) -> View:
        return {
            run: gr.Button(interactive=True),
            stop: gr.Button(interactive=False),
            status: sentences.status(text),
            page.model_line: page.models(),
        }

    def finished(done: Inspected, values: Sequence[Any], session: Session) -> View:
        tiles = [
            (views.heat(heat), word) for word, heat in done.by_reference["source"].word_maps.items()
        ]
        shown = cut(*values, session)
        text = (
            f"Done in {done.seconds:.1f} s and {done.network_evaluations} UNet evaluations "
            f"with seed {done.seed}, both references."
        )
        return {
            **at_rest(" ".join([text, *done.notes])),
            **dict(zip((mask_panel, heat_panel, facts), shown, strict=True)),
            words: gr.Gallery(tiles, visible=bool(tiles)),
            repaint: gr.Accordion(open=False),
            painter: gr.ImageEditor(visible=False),
            use_mask: gr.Button(interactive=True),
        }

    def watch(who: str, updates: Updates, data: Mapping[Any, Any]) -> Iterator[View]:
        session: Session = data[page.session]
        order, values = session.inspecting, [data[control] for control in instant.values()]
        is_told = bool(order.source_text.strip())  # by the visitor, who may be typing on

        def ended(done: Inspected) -> View:
            source = gr.skip() if is_told else done.source_text
            return {**finished(done, values, session), inputs.source: source}

        yield {
            run: gr.Button(interactive=False),
            stop: gr.Button(interactive=True),
            status: sentences.status("Starting"),
            inputs.seed: order.seed,
        }
        yield from page.follow(
            who, updates, lambda update: {status: page.progress(update, "Mask")}, ended, at_rest,
            "mask",
        )  # fmt: skip

    def inspect(data: View, request: gr.Request) -> Iterator[View]:
        order, session = order_of(data), data[page.session]
        services, who = services_for(data[page.menu]), owner(request, session)

        def keep(done: Inspected) -> None:
            session.inspected = done if session.inspecting is order else session.inspected

        session.inspecting = order
        work = functools.partial(inspection.inspect, services, order)
        updates = page.start(who, work, on_gpu=True, place="mask", keep=keep)
        yield from watch(who, updates, data)

    def take_up(data: View, request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]
        who, done = owner(request, session), session.inspected
        if session.inspecting is None:
            yield {status: gr.skip()}
            return
        yield {control: session.inspecting.values[name] for name, control in costly.items()}
        updates = page.services.gate.rejoin(who, "mask")
        if updates is not None:
            yield from watch(who, updates, data)
        elif done is not None:
            shown = finished(done, [data[control] for control in instant.values()], session)
            yield {**shown, inputs.source: session.inspecting.source_text or done.source_text}

    services_for = polite(page.services_for)

    @polite
    def order_of(data: Mapping[Any, Any]) -> InspectOrder:
        picture = workbench.checked_inputs(data[inputs.photo], data[inputs.target])
        values = {name: data[control] for name, control in costly.items()}
        params.build(MaskParams, values)
        return InspectOrder(
            picture,
            data[inputs.source] or "",
            data[inputs.target],
            values,
            workbench.checked_seed(data[inputs.seed], data[inputs.is_random]),
            data[page.session].known(picture)[1],
            inputs.window_of(data),
        )

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
        made = "inferred" if done.painted is None else "repainted by hand"
        facts = sentences.mask_facts(mask, done.truth, made)
        return views.mask_over(done.picture, mask), views.heat(difference), facts

    def take_painting(value: dict[str, Any] | None, session: Session) -> None:
        layers = (value or {}).get("layers")
        if session.inspected is not None and layers:
            inspection.paint(session.inspected, layers[0])

    def forget_painting(session: Session) -> None:
        if session.inspected is not None:
            session.inspected.painted = None

    # An editor on the page loses a race between its new picture and its new layer; one that comes
    # back into the page with both loads them in turn. So it leaves with them, then comes back.
    def fill_painter(session: Session) -> Any:
        done = session.inspected
        if done is None or done.square is None:
            raise InputError("Please press Inspect first.")
        square, _ = images.fit(done.picture, SQUARE_PX, done.window)
        done.offered = done.square
        layer = views.paint_layer(done.square, SQUARE_PX, PAINT_OPACITY)
        value = {"background": square, "layers": [layer], "composite": None}
        return gr.ImageEditor(value=value, visible=False)

    def unfold_painter() -> Any:
        return gr.ImageEditor(visible=True)

    def hand_over(
        value: dict[str, Any] | None, feather_px: float, session: Session
    ) -> tuple[Any, ...]:  # fmt: skip
        take_painting(value, session)  # what was painted counts, taken or not
        done = inspection.hand_over(session)
        chip = page.parts["show_mask"](done.picture, session)
        name, _ = session.known(done.picture)
        texts = done.source_text, done.target_text  # not those that were typed since
        filled = done.picture, name, *texts, *window_values(done.window)
        return gr.Tabs(selected="edit"), *filled, done.seed, *chip, feather_px

    def take_over(picture: Image.Image | None, *others: Any) -> tuple[Any, ...]:
        if picture is None:
            raise InputError("There is no picture in Text edit yet.")
        return picture, *others

    edit: Inputs = page.parts["edit"]
    cut_inputs = [*instant.values(), page.session]
    cut_outputs = [mask_panel, heat_panel, facts]
    everything = {
        page.session, page.menu, inputs.photo, inputs.source, inputs.target, *inputs.window,
        inputs.seed, inputs.is_random, *costly.values(), *instant.values(),
    }  # fmt: skip
    shows = [
        *cut_outputs, words, repaint, painter, inputs.source, inputs.seed, use_mask, run, stop,
        status, page.model_line,
    ]  # fmt: skip
    given = {page.session, *instant.values()}
    page.heavy(page.returned.change, take_up, given, [*shows, *costly.values()])
    show_on_a_phone("#mask_status", run.click)
    for trigger in (run.click, inputs.target.submit):
        done = page.heavy(trigger, inspect, everything, shows)
        page.quiet(done.then, cut, cut_inputs, cut_outputs)  # they may have moved meanwhile
    page.quiet(stop.click, page.stop, page.session, None)
    for control in instant.values():
        page.quiet(control.change, cut, cut_inputs, cut_outputs)
    # No painter.change: the page would upload every layer after every stroke.
    taken = page.quiet(take.click, take_painting, [painter, page.session], None)
    page.quiet(taken.then, cut, cut_inputs, cut_outputs)
    forgotten = page.quiet(refresh.click, forget_painting, page.session, None)
    recut = page.quiet(forgotten.then, cut, cut_inputs, cut_outputs)
    for trigger in (repaint.expand, recut.then):
        filled = page.quiet(trigger, fill_painter, page.session, painter, refuses=True)
        page.quiet(filled.then, unfold_painter, None, painter)
    page.quiet(borrow.click, take_over, edit.fillable, inputs.fillable, refuses=True)
    page.quiet(
        use_mask.click,
        hand_over,
        [painter, instant["feather_px"], page.session],
        [
            page.tabs, *edit.fillable, edit.seed, *page.parts["edit_mask"],
            page.parts["edit_feather"],
        ],
        refuses=True,
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
            painter = Painter(
                label="Paint where things belong; a later stroke covers an earlier one",
                type="pil", format="png",
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
            page.name_unknown([prompt, *words], gr.HTML(elem_id="paint_notice"))
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
                window = window_controls(page, photo)
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

    services_for = polite(page.services_for)

    def finished(order: PaintOrder) -> View:
        seconds = sum(one.numbers["seconds"] for one in order.results)
        return {
            **at_rest(f"Done in {seconds:.1f} s with seed {order.seed}."),
            **close_up(order.results[0]),
            **results_view(order),
        }

    def watch(order: PaintOrder, who: str, updates: Updates) -> Iterator[View]:
        told = 0

        def running(update: Update) -> View:
            nonlocal told
            view: View = {status: page.progress(update, order.doing)}
            if update.preview is not None and not order.results:  # the first stays in view
                view[result] = update.preview
                if order.seen is not None:
                    shown = easel.attention_views(order.layout, order.seen)
                    view[maps] = gr.Gallery(shown, visible=True)
            if len(order.results) > told:
                view |= close_up(order.results[0]) if not told else {}
                told = len(order.results)
                view |= results_view(order)
            return view

        yield {
            run: gr.Button(interactive=False),
            stop: gr.Button(interactive=True),
            status: sentences.status("Starting"),
            seed: order.seed,
            table: "",
            compare: gr.Gallery(visible=False),
            understood: easel.echo(order.layout),
        }
        yield from page.follow(who, updates, running, finished, at_rest, "paint")

    def proceed(order: PaintOrder, data: Mapping[Any, Any], request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]

        def keep(done: PaintOrder) -> None:  # on ZeroGPU a copy
            session.painting = done if session.painting is order else session.painting

        session.painting, who = order, owner(request, session)
        work = functools.partial(easel.carry_out, services_for(data[page.menu]), order)
        updates = page.start(who, work, on_gpu=True, place="paint", keep=keep)
        yield from watch(order, who, updates)

    def take_up(data: View, request: gr.Request) -> Iterator[View]:
        session: Session = data[page.session]
        order, who = session.painting, owner(request, session)
        if order is None:
            yield {status: gr.skip()}  # where nothing at all is yielded, Gradio empties all outputs
            return
        yield settings_view(order.tasks, chosen, controls) | {seed: order.seed}
        updates = page.services.gate.rejoin(who, "paint")
        if updates is not None:
            yield from watch(order, who, updates)
        elif len(order.results) == len(order.tasks):
            yield {**finished(order), understood: easel.echo(order.layout)}
        else:
            part = results_view(order) | close_up(order.results[0]) if order.results else {}
            yield {**at_rest("Stopped."), **part, understood: easel.echo(order.layout)}

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
        square = built_window([data[control] for control in window])
        return PaintOrder(layout, checked, tasks, data[photo], square)

    @polite
    def painted_layout(data: Mapping[Any, Any]) -> Layout:
        layers = (data[painter] or {}).get("layers") or [None]
        texts, weights = ([data[control] for control in row] for row in (words, strengths))
        return easel.layout_of(layers[0], data[prompt], texts, weights)

    def run_painting(data: View, request: gr.Request) -> Iterator[View]:
        order = order_of(data, painted_layout(data))
        yield from proceed(order, data, request)

    def paint_loaded(data: View, request: gr.Request) -> Iterator[View]:
        layout = data[page.session].layout
        if layout is None:
            yield {status: gr.skip()}
        else:
            yield from proceed(order_of(data, layout), data, request)

    def load(
        layout: Layout, session: Session, picture: Image.Image | None = None,
        square: Image.Image | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        session.layout = layout
        value = {"background": square, "layers": [easel.layer_of(layout)], "composite": None}
        by_pen = dict(zip(layout.pens, layout.segments, strict=True))
        padded = [by_pen.get(pen, Segment("")) for pen in range(1, len(words) + 1)]
        texts, weights = ([getattr(s, name) for s in padded] for name in ("text", "strength"))
        easel_away = gr.ImageEditor(value=value, visible=False)  # with its old background
        return easel_away, picture, layout.prompt, *texts, *weights

    def load_example(session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        return load(shelf[event.index].layout, session)

    def load_toy(number: float, session: Session) -> tuple[Any, ...]:
        toy, number = remembered_toy(number, session)
        return *load(easel.toy_layout(toy), session), (number + 1) % MAX_SEED

    def load_file(path: str | None, session: Session) -> tuple[Any, ...]:
        if path is None:
            raise InputError("The file did not arrive. Please choose it again.")
        return load(read_layout(path), session)

    def load_again(session: Session) -> tuple[Any, ...]:
        order = session.painting
        if order is None:
            return (gr.skip(),) * len(refilled)
        picture, square = order.picture, None
        if picture is not None:
            square, _ = images.fit(picture, easel.CANVAS_PX, order.window)
        return *load(order.layout, session, picture, square), *window_values(order.window)

    def show_easel_again(session: Session) -> Any:
        return gr.ImageEditor(visible=True) if session.tab == "paint" else gr.skip()

    # The editor leaves the page and comes back: see Mask inspect.
    def set_backdrop(
        picture: Image.Image | None, value: dict[str, Any] | None, *values: float
    ) -> Any:
        value = value or {}
        if picture is None and value.get("background") is None:
            return gr.skip()
        square = picture and images.fit(picture, easel.CANVAS_PX, built_window(values))[0]
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
        kept = session.painting.results if session.painting else []
        if not 0 <= event.index < len(kept):
            raise InputError("That picture is no longer kept. Please paint again.")
        return close_up(kept[event.index])

    everything = {
        page.session, page.menu, painter, photo, *window, prompt, *words, *strengths, seed,
        is_random, chosen, *controls.values(),
    }  # fmt: skip
    fillable = [painter, photo, prompt, *words, *strengths]
    refilled = [*fillable, *window]
    closer = [result, maps, download, recipe]
    shows = [*closer, compare, table, understood, status, run, stop, seed, page.model_line]
    painted = page.heavy(run.click, run_painting, everything, shows)
    show_on_a_phone("#painting", run.click, strip.select)
    again = page.quiet(page.returned.change, load_again, page.session, refilled)
    page.quiet(again.then, show_easel_again, page.session, painter)
    settings = [chosen, *controls.values()]
    page.heavy(page.returned.change, take_up, {page.session}, [*shows, *settings])
    page.quiet(stop.click, page.stop, page.session, None)
    page.parts["easel"] = painter
    # An editor that is born on a hidden tab takes its width for 350 pixels.
    page.quiet(page.tab["paint"].select, bring_easel_back, None, painter)
    pen.change(None, pen, None, js=TAKE_PEN, api_visibility="private")
    page.quiet(save.click, save_layout, {painter, prompt, *words, *strengths}, saved, refuses=True)

    def back_with_its_pen(done: Any) -> None:
        back = page.quiet(done.then, bring_easel_back, None, painter)
        back.then(None, pen, None, js=TAKE_PEN, api_visibility="private")

    for trigger in (photo.change, *(one.change for one in window)):
        given = [photo, painter, *window]
        back_with_its_pen(page.quiet(trigger, set_backdrop, given, painter))
    filled = page.quiet(strip.select, load_example, page.session, fillable)
    loaded = page.heavy(filled.then, paint_loaded, everything - {painter}, shows)
    follow_costs(page, cost_line, chosen, controls, [painted.then, loaded.then], words)
    back_with_its_pen(filled)
    toy, fills = [toy_seed, page.session], [*fillable, toy_seed]
    back_with_its_pen(page.quiet(new_toy.click, load_toy, toy, fills, refuses=True))
    file = [upload, page.session]
    back_with_its_pen(page.quiet(upload.upload, load_file, file, fillable, refuses=True))
    page.quiet(compare.select, look_closer, page.session, closer, refuses=True)


# ---------------------------------------------------------------- Face sliders

SETTLE_S = 0.35  # a slider that has not moved for so long rests, and its face is measured
READER = "text encoder of the clay faces"


@dataclass(frozen=True, eq=False)
class Slot:
    """One of the places for a slider: its row, what it reads, how local it is."""

    row: gr.Row
    slider: gr.Slider
    score: gr.HTML
    remove: gr.Button

    @classmethod
    def build(cls, place: int) -> Slot:
        """Build an empty place."""
        with gr.Row(visible=False, elem_classes="slot") as row:
            slider = gr.Slider(
                -faces.REACH, faces.REACH, 0.0, step=0.05, buttons=[], scale=8, min_width=160,
                elem_id=f"face_slider_{place}",
            )  # fmt: skip
            score = gr.HTML(min_height=0, elem_id=f"face_score_{place}", elem_classes="score")
            remove = gr.Button("✕", size="sm", scale=0, min_width=32)
        return cls(row, slider, score, remove)

    def show(self, slider: faces.Slider | None, value: float = 0.0) -> View:
        """Return the view of a slider, or of an empty place."""
        if slider is None:
            return {self.row: gr.Row(visible=False), self.slider: 0.0, self.score: ""}
        ends = {"minimum": -slider.reach, "maximum": slider.reach}
        return {
            self.row: gr.Row(visible=True),
            self.slider: gr.Slider(label=slider.title, value=value, **ends),
            self.score: "",
        }


@dataclass(frozen=True, eq=False)
class Board:
    """The sliders with the pictures and numbers that follow them."""

    page: Page
    slots: Sequence[Slot]
    layers: gr.CheckboxGroup
    part: gr.Dropdown
    mode: gr.Dropdown
    across: gr.Dropdown
    down: gr.Dropdown
    result: gr.Image
    before: gr.Image
    heat: gr.Image
    status: gr.HTML
    told: gr.HTML
    recipe: gr.Code
    download: gr.DownloadButton

    @property
    def state(self) -> set[Any]:
        """What says whose desk it is, and of which pack."""
        return {self.page.session, self.page.menu}

    @property
    def standing(self) -> set[Any]:
        """What says where the sliders are."""
        return {*self.state, *(slot.slider for slot in self.slots), self.layers}

    @property
    def seats(self) -> list[Any]:
        """What changes when a slider comes or goes."""
        parts = [part for slot in self.slots for part in (slot.row, slot.slider, slot.score)]
        return [*parts, self.part, self.mode, self.across, self.down]

    def services(self, data: Mapping[Any, Any]) -> Services:
        """Return the services with the chosen pack."""
        return self.page.services_for(data[self.page.menu])

    def desk(self, data: Mapping[Any, Any]) -> faces.Desk:
        """Return the visitor's desk, or refuse where there is none yet."""
        desk: faces.Desk | None = data[self.page.session].desk
        if desk is None:
            raise InputError("Please choose a face first: from a number, a text or a picture.")
        return desk

    def position(self, data: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Return services, desk, strengths and the layers that move."""
        desk = self.desk(data)
        strengths = [data[slot.slider] for slot in self.slots]
        chosen = faces.layers_of(desk.face_in_hand, data[self.layers] or [])
        return self.services(data), desk, strengths, chosen

    def choices(self, desk: faces.Desk) -> View:
        """Return the view of what strips and grids can be drawn of."""
        titles = [(one.title, i) for i, one in enumerate(desk.sliders) if one is not None]
        first, second = [*(place for _, place in titles[:2]), None, None][:2]
        return {
            self.across: gr.Dropdown(choices=titles, value=first),
            self.down: gr.Dropdown(choices=titles, value=second),
        }

    def known(self, services: Services, desk: faces.Desk, chosen: str | None = None) -> View:
        """Return the view of the parts that a slider can be added for."""
        titles = [*face_sources.parts(services), *desk.own]
        return {self.part: gr.Dropdown(choices=titles, value=chosen or next(iter(titles), None))}

    def added(self, desk: faces.Desk, slider: faces.Slider) -> View:
        """Put a slider on the desk, moved a little so that it shows what it does."""
        place = desk.add(slider)
        return {**self.slots[place].show(slider, slider.first), **self.choices(desk)}

    def live(self, data: View) -> View:
        """Answer a slider that moves."""
        try:
            one = faces.answer(*self.position(data))
        except InputError as error:  # a slider that moves must not throw toasts
            return {self.status: sentences.status(str(error))}
        answered = sentences.status(f"Answered in {1000 * one.seconds:.0f} ms.")
        return {self.result: one.picture, self.heat: one.heat, self.status: answered}

    def judged(self, data: View) -> View:
        """Measure the face once nothing has moved for SETTLE_S."""
        desk = data[self.page.session].desk
        moves = desk and desk.moves
        time.sleep(SETTLE_S)
        if desk is None or desk.moves != moves or desk.picture is None:
            return {self.status: gr.skip()}
        try:
            one = face_numbers.measure(*self.position(data))
            made_from = face_numbers.recipe_of(*self.position(data))
        except InputError as error:
            return {self.status: sentences.status(str(error))}
        carrying = self.page.services.file(recipes.embedded(desk.picture, made_from), "face")
        pairs = zip(self.slots, desk.sliders, strict=True)
        return {
            **{slot.score: sentences.score(one.scores, s and s.title) for slot, s in pairs},
            self.told: sentences.face(one.identity, one.distance, one.facts),
            self.recipe: recipes.pretty(made_from),
            self.download: gr.DownloadButton(value=carrying, interactive=True),
            self.page.model_line: self.page.models(),
        }

    def follow(self, trigger: Handler) -> None:
        """Show the face after an event, and measure it when nothing moves any more."""
        drawn = [self.result, self.heat, self.status]
        scores = [slot.score for slot in self.slots]
        measured = [*scores, self.told, self.recipe, self.download, self.status]
        shown = self.page.quiet(trigger, self.live, self.standing, drawn)
        measured.append(self.page.model_line)
        self.page.quiet(shown.then, self.judged, self.standing, measured)


def faces_tab(page: Page) -> None:
    """Build the Face sliders tab: a face, sliders that add up, and what each does to it."""
    specs = params.specs(FaceParams)
    with gr.Row():
        with gr.Column(scale=3, min_width=250):
            with gr.Row(equal_height=True, elem_classes="compact"):
                new_face = gr.Button("New face", size="md", scale=2, min_width=120)
                number = gr.Number(
                    1, precision=0, minimum=0, maximum=MAX_SEED, label="Number of the face",
                    show_label=False, container=False, min_width=80, elem_id="face_number",
                )  # fmt: skip
            text = gr.Textbox(
                label="A face from a text", placeholder="a smiling person with curly red hair",
                max_length=MAX_TEXT, elem_id="face_text",
            )  # fmt: skip
            make = gr.Button("Faces from this text", size="md", elem_id="make_faces")
            results = gr.Gallery(
                label="Click the one you like", visible=False, elem_id="faces_made",
                elem_classes="strip titled", **STRIP,
            )  # fmt: skip
            text_notice = gr.HTML(elem_id="face_notice")
            with gr.Accordion("A face from a picture", open=False, elem_id="face_upload"):
                with gr.Row():
                    photo = Photo(
                        label="Picture", height=150, elem_classes="photo", min_width=100, **PHOTO
                    )
                    rebuilt = gr.Image(
                        label="Reconstruction", height=150, buttons=[], elem_classes="view",
                        min_width=100, **STILL,
                    )  # fmt: skip
                likeness = gr.HTML(elem_id="likeness")
                with gr.Row():
                    refine, stop_refine = run_controls("Refine", "refine")
            with gr.Accordion("Settings", open=False):
                settings = {spec.name: parameter_control(spec, spec.default) for spec in specs}
        with gr.Column(scale=4, min_width=300, elem_id="face_sliders"):
            slots = [Slot.build(place) for place in range(faces.SLOTS)]
            with gr.Row(equal_height=True, elem_classes="compact"):
                wish = gr.Textbox(
                    label="Slider of a text", placeholder="wearing a red hat", min_width=150,
                    max_length=MAX_TEXT, elem_id="wish", scale=3, show_label=False, container=False,
                    lines=1, max_lines=1,
                )  # fmt: skip
                mode = gr.Dropdown(
                    list(face_sources.MODES), label="Direction of the text", show_label=False,
                    container=False, min_width=130, scale=1,
                )  # fmt: skip
                add_wish = gr.Button("Add", size="md", scale=0, min_width=64, elem_id="add_wish")
            with gr.Row(equal_height=True, elem_classes="compact"):
                part = gr.Dropdown(
                    [], label="Slider of a part", show_label=False, container=False, scale=3,
                    min_width=150, elem_id="part",
                )  # fmt: skip
                how = gr.Dropdown(
                    [(title, name) for name, title in faces.METHODS.items()], min_width=130,
                    label="Found by", show_label=False, container=False, scale=1,
                )  # fmt: skip
                add_part = gr.Button("Add", size="md", scale=0, min_width=64, elem_id="add_part")
            wish_notice = gr.HTML(elem_id="wish_notice")
            with gr.Row(equal_height=True, elem_classes="compact"):
                layers = gr.CheckboxGroup(
                    list(faces.GROUPS), value=list(faces.GROUPS), label="Layers that move",
                    show_label=False, container=False, scale=3, min_width=200, elem_id="layers",
                )  # fmt: skip
                reset = gr.Button("All to 0", size="md", scale=0, min_width=80, elem_id="to_rest")
        with gr.Column(scale=5, min_width=300):
            with gr.Row():
                with gr.Column(scale=2, min_width=200):
                    result = gr.Image(
                        label="Face", height=330, elem_id="face", elem_classes="view",
                        buttons=["fullscreen"], **STILL,
                    )  # fmt: skip
                with gr.Column(scale=1, min_width=120):
                    before, heat = (
                        gr.Image(
                            label=label, height=157, buttons=[], elem_id=elem_id, min_width=100,
                            elem_classes="view", **STILL,
                        )
                        for label, elem_id in (("Sliders at 0", "face_before"),
                                               ("What changed", "face_heat"))
                    )  # fmt: skip
            status = gr.HTML(sentences.status("Drag a slider."), elem_id="face_status")
            told = gr.HTML(elem_id="face_facts")
            download = gr.DownloadButton(
                "Download PNG with recipe", interactive=False, size="md", min_width=150
            )
            with gr.Accordion("Recipe", open=False):
                recipe = gr.Code(language="json", show_label=False, interactive=False, max_lines=18)
    with gr.Accordion("Strip and grid of your sliders", open=False, elem_id="variants"):
        with gr.Row(equal_height=True):
            across, down = (
                gr.Dropdown([], label=label, min_width=140)
                for label in ("Strip, and grid across", "Grid down")
            )
            side = gr.Radio([3, 5], value=3, label="Pictures to a side", min_width=120)
            with gr.Column(min_width=120):
                draw_strip = gr.Button("Draw the strip", size="md", elem_id="draw_strip")
                draw_grid = gr.Button("Draw the grid", size="md", elem_id="draw_grid")
        strip = gr.Gallery(
            label="One slider from end to end", visible=False, elem_id="face_strip",
            elem_classes="strip wide titled", **STRIP,
        )  # fmt: skip
        grid = gr.Image(
            label="Two sliders", height=620, visible=False, elem_id="face_grid",
            elem_classes="view", buttons=["download", "fullscreen"], **STILL,
        )  # fmt: skip
    board = Board(
        page, slots, layers, part, mode, across, down, result, before, heat, status, told, recipe,
        download,
    )  # fmt: skip

    def built(data: Mapping[Any, Any]) -> FaceParams:
        return params.build(FaceParams, {name: data[c] for name, c in settings.items()})

    def hold(services: Services, desk: faces.Desk, face: faces.Face) -> View:
        face_sources.hold(services, desk, face)
        return {before: face.picture}

    def opened(data: Mapping[Any, Any], seed: int) -> tuple[faces.Desk, View]:
        session = data[page.session]
        if session.desk is not None:
            return session.desk, {}
        services = board.services(data)
        session.desk = desk = face_sources.first_desk(services, seed)
        return desk, laid_out(services, desk)

    def laid_out(services: Services, desk: faces.Desk) -> View:
        modes = face_sources.modes(services)
        offered = {mode: gr.Dropdown(choices=list(modes), value=modes[0])}
        view = {**board.known(services, desk), **board.choices(desk), **offered}
        for slot, slider, value in zip(slots, desk.sliders, desk.strengths, strict=True):
            view |= slot.show(slider, value)
        return view

    def open_tab(data: View) -> View:
        try:
            desk, view = opened(data, 1)
        except InputError as error:
            return {status: sentences.status(str(error))}
        return {**view, before: desk.face_in_hand.picture}

    def take_up(data: View) -> View:
        desk: faces.Desk | None = data[page.session].desk
        if desk is None or desk.face is None:
            return {status: gr.skip()}
        tiles = [(face.picture, "") for face in desk.results]
        made = {results: gr.Gallery(tiles, visible=bool(tiles))}
        return {**laid_out(board.services(data), desk), **made, before: desk.face.picture}

    def take_seed(data: View) -> View:
        seed = workbench.checked_seed(data[number])
        desk, view = opened(data, seed)
        services = board.services(data)
        face = face_sources.from_seed(services, seed)
        no_results = {results: gr.Gallery(visible=False)}
        return {**view, **hold(services, desk, face), **no_results, number: (seed + 1) % MAX_SEED}

    def take_text(data: View) -> View:
        seed = workbench.checked_seed(data[number])
        services = board.services(data)
        made = face_sources.from_text(services, data[text], built(data), seed)
        desk, view = opened(data, seed)
        desk.results = made
        tiles = gr.Gallery([(face.picture, "") for face in made], visible=True)
        after = (seed + len(made)) % MAX_SEED
        return {**view, **hold(services, desk, made[0]), results: tiles, number: after}

    def choose(session: Session, pack: str, event: gr.SelectData) -> Any:
        if session.desk is None or not 0 <= event.index < len(session.desk.results):
            raise InputError("That face is no longer kept. Please make faces from the text again.")
        face = session.desk.results[event.index]
        return hold(page.services_for(pack), session.desk, face)[before]

    def take_picture(data: View) -> View:
        if data[photo] is None:
            return {likeness: "", rebuilt: None}
        services = board.services(data)
        face = face_sources.from_picture(services, data[photo], built(data))
        desk, view = opened(data, 1)
        return {**view, **hold(services, desk, face), **compared(data, face)}

    def compared(data: Mapping[Any, Any], face: faces.Face) -> View:
        said = face_sources.likeness(board.services(data), face)
        return {rebuilt: face.picture, likeness: sentences.status(said)}

    def run_refine(data: View, request: gr.Request) -> Iterator[View]:
        desk, work = refinement(data)

        def at_rest(said: str) -> View:
            free = {refine: gr.Button(interactive=True), stop_refine: gr.Button(interactive=False)}
            return {**free, likeness: sentences.status(said)}

        def running(update: Update) -> View:
            shown = {} if update.preview is None else {rebuilt: update.preview}
            return {**shown, likeness: page.progress(update, "Refinement")}

        def finished(face: faces.Face) -> View:
            return {**at_rest(""), **hold(board.services(data), desk, face), **compared(data, face)}

        yield {refine: gr.Button(interactive=False), stop_refine: gr.Button(interactive=True)}
        who = owner(request, data[page.session])
        yield from page.follow(who, page.start(who, work), running, finished, at_rest)

    @polite
    def refinement(data: Mapping[Any, Any]) -> tuple[faces.Desk, Callable[[OnStep], faces.Face]]:
        desk, services = board.desk(data), board.services(data)
        face = desk.face_in_hand
        return desk, functools.partial(face_sources.refined, services, face, built(data))

    def add_text(data: View) -> View:
        desk, services, said = board.desk(data), board.services(data), data[wish]
        slider = face_sources.text_slider(services, said, data[mode], desk.face_in_hand)
        # words that nobody knows stay, and with them the notice that names them
        left = said if face_sources.unknown_words(services.pack, said) else ""
        return {**board.added(desk, slider), wish: left}

    def add_known(data: View) -> View:
        desk = board.desk(data)
        own = desk.own.get(data[part])
        slider = own or face_sources.part_slider(board.services(data), data[part], data[how])
        return board.added(desk, slider)

    def remover(place: int) -> Handler:
        def remove(data: View) -> View:
            desk = board.desk(data)
            desk.sliders[place] = None
            return {**slots[place].show(None), **board.choices(desk)}

        return remove

    def to_rest() -> list[float]:
        return [0.0] * len(slots)

    def name_strange_words(said: str | None, pack_name: str) -> str:
        unknown = face_sources.unknown_words(page.services_for(pack_name).pack, said)
        return sentences.notice(unknown, READER, face_sources.word_groups())

    def show_strip(data: View) -> Any:
        return gr.Gallery(faces.strip(*board.position(data), data[across]), visible=True)

    def show_grid(data: View) -> Any:
        places = data[across], data[down]
        return gr.Image(faces.grid(*board.position(data), places, data[side]), visible=True)

    state, shelf = board.state, [*board.seats, before]
    made_with, found = {*state, number, text, *settings.values()}, [*shelf, results, number]
    changes = [
        page.quiet(page.tab["faces"].select, open_tab, state, [*shelf, status], refuses=True),
        page.quiet(page.returned.change, take_up, state, [*found, status]),
        page.quiet(new_face.click, take_seed, {*state, number}, found, refuses=True),
        page.quiet(results.select, choose, [page.session, page.menu], before, refuses=True),
        page.quiet(
            photo.change, take_picture, {*state, photo, *settings.values()},
            [*shelf, rebuilt, likeness], refuses=True,
        ),
        page.heavy(
            refine.click, run_refine, {*state, *settings.values()},
            [before, rebuilt, likeness, refine, stop_refine],
        ),
        page.quiet(add_part.click, add_known, {*state, part, how}, board.seats, refuses=True),
        page.quiet(reset.click, to_rest, None, [slot.slider for slot in slots]),
    ]  # fmt: skip
    for trigger in (make.click, text.submit):
        changes.append(page.quiet(trigger, take_text, made_with, found, refuses=True))
    for trigger in (add_wish.click, wish.submit):
        given = {*state, wish, mode}
        added = page.quiet(trigger, add_text, given, [*board.seats, wish], refuses=True)
        changes.append(added)
    for place, slot in enumerate(slots):
        changes.append(page.quiet(slot.remove.click, remover(place), state, board.seats))
    moves = [*(slot.slider.input for slot in slots), layers.input]
    for trigger in (*moves, *(change.then for change in changes)):
        board.follow(trigger)
    for box, notice in ((text, text_notice), (wish, wish_notice)):
        page.quiet(box.change, name_strange_words, [box, page.menu], notice)
    page.quiet(stop_refine.click, page.stop, page.session, None)
    page.quiet(draw_strip.click, show_strip, {*board.standing, across}, strip, refuses=True)
    given = {*board.standing, across, down, side}
    page.quiet(draw_grid.click, show_grid, given, grid, refuses=True)
    page.parts["faces"] = board, open_tab, [*shelf, status]
    lesson_panel(board)


def lesson_panel(board: Board) -> None:
    """Build the part of Face sliders that trains a direction and takes one from a file."""
    page, specs = board.page, params.specs(LELSDParams)
    with gr.Accordion("Train a direction", open=False, elem_id="lesson") as panel:
        gr.Markdown(
            "LELSD looks for a direction that changes one part and leaves the rest alone, on faces "
            "it draws itself. Stop keeps what is learnt by then."
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=260):
                learn_part = gr.Dropdown([], label="Part", elem_id="learn_part")
                with gr.Row():
                    learn, stop_learning = run_controls("Train", "learn")
                with gr.Accordion("Settings", open=False):
                    controls = {spec.name: parameter_control(spec, spec.default) for spec in specs}
                    learn_seed, learn_random = seed_controls()
                upload = gr.UploadButton(
                    "Use a direction from a file", file_types=[".safetensors"], size="md",
                    elem_id="upload_direction",
                )  # fmt: skip
            with gr.Column(scale=6, min_width=300):
                learning = gr.HTML(sentences.status("Choose a part."), elem_id="learning")
                with gr.Row():
                    seen = gr.Image(
                        label="The direction so far", height=220, buttons=[], visible=False,
                        elem_classes="view", min_width=150, elem_id="lesson_seen", **STILL,
                    )  # fmt: skip
                    curve = gr.LinePlot(
                        x="step", y="loss", y_title="score", height=220, visible=False,
                        title="Localization score by batch", elem_id="lesson_curve",
                    )  # fmt: skip
                files = gr.File(
                    label="Directions to download", file_count="multiple", interactive=False,
                    visible=False, elem_id="learnt",
                )  # fmt: skip

    def offer(data: View) -> Any:
        names = direction_training.trainable(board.services(data))
        return gr.Dropdown(choices=names, value=names[0])

    def run_lesson(data: View, request: gr.Request) -> Iterator[View]:
        desk, lesson, work = lesson_of(data)

        def at_rest(said: str) -> View:
            free = {learn: gr.Button(interactive=True), stop_learning: gr.Button(interactive=False)}
            return {**free, learning: sentences.status(said), page.model_line: page.models()}

        def drawn() -> View:
            return {curve: gr.LinePlot(curve_table({"score": lesson.curve}), visible=True)}

        def running(update: Update) -> View:
            view: View = {learning: page.progress(update, lesson.doing)}
            if update.preview is not None:
                view |= {seen: gr.Image(update.preview, visible=True), **drawn()}
            return view

        def finished(lesson: direction_training.Lesson) -> View:
            slider = lesson.learnt[0]
            is_free = desk.has_room_for(slider)
            said = f"“{slider.title}” ended at a localization score of {lesson.curve[-1]:.2f}."
            said = " ".join([*lesson.notes, said])
            return {
                **at_rest(said if is_free else f"{said} Remove a slider, then add it."),
                **drawn(),
                **(board.added(desk, slider) if is_free else {}),
                **board.known(board.services(data), desk, slider.title),
                files: gr.File([direction_path(one) for one in lesson.learnt], visible=True),
            }

        yield {
            learn: gr.Button(interactive=False),
            stop_learning: gr.Button(interactive=True),
            learning: sentences.status("Starting"),
        }
        who = owner(request, data[page.session])
        yield from page.follow(who, page.start(who, work), running, finished, at_rest)

    @polite
    def lesson_of(data: Mapping[Any, Any]) -> tuple[Any, ...]:
        values = {name: data[control] for name, control in controls.items()}
        seed = workbench.checked_seed(data[learn_seed], data[learn_random])
        desk, lesson = board.desk(data), direction_training.lesson(data[learn_part], values, seed)
        services = board.services(data)
        return desk, lesson, functools.partial(direction_training.train, services, desk, lesson)

    def take_file(data: View) -> View:
        if data[upload] is None:
            raise InputError("The file did not arrive. Please choose it again.")
        desk, services = board.desk(data), board.services(data)
        slider = face_sources.slider_from_file(services, data[upload])
        desk.own[slider.title] = slider
        return {**board.added(desk, slider), **board.known(services, desk, slider.title)}

    asked = {*board.state, learn_part, learn_seed, learn_random, *controls.values()}
    shows = [*board.seats, learning, seen, curve, files, learn, stop_learning, page.model_line]
    changes = [
        page.heavy(learn.click, run_lesson, asked, shows),
        page.quiet(upload.upload, take_file, {*board.state, upload}, board.seats, refuses=True),
    ]
    for change in changes:
        board.follow(change.then)
    page.quiet(stop_learning.click, page.stop, page.session, None)
    page.quiet(panel.expand, offer, board.state, learn_part)


def direction_path(slider: faces.Slider) -> str:
    """Write a direction into Gradio's cache and return its path."""
    name = re.sub(r"[^a-z0-9]+", "-", slider.title.lower()).strip("-")
    content = direction_training.file_bytes(slider)
    folder = gr.utils.get_upload_folder()
    return processing_utils.save_bytes_to_cache(content, f"{name}.safetensors", folder)


# ---------------------------------------------------------------- Retrieval

TOYS, OWN = "The toy set", "My pictures"


@dataclass(frozen=True)
class RetrievalChoices:
    """What Retrieval offers with a pack; photo packs have no set of their own to search in.

    Attributes:
        values: of the parameters, by name.
        advice: what to do first.
    """

    has_set: bool
    clips: list[str]
    places: list[str]
    words: list[str]
    values: Mapping[str, Any]
    advice: str


def retrieval_choices(pack: packs.Pack) -> RetrievalChoices:
    """Return what Retrieval offers with a pack."""
    has_set = gallery.has_set(pack)
    return RetrievalChoices(
        has_set=has_set,
        clips=leases.encoders(pack),
        places=[TOYS, OWN] if has_set else [OWN],
        words=list(WORDS) if has_set else [],
        values=workbench.preset_values(pack, METHODS["simat"], ""),
        advice="Click an example."
        if has_set
        else "Index your pictures, choose one, say two words.",
    )


def retrieval_tab(page: Page) -> None:
    """Build the Retrieval tab: move a picture by the change of two words, see what lies there."""
    first = retrieval_choices(page.services.pack)
    specs = params.specs(RetrievalParams)
    with gr.Column(visible=first.has_set) as examples_box:
        gr.Markdown(
            "**Try one** – a click answers; so does every move of λ. Chosen among queries that "
            "succeed",
            elem_classes="lead",
        )
        strip = gr.Gallery(
            [], elem_id="queries", elem_classes="strip", columns=10, show_label=False, **STRIP
        )
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            photo = Photo(label="Picture", height=200, elem_classes="photo", **PHOTO)
            with gr.Row(
                equal_height=True, elem_classes="compact", visible=first.has_set
            ) as toy_box:
                new_toy = gr.Button("Toy scene from number", size="md", scale=2, min_width=150)
                toy_seed = gr.Number(
                    1, precision=0, minimum=0, maximum=MAX_SEED, show_label=False,
                    label="Number of the toy scene", container=False, min_width=80,
                )  # fmt: skip
            with gr.Row():
                words = [
                    gr.Dropdown(
                        first.words, value=None, allow_custom_value=True, label=label,
                        elem_id=elem_id, min_width=120,
                    )
                    for label, elem_id in (("From", "from_word"), ("To", "to_word"))
                ]  # fmt: skip
            notice = gr.HTML()
            controls = {
                spec.name: parameter_control(spec, first.values[spec.name]) for spec in specs
            }
            clip = gr.Radio(
                first.clips, value=first.clips[0], label="CLIP", elem_id="retrieval_clip"
            )
            where = gr.Radio(
                first.places, value=first.places[0], label="Search in", elem_id="search_in"
            )
            with gr.Accordion(
                "My pictures", open=not first.has_set, elem_id="own_pictures"
            ) as own_box:
                gr.Markdown(
                    "They stay in memory while this page is open and at most an hour longer, and "
                    "nowhere else."
                )
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
            status = gr.HTML(sentences.status(first.advice), elem_id="retrieval_status")
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
            session.asked = asked = data[words[0]], data[words[1]]
            services = page.services_for(data[page.menu])
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

    def name_unknown(value: str | None, target: str | None, pack_name: str) -> str:
        pack = page.services_for(pack_name).pack
        unknown = gallery.unknown_words(pack, [value, target])
        return sentences.notice(unknown, pack.title, verdicts.word_groups())

    def show_examples(pack_name: str = "") -> Any:
        shelf = gallery.examples(page.services_for(pack_name))
        return gr.Gallery([(picture, f"{one.value} → {one.target}") for one, picture in shelf])

    def choose_pack(data: View) -> View:
        chosen = retrieval_choices(page.services_for(data[page.menu]).pack)
        return {
            **{control: chosen.values[name] for name, control in controls.items()},
            **{word: gr.Dropdown(choices=chosen.words) for word in words},
            clip: gr.Radio(choices=chosen.clips, value=chosen.clips[0]),
            where: gr.Radio(choices=chosen.places, value=chosen.places[0]),
            examples_box: gr.Column(visible=chosen.has_set),
            toy_box: gr.Row(visible=chosen.has_set),
            own_box: gr.Accordion(open=not chosen.has_set),
            strip: show_examples(data[page.menu]),
            status: sentences.status(chosen.advice),
            **{shown: None for shown in (results, baselines, reasons)},
        }

    def pick(session: Session, pack_name: str, event: gr.SelectData) -> tuple[Any, ...]:
        services = page.services_for(pack_name)
        one, _ = gallery.examples(services)[event.index]
        picture = gallery.from_set(services, session, one.row)
        take(picture, session)
        return picture, one.value, one.target

    def toy_scene(number: float, session: Session) -> tuple[Any, ...]:
        toy, number = remembered_toy(number, session)
        take(toy.image, session)
        return toy.image, (number + 1) % MAX_SEED

    def index(
        paths: list[str] | None, role: str, pack_name: str, session: Session, request: gr.Request
    ) -> Iterator[View]:
        def running(update: Update) -> View:
            return {indexed: page.progress(update, "My pictures")}

        def at_rest(text: str) -> View:
            return {stop: gr.Button(interactive=False), indexed: sentences.status(text)}

        def finished(own: Collection) -> View:
            left = f" Left out: {len(own.left_out)}." if own.left_out else ""
            return {**at_rest(f"Pictures ready: {len(own)}.{left}"), where: OWN}

        yield {stop: gr.Button(interactive=True), indexed: sentences.status("Starting")}
        services = page.services_for(pack_name)
        work = functools.partial(gallery.index_collection, services, session, paths or [], role)
        who = owner(request, session)
        yield from page.follow(who, page.start(who, work), running, finished, at_rest)

    def take_up(data: View) -> View:
        session: Session = data[page.session]
        view: View = {status: gr.skip()}
        if session.collection is not None:
            ready = f"Pictures ready: {len(session.collection)}."
            view |= {indexed: sentences.status(ready), where: OWN}
        if session.query is not None:
            view |= {photo: session.query.picture, **dict(zip(words, session.asked, strict=True))}
        return view

    changed = (*words, *controls.values(), clip, where)
    everything = {page.session, page.menu, *changed}
    shows = [results, baselines, reasons, status]
    taken = page.quiet(photo.change, take, [photo, page.session], None, refuses=True)
    picked = page.quiet(strip.select, pick, [page.session, page.menu], [photo, *words])
    show_on_a_phone("#retrieved", strip.select)
    page.quiet(
        page.returned.change, take_up, {page.session}, [photo, *words, where, indexed, status]
    )
    # input, not change: what a new pack sets must not be asked about with what the old one had
    for trigger in (taken.then, picked.then, *(control.input for control in changed)):
        page.quiet(trigger, answer, everything, shows, refuses=True)
    for word in words:
        page.quiet(word.change, name_unknown, [*words, page.menu], notice)
    page.quiet(
        page.menu.change, choose_pack, {page.menu},
        [*changed, examples_box, toy_box, own_box, strip, status, results, baselines, reasons],
    )  # fmt: skip
    given = [toy_seed, page.session]
    page.quiet(new_toy.click, toy_scene, given, [photo, toy_seed], refuses=True)
    for upload in uploads:
        made = page.heavy(
            upload.upload, index, [upload, clip, page.menu, page.session], [stop, indexed, where]
        )
        page.quiet(made.then, answer, everything, shows)
    page.quiet(stop.click, page.stop, page.session, None)
    page.quiet(page.tab["retrieve"].select, show_examples, page.menu, strip)
    page.parts["queries"] = strip, show_examples


# ---------------------------------------------------------------- the page


TABS: tuple[tuple[str, str, Callable[[Page], None]], ...] = (
    ("edit", "Text edit", text_edit_tab),
    ("mask", "Mask inspect", mask_inspect_tab),
    ("paint", "Segmentation to image", painting_tab),
    ("faces", "Face sliders", faces_tab),
    ("retrieve", "Retrieval", retrieval_tab),
)


def build(
    *,
    cache: ModelCache | None = None,
    gate: Gate | None = None,
    pack: packs.Pack | None = None,
    gpu: zerogpu.Gpu | None = None,
) -> gr.Blocks:
    """Return the app; the services may be given, as tests do, and what lends a GPU (`zerogpu`)."""
    if gpu is not None and cache is None:
        cache = ModelCache(
            CACHE_BYTES, packs.LOADERS, device=devices.pick({"SEMEDIT_DEVICE": "cpu"})
        )
    services = Services(
        cache=cache or ModelCache(CACHE_BYTES, packs.LOADERS),
        memo=Memo(MEMO_BYTES),
        gate=gate or Gate(),
        pack=pack or packs.find("toybox"),
        file=file_picture,
    )
    loan = gpu and Loan(gpu, services)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 7200)) as demo:
        gr.HTML(f"<h1>{TITLE}</h1><p>{PROMISE}</p>", elem_id="headline")
        offered = [services.pack, *(() if loan else packs.PACKS.values())]
        with gr.Row(equal_height=True, elem_classes="compact"):
            menu = gr.Dropdown(
                list(dict.fromkeys((one.title, one.name) for one in offered)),
                value=services.pack.name, label="Model pack", container=False, elem_id="packs",
                scale=1, min_width=180,
            )  # fmt: skip
            with gr.Column(scale=4, min_width=280):
                pack_line = gr.HTML(sentences.pack(services.pack), elem_id="pack")
        model_line = gr.HTML(render=False)
        about = gr.HTML(about_pack(services.pack), render=False)
        session = gr.State(Session(), time_to_live=7200)
        returned = gr.State("")
        with gr.Tabs() as tabs:
            page = Page(services, session, tabs, menu, model_line, returned, loan)

            def name_pack(name: str) -> tuple[str, str]:
                chosen = page.services_for(name).pack
                return sentences.pack(chosen), about_pack(chosen)

            # the first of all that a new pack changes, as they follow one another
            page.quiet(menu.change, name_pack, menu, [pack_line, about])
            for name, title, builder in TABS:
                with gr.Tab(title, id=name) as page.tab[name]:
                    builder(page)
        model_line.render()
        about.render()

        def remember_tab(session: Session, event: gr.SelectData) -> None:
            session.tab = next(name for name, title, _ in TABS if title == event.value)

        page.quiet(tabs.select, remember_tab, session, None)
        open_from_link(demo, page)
        public_endpoints(page)
    return demo.queue(max_size=32, api_open=False, default_concurrency_limit=1)


def about_pack(pack: packs.Pack) -> str:
    """Return what a pack knows."""
    return sentences.about(pack.notes, verdicts.word_groups() if pack.vocabulary else {})


def open_from_link(demo: gr.Blocks, page: Page) -> None:
    """Fill the page when it opens: loaded again as it was, from its link, or as an example says."""
    edit, mask = page.parts["edit"], page.parts["mask"]
    strip, show_queries = page.parts["queries"]
    shelf = {example.name: example for example in examples.examples()}
    visits, visit = Visits(), gr.Textbox(visible=False)

    def linked(query: Mapping[str, str], session: Session) -> tuple[Any, ...]:
        name = query.get("picture", "")
        if toy_seed := re.fullmatch(r"toy-(\d{1,10})", name):
            toy, _ = remembered_toy(min(int(toy_seed[1]), MAX_SEED), session)
            source, target = examples.caption(toy.scene), ""
        else:
            example = shelf.get(name, next(iter(shelf.values())))
            name, source, target = example.name, example.source_text, example.target_text
            toy = example.toy
            session.remember(name, toy)
        source = query.get("source", source)[:MAX_TEXT]
        target = query.get("target", target)[:MAX_TEXT]
        seed = query.get("seed", "")
        seed = min(int(seed), MAX_SEED) if re.fullmatch(r"\d{1,10}", seed) else 0
        return toy.image, name, source, target, *window_values(), seed

    def asked(order: Order | InspectOrder, session: Session) -> tuple[Any, ...]:
        name, _ = session.known(order.picture)
        texts = order.source_text, order.target_text
        return order.picture, name, *texts, *window_values(order.window), order.seed

    def open_page(token: str, new: Session, request: gr.Request) -> tuple[Any, ...]:
        if page.loan is None:
            workbench.warm_up(page.services)
        query = dict(request.query_params)
        session = visits.admit(token or "", new)
        is_back = session is not new
        filled = linked(query, session)
        orders = session.order, session.inspecting
        shown = [asked(order, session) if order else filled for order in orders]
        tabs = [name for name, _, _ in TABS]
        session.tab = next(t for t in (session.tab, query.get("tab"), tabs[0]) if t in tabs)
        is_first = session.tab == "paint" and session.painting is None
        easel_shown = gr.ImageEditor(visible=True) if is_first else gr.skip()
        strip_shown = show_queries() if session.tab == "retrieve" else gr.skip()
        known = session.token, session, uuid.uuid4().hex if is_back else gr.skip()
        at = gr.Tabs(selected=session.tab)
        return *known, at, *shown[0], *shown[1], page.models(), easel_shown, strip_shown

    filled = [*edit.fillable, edit.seed, *mask.fillable, mask.seed]
    shows = [page.tabs, *filled, page.model_line, page.parts["easel"], strip]
    known = [visit, page.session, page.returned]
    opened = page.quiet(  # through the queue: Gradio tells of a new state no other way
        demo.load, open_page, [visit, page.session], [*known, *shows], refuses=True,
        js=ASK_FOR_VISIT,
    )  # fmt: skip
    opened.then(None, visit, None, js=KEEP_VISIT, api_visibility="private")
    for tell, given, line in page.parts["costs"]:
        page.quiet(demo.load, tell, given, line)
    board, open_tab, seats = page.parts["faces"]

    def open_faces(data: View) -> View:
        is_asked = data[page.session].tab == "faces" and data[page.session].desk is None
        return open_tab(data) if is_asked else {board.status: gr.skip()}

    board.follow(page.quiet(opened.then, open_faces, board.state, seats).then)


def public_endpoints(page: Page) -> None:
    """Offer the same work under clean names; no button shows them."""
    with gr.Column(visible=False):
        picture = Photo(label="image", **PHOTO)
        source = gr.Textbox("", label="source_text")  # empty: inferred
        target = gr.Textbox(label="target_text")
        name = gr.Textbox("diffedit", label="method")
        painter = gr.Textbox("zestguide", label="method")
        clip = gr.Textbox("", label="clip")
        seed = gr.Number(0, precision=0, label="seed")
        values = gr.JSON({}, label="parameters")
        pack = gr.Textbox(page.services.pack.name, label="pack")
        edited, mask = (gr.Image(label=label, format="png") for label in ("edited", "mask"))
        report = gr.JSON(label="report")
        layout, words = gr.File(label="layout"), gr.JSON([], label="words")
        edits, layers = gr.JSON([], label="edits"), gr.JSON([], label="layers")
        window = gr.JSON({}, label="window")
        own = gr.File(label="pictures", file_count="multiple", file_types=[".zip", "image"])
        trigger = gr.Button()

    services_for = polite(page.services_for)

    def window_of(values: Any) -> images.Window:
        if not isinstance(values or {}, dict):
            raise InputError("The window must be an object with across, down and size.")
        return params.build(images.Window, values or {})

    @polite
    def task_of(services: Services, method: str, parameters: Any, tab: str = "text_edit") -> Task:
        if not isinstance(parameters or {}, dict):
            raise InputError("The parameters must be an object of names and values.")
        defaults = services.pack.defaults.get(method, {})
        return workbench.task(method, {**defaults, **(parameters or {})}, tab)

    @polite
    def paint_order(
        file: str | None, prompt: str, words: Any, task: Task, seed: float,
        picture: Image.Image | None, window: Any,
    ) -> PaintOrder:  # fmt: skip
        if file is None:
            raise InputError("Please send a label map, or a picture that was painted here.")
        return PaintOrder(
            easel.reworded(read_layout(file), prompt, words),
            workbench.checked_seed(seed),
            [task],
            picture,
            window_of(window),
        )

    def paint(
        layout: str | None, prompt: str, words: Any, method: str, seed: float, parameters: Any,
        pack: str, picture: Image.Image | None = None, window: Any = None,
        request: gr.Request = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Paint a layout file; `words` has one text for each segment, none keeps the file's own.

        With a picture, only its painted parts change; `window`, as for /edit, says which square of
        it the layout is of. `pack` is a name that /packs lists.
        """
        services = services_for(pack)
        task = task_of(services, method, parameters, "layouts")
        order = paint_order(layout, prompt, words, task, seed, picture, window)

        def finished(order: PaintOrder) -> tuple[Any, ...]:
            one = order.results[0]
            notes = list(dict.fromkeys(order.notes))
            return one.picture, {"recipe": one.recipe, "numbers": one.numbers, "notes": notes}

        who = owner(request)
        yield from page.follow(
            who,
            page.start(who, functools.partial(easel.carry_out, services, order), on_gpu=True),
            lambda update: (None, {"ahead": update.ahead}),
            finished,
            lambda text: (None, {"status": text}),
        )

    def retrieve(
        image: Image.Image | None, source_word: str, target_word: str, clip: str, parameters: Any,
        pack: str, session: Session, pictures: list[str] | None = None, request: gr.Request = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Move a picture by the change of two words; returns the closest picture and a report.

        `clip` is the pack's network that compares them, its first one if empty. Searched are
        `pictures` (files, zip files among them), else the set of the `pack`, a name that /packs
        lists.
        """
        services, query = services_for(pack), polite(gallery.query_of)(session, image)
        clip = clip or leases.encoders(services.pack)[0]
        words = source_word, target_word
        if not isinstance(parameters or {}, dict):
            raise refusal(InputError("The parameters must be an object of names and values."))

        def work(on_step: OnStep) -> Answer:
            indexed = (services, session, pictures, clip, on_step)
            collection = gallery.index_collection(*indexed) if pictures else None
            return gallery.look(services, query, words, parameters or {}, clip, collection)

        def finished(answer: Answer) -> tuple[Any, ...]:
            best = answer.tiles[0].picture if answer.tiles else None
            return best, answer.report()

        who = owner(request)
        yield from page.follow(
            who,
            page.start(who, work),
            lambda update: (None, {"ahead": update.ahead}),
            finished,
            lambda text: (None, {"status": text}),
        )

    @polite
    def order_of(
        image: Image.Image | None, texts: tuple[str, str], seed: float, task: Task, window: Any,
        session: Session,
    ) -> Order:  # fmt: skip
        image = workbench.checked_inputs(image, texts[1])
        name, toy = session.known(image)
        return Order(
            image, texts[0] or "", texts[1], workbench.checked_seed(seed), [task], name, toy,
            window=window_of(window),
        )  # fmt: skip

    def edit(
        image: Image.Image | None, source_text: str, target_text: str, method: str, seed: float,
        parameters: Any, pack: str, session: Session, window: Any = None,
        request: gr.Request = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Edit a picture; `parameters` by name, see /methods. Returns picture, mask, report.

        `pack` is a name that /packs lists; `window` {"across", "down", "size"} says which square of
        the picture is edited, in parts from 0 to 1.
        """
        services = services_for(pack)
        task = task_of(services, method, parameters)
        order = order_of(image, (source_text, target_text), seed, task, window, session)

        def finished(order: Order) -> tuple[Any, ...]:
            one = order.results[0]
            notes = list(dict.fromkeys(order.notes))
            report = {"recipe": one.recipe, "numbers": one.numbers, "notes": notes}
            return one.after, one.mask_view, {**report, "curves": one.curves}

        who = owner(request)
        yield from page.follow(
            who,
            page.start(who, functools.partial(workbench.carry_out, services, order), on_gpu=True),
            lambda update: (None, None, {"ahead": update.ahead}),
            finished,
            lambda text: (None, None, {"status": text}),
        )

    def face(
        image: Image.Image | None = None, source_text: str = "", seed: float = 0, edits: Any = None,
        layers: Any = None, parameters: Any = None, pack: str | None = None,
        request: gr.Request = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Edit a face of a pack: of a picture, else of a text, else of a seed; with a report.

        `edits` is a list of {"part", "method", "strength"} and {"text", "mode", "strength"}, as in
        a recipe; `layers` of W+, none is all; `refine_steps` among the parameters refines.
        """
        checked = polite(workbench.checked_seed)(seed)
        order = polite(face_orders.order)(image, source_text, checked, edits, layers, parameters)
        who = owner(request)
        yield from page.follow(
            who,
            page.start(who, functools.partial(face_orders.carry_out, services_for(pack), order)),
            lambda update: (None, {"ahead": update.ahead}),
            lambda done: done,
            lambda text: (None, {"status": text}),
        )

    def described(params_class: Any, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
        pack = page.services.pack
        return [
            {
                **vars(spec),
                "default": defaults.get(spec.name, spec.default),
                "options": leases.options(pack, spec),
            }
            for spec in params.specs(params_class)
        ]

    def list_methods() -> dict[str, Any]:
        """Return every method, and /face, with their parameters, ranges and defaults."""
        known = {
            method.name: {
                "title": method.title,
                "tab": method.tab,
                "summary": method.summary,
                "paper": method.paper,
                "parameters": described(
                    method.load_params(), workbench.preset_values(page.services.pack, method, "")
                ),
            }
            for method in METHODS.values()
        }
        shared = {"title": "Face sliders", "tab": "faces", "summary": "What /face takes."}
        return {**known, "face": {**shared, "parameters": described(FaceParams, {})}}

    def list_packs() -> dict[str, Any]:
        """Return every model pack: title, licence, pixels, components and what of them is here."""
        return {name: packs_check.listing(pack) for name, pack in page.offered.items()}

    def new_scene(seed: float, session: Session) -> tuple[Any, ...]:
        """Return the toy scene of a seed, its caption and what stands where."""
        toy, _ = remembered_toy(seed, session)
        return toy.image, {"caption": examples.caption(toy.scene), "scene": toy.scene.to_dict()}

    page.heavy(
        trigger.click, edit,
        [picture, source, target, name, seed, values, pack, page.session, window],
        [edited, mask, report], api_name="edit", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    page.heavy(
        trigger.click, paint, [layout, source, words, painter, seed, values, pack, picture, window],
        [edited, report], api_name="paint", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    page.heavy(
        trigger.click, face, [picture, source, seed, edits, layers, values, pack], [edited, report],
        api_name="face", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    trigger.click(polite(list_methods), None, report, api_name="methods")
    trigger.click(polite(list_packs), None, report, api_name="packs")
    page.heavy(
        trigger.click, retrieve,
        [picture, source, target, clip, values, pack, page.session, own], [edited, report],
        api_name="retrieve", api_visibility="public", trigger_mode="multiple",
    )  # fmt: skip
    trigger.click(polite(new_scene), [seed, page.session], [edited, report], api_name="new_scene")


class BodyLimit:
    """ASGI middleware that refuses request bodies above MAX_BODY_BYTES, data: URLs included."""

    def __init__(self, app: Handler) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or answer 413."""
        sizes = [value for key, value in scope.get("headers", ()) if key == b"content-length"]
        taken = 0

        async def counted() -> Any:  # a body in chunks says no length before
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise HTTPException(413, "request too large")
            return message

        if not sizes or not sizes[0].isdigit() or int(sizes[0]) <= MAX_BODY_BYTES:
            await self.app(scope, counted if scope["type"] == "http" else receive, send)
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
    pack = packs.find(os.environ.get("SEMEDIT_PACK", "toybox"))
    build(pack=pack, gpu=zerogpu.lender()).launch(**launch_settings())


if __name__ == "__main__":
    main()
