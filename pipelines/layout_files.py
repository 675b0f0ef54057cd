"""Layouts in files: out of a result's recipe, or out of any picture that is a label map."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pipelines import images
from pipelines.errors import InputError
from pipelines.layouts import MAX_SEGMENTS, MAX_STRENGTH, SMALLEST_PART, Layout, Segment
from pipelines.recipes import PNG_KEY

MAX_SIDE_PX = 1024
_DAMAGED = ValueError, KeyError, TypeError, OSError, RecursionError, Image.DecompressionBombError
ALIKE = 48
"""Distance in RGB below which two colours of a label map are one, blurred or compressed."""
FREE = ((255, 255, 255), (0, 0, 0))
"""Colours of a label map that mean "nothing here"."""


def read_layout(path: str | Path) -> Layout:
    """Return the layout of a file; segments of a label map have no words yet.

    Raises:
        InputError: neither a picture with a layout in its recipe nor a label map.
    """
    picture = images.decode(path)  # refuses what is not a picture, or too large
    try:
        with Image.open(path) as opened:
            text = opened.info.get(PNG_KEY)
    except (OSError, UnidentifiedImageError):
        text = None
    if isinstance(text, str) and "labels_png" in text:
        return layout_of_recipe(text)
    return Layout(*label_map(picture))


def layout_of_recipe(text: str) -> Layout:
    """Return the layout that a recipe of this app holds.

    Raises:
        InputError: the recipe is damaged.
    """
    try:
        recipe = json.loads(text)
        png = io.BytesIO(base64.b64decode(recipe["labels_png"]))
        with Image.open(png, formats=("PNG",)) as opened:
            if max(opened.size) > MAX_SIDE_PX:
                raise ValueError("too large")
            labels = np.asarray(opened.convert("L"))
        segments = tuple(
            Segment(str(one["text"]), float(one["strength"]), int(one.get("pen", 0)))
            for one in recipe["segments"]
        )
        if not all(0 < segment.strength <= MAX_STRENGTH for segment in segments):
            raise ValueError("strength out of range")
        if not segments or labels.max() != len(segments) or len(segments) > MAX_SEGMENTS:
            raise ValueError("labels and segments disagree")
        layout = Layout(str(recipe["prompt"]), segments, labels)
        pens = set(layout.pens)
        if len(pens) < len(segments) or not pens <= set(range(1, MAX_SEGMENTS + 1)):
            raise ValueError("pens out of range")
        return layout
    except _DAMAGED as error:
        raise InputError(
            "The recipe in this picture is damaged, so its layout cannot be read. Load a label "
            "map, or paint the layout again."
        ) from error


def label_map(picture: Image.Image) -> tuple[str, tuple[Segment, ...], npt.NDArray[np.uint8]]:
    """Return prompt, segments and labels of a picture with one flat colour for each segment.

    White and black are free. Segments are numbered by size, the largest first, and wait for words.
    Every pixel goes to the nearest of these colours, so that resized and compressed maps will do.
    Of a map that is not square its centre counts, as of pictures.

    Raises:
        InputError: no colour, or too many of them: a photo, perhaps.
    """
    square, placement = images.fit(picture, min(*picture.size, MAX_SIDE_PX))
    if placement.side != square.width:
        square = picture.crop(placement.box).resize(square.size, Image.Resampling.NEAREST)
    pixels = np.asarray(square.convert("RGB"), np.uint32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    found, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], 1).astype(np.float32)
    kept = [np.array(colour, np.float32) for colour in FREE]
    common = np.flatnonzero(counts >= SMALLEST_PART * codes.size)
    for colour in colours[common[np.argsort(-counts[common], kind="stable")]]:
        if min(np.linalg.norm(colour - one) for one in kept) >= ALIKE:
            kept.append(colour)
    fits = len(FREE) < len(kept) <= len(FREE) + MAX_SEGMENTS
    away = np.stack([np.linalg.norm(colours - one, axis=1) for one in kept], 1)
    if not fits or counts[away.min(1) < ALIKE].sum() < 0.9 * codes.size:
        raise InputError(
            f"A label map has one flat colour for each segment, at most {MAX_SEGMENTS}, on white "
            "or black. This picture is something else."
        )
    nearest = away.argmin(1)[index.reshape(codes.shape)]
    labels = np.maximum(nearest - len(FREE) + 1, 0).astype(np.uint8)
    return "", tuple(Segment("") for _ in kept[len(FREE) :]), labels
