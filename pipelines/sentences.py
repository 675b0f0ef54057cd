"""What the page says, as small pieces of HTML; everything that came from outside is escaped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import InputError
from pipelines.estimates import Estimate
from pipelines.hub import DOWNLOADING, megabytes
from pipelines.images import Placement
from pipelines.jobs import Update
from pipelines.layouts import Layout
from pipelines.model_cache import CacheEntry
from pipelines.packs import Pack
from pipelines.verdicts import overlap

_STAGES = {
    DOWNLOADING: "Fetching the model (MB)",
    "source": "Describing the picture",
    "mask": "Finding where the texts disagree",
    "encoding": "Encoding the picture",
    "decoding": "Decoding with the target text",
    "reconstructing": "Decoding without an edit",
    "painting": "Painting",
    "indexing": "Looking at each picture",
    "refining": "Bringing the code closer to the picture",
}


def progress(update: Update, doing: str, *, loading: bool) -> str:
    """Return the status line of a job that is not over; `doing` names its part ("DiffEdit")."""
    if update.ahead:
        others = "1 job is" if update.ahead == 1 else f"{update.ahead} jobs are"
        return _status(f"<strong>Waiting</strong> · {others} before yours", "<progress></progress>")
    if update.step is None:
        what = "Loading the model" if loading else "Starting"
        return _status(f"<strong>{what}</strong>", "<progress></progress>")
    step = update.step
    stage = _STAGES.get(step.stage, step.stage.capitalize())
    share = f"{step.index} of {step.total}" if step.total > 1 else ""
    text = " · ".join(part for part in (f"<strong>{escape(doing)}</strong>", stage, share) if part)
    return _status(text, f'<progress value="{step.index}" max="{step.total}"></progress>')


def status(text: str) -> str:
    """Return a status line at rest."""
    return _status(escape(text), "")


def notice(unknown: Mapping[str, str], pack_title: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Return which words are not known, the closest that are, and all that are; "" for none."""
    if not unknown:
        return ""
    names = ", ".join(f"“{escape(word)}”" for word in unknown)
    closest = {word: near for word, near in unknown.items() if near}
    hints = ", ".join(f"“{escape(near)}” for “{escape(word)}”" for word, near in closest.items())
    hint = f" Did you mean {hints}?" if hints else ""
    return (
        f'<div class="notice" role="status">The {escape(pack_title.lower())} does not know {names}.'
        f"{hint}<details><summary>Words it knows</summary>{words(groups)}</details></div>"
    )


def cut(sentences: Sequence[str]) -> str:
    """Return what of a text is not read; "" where all is."""
    told = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return told and f'<div class="notice" role="status">{told}</div>'


def words(groups: Mapping[str, Sequence[str]]) -> str:
    """Return groups of words as a definition list."""
    rows = (
        f"<dt>{escape(name)}</dt><dd>{escape(', '.join(group))}</dd>"
        for name, group in groups.items()
    )
    return f"<dl>{''.join(rows)}</dl>"


def numbers(rows: Sequence[Mapping[str, object]], notes: Sequence[str]) -> str:
    """Return the table of results; "" without rows.

    Each row has "title", "success" (bool or None), "iou", "l1", "changed", "lpips", "clip" (None =
    a dash), "seconds" and "evaluations".
    """
    head = (
        "Method", "Edit success", "Mask IoU", "L1 outside mask", "Pixels changed outside",
        "LPIPS to input", "CLIP score", "Seconds", "UNet evaluations",
    )  # fmt: skip
    cells = [
        (
            escape(str(row["title"])),
            _verdict(row["success"]),
            _number(row["iou"], ".2f"),
            _number(row["l1"], ".2f"),
            _number(row["changed"], "d"),
            _number(row["lpips"], ".3f"),
            _number(row["clip"], ".2f"),
            _number(row["seconds"], ".2f"),
            _number(row["evaluations"], "d"),
        )
        for row in rows
    ]
    return _table(head, cells, notes)


def painted(
    rows: Sequence[Mapping[str, Any]], segments: Sequence[str], notes: Sequence[str]
) -> str:
    """Return the table of painted results; "" without rows.

    Each row has "title", "success", "overlaps" (one for every segment, None = a dash), "loss"
    (first and last, or ()), "seconds", "evaluations" and "gradients".
    """
    head = (
        "Method", "Judge sees all words", *(f"IoU of “{escape(text)}”" for text in segments),
        "Guidance loss", "Seconds", "UNet evaluations", "of these with gradient",
    )  # fmt: skip
    cells = [
        (
            escape(str(row["title"])),
            _verdict(row["success"]),
            *(_number(value, ".2f") for value in row["overlaps"]),
            " → ".join(f"{value:.2f}" for value in row["loss"]) or "–",
            _number(row["seconds"], ".2f"),
            _number(row["evaluations"], "d"),
            _number(row["gradients"], "d"),
        )
        for row in rows
    ]
    return _table(head, cells, notes)


def retrieved(agrees: Sequence[bool | None], seconds: float) -> str:
    """Return how many results are right, where that is known, and how long it took."""
    text = f"Answered in {1000 * seconds:.0f} ms"
    judged = [one for one in agrees if one is not None]
    if judged:
        text += f" · the scenes agree with {sum(judged)} of {len(judged)}"
    return status(f"{text}.")


def window(placement: Placement) -> str:
    """Return which square of a picture is worked on, and at which size."""
    side, size_px = placement.side, placement.size_px
    return status(
        f"{side} × {side} of {placement.width} × {placement.height} pixels, worked on at "
        f"{size_px} × {size_px}. All outside the square stays."
    )


def reasons(words: Sequence[tuple[str, float, float]], notes: Sequence[str]) -> str:
    """Return the words closest to a moved point, with their cosines before and after."""
    head = "Closest words", "Cosine after the move", "before"
    rows = [
        (escape(word), _number(after, ".3f"), _number(before, ".3f"))
        for word, after, before in words
    ]
    return _table(head, rows, notes)


def face(identity: float | None, distance: float, facts: Sequence[tuple[str, bool]]) -> str:
    """Return what an edit of a face kept and changed, and which of its words the judge sees."""
    told = [] if identity is None else [f"<b>identity kept {identity:.2f}</b>"]
    told.append(f"changed by LPIPS {distance:.2f}")
    seen = [escape(name) for name, is_seen in facts if is_seen]
    missed = [escape(name) for name, is_seen in facts if not is_seen]
    told += [f"the judge sees {', '.join(seen)}"] if seen else []
    told += (
        [f'<span class="no">the judge does not see {", ".join(missed)}</span>'] if missed else []
    )
    return f'<div class="facts" role="status">{" · ".join(told)}</div>'


def score(scores: Mapping[str, float | None], title: str | None) -> str:
    """Return the localization score beside a slider; "" for one that has none now."""
    if title not in scores:
        return ""
    hint = "Localization score: the part of the change that lies on the part of the face"
    return f'<div class="score" title="{hint}">{_number(scores[title], ".2f")}</div>'


def understood(layout: Layout, png: str, palette: Sequence[tuple[int, int, int]]) -> str:
    """Return how a painting was read: its map (base64 of `png`), the whole text, every segment."""
    items = ""
    for i, (segment, colour) in enumerate(zip(layout.segments, palette, strict=False), 1):
        share = f"{100 * (layout.labels == i).mean():.1f} % of the picture"
        strength = "" if segment.strength == 1 else f", strength {segment.strength:g}"
        text = f"{escape(segment.text)} <small>{share}{strength}</small>"
        items += f'<li><i style="background: rgb{colour}"></i>{text}</li>'
    return (
        f'<figure class="understood"><img src="data:image/png;base64,{png}" alt="Painting as read">'
        f"<figcaption>The model reads “{escape(layout.text)}”."
        f'<ul class="legend">{items}</ul></figcaption></figure>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table of cells that are HTML already, with notes that are not; "" without rows."""
    if not rows:
        return ""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in dict.fromkeys(notes))
    return (
        f'<div class="numbers"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>'
        f"{below}</div>"
    )


def models(entries: Sequence[CacheEntry], pack_title: str) -> str:
    """Return which models are in memory, where and how big, and what the process takes."""
    if entries:
        loaded = "; ".join(
            f"{escape(entry.name)} {entry.state}"
            + (f", {entry.nbytes / 2**20:.0f} MB on {entry.device}" if entry.nbytes else "")
            for entry in entries
        )
    else:
        loaded = "no model in memory yet; the first edit loads it"
    memory = resident_mib()
    used = f" · process {memory:.0f} MB" if memory else ""
    return f'<div class="about"><b>{escape(pack_title)}</b> · {loaded}{used}</div>'


def estimate(one: Estimate) -> str:
    """Return what a run will take: work, time where it was measured, memory beside what is free."""
    parts = []
    if one.evaluations:
        parts.append(f"{one.evaluations} UNet evaluations")
    if one.descents:
        parts.append(f"{one.descents} steps of optimisation")
    if not parts:
        return status("Next to nothing to compute.")
    if one.seconds is None:
        parts.append("time not measured yet on this machine")
    else:
        parts.append(f"about {one.seconds:.{0 if one.seconds >= 10 else 1}f} s")
    needed = one.weights_bytes + one.activations_bytes
    memory = f"memory {_size(one.weights_bytes)} (models) + {_size(one.activations_bytes)}"
    if one.free_bytes:
        memory += f" of {_size(one.free_bytes)} free"
    parts.append(memory)
    if 0 < one.free_bytes < needed:
        parts.append("this may not fit")
    return status(f"At most {', '.join(parts)}.")


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{megabytes(nbytes)} MB"


def pack(chosen: Pack) -> str:
    """Return what a pack is: licence, resolution, size, and whether it is on this machine."""
    roles = chosen.components
    model = roles.get("latent_diffusion") or next(iter(roles.values()))  # faces have none
    facts = [f"<b>{escape(chosen.title)}</b>", f"licence {escape(chosen.licence)}"]
    facts.append(f"{chosen.resolution_px} × {chosen.resolution_px} pixels")
    try:
        is_here = model.is_here()
        parts = {id(part): part for part in roles.values()}.values()  # one may serve two roles
        here = [part for part in parts if part.is_here()]
    except InputError as error:
        facts.append(escape(str(error)))
    else:
        size = sum(part.total_bytes() for part in (here if is_here else [model]))
        what = "{} MB on this machine" if is_here else "the first edit fetches about {} MB"
        facts.append(what.format(megabytes(size)))
    return f'<div class="about">{" · ".join(facts)}</div>'


def about(notes: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Return what a pack knows, with its words, if they are few enough to list, folded away."""
    listed = f"<details><summary>Words it knows</summary>{words(groups)}</details>"
    listed = listed if groups else ""
    return f'<div class="about notice">{escape(notes)}{listed}</div>'


def mask_facts(
    mask: npt.NDArray[np.float32], truth: npt.NDArray[np.float32] | None, how: str
) -> str:
    """Return the size of a mask (H, W) and, where the truth is known, how well it meets it."""
    text = f"{100 * float((mask > 0).mean()):.1f} % of the picture, {escape(how)}"
    if truth is not None:
        text += f" · <b>IoU with the true mask {overlap(mask, truth):.2f}</b>"
    return f'<div class="facts" role="status">{text}</div>'


def resident_mib() -> float:
    """Return the memory this process has in use, in MiB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _status(text: str, bar: str) -> str:
    return f'<div class="status" role="status" aria-live="polite">{text}{bar}</div>'


def _verdict(success: object) -> str:
    if success is None:
        return "–"
    return '<span class="yes">yes</span>' if success else '<span class="no">no</span>'


def _number(value: object, form: str) -> str:
    return "–" if value is None else format(value, form)
