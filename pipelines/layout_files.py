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
        with Image.open(io.BytesIO(base64.b64decode(recipe["labels_png"]))) as opened:
            if max(opened.size) > MAX_SIDE_PX:
                raise ValueError("too large")
            labels = np.asarray(opened.convert("L"))
        segments = tuple(
            Segment(str(one["text"]), float(one["strength"])) for one in recipe["segments"]
        )
        if not all(0 < segment.strength <= MAX_STRENGTH for segment in segments):
            raise ValueError("strength out of range")
        if not segments or labels.max() != len(segments) or len(segments) > MAX_SEGMENTS:
            raise ValueError("labels and segments disagree")
        return Layout(str(recipe["prompt"]), segments, labels)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            "The recipe in this picture is damaged, so its layout cannot be read. Load a label "
            "map, or paint the layout again."
        ) from error


def label_map(picture: Image.Image) -> tuple[str, tuple[Segment, ...], npt.NDArray[np.uint8]]:
    """Return prompt, segments and labels of a picture with one flat colour for each segment.

    White and black are free. Segments are numbered by size, the largest first, and wait for words.

    Raises:
        InputError: no colour, or too many of them: a photo, perhaps.
    """
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.NEAREST)
    pixels = np.asarray(picture.convert("RGB")).astype(np.uint32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    colours, counts = np.unique(codes, return_counts=True)
    free = {(r << 16) | (g << 8) | b for r, g, b in FREE}
    found = sorted(
        (
            (int(count), int(colour))
            for colour, count in zip(colours, counts, strict=True)
            if colour not in free and count >= SMALLEST_PART * codes.size
        ),
        reverse=True,
    )
    kept = sum(count for count, _ in found) + sum(counts[np.isin(colours, list(free))])
    if not found or len(found) > MAX_SEGMENTS or kept < 0.9 * codes.size:
        raise InputError(
            f"A label map has one flat colour for each segment, at most {MAX_SEGMENTS}, on white "
            "or black. This picture is something else. Save label maps as PNG: JPEG blurs colours."
        )
    labels = np.zeros(codes.shape, np.uint8)
    for i, (_, colour) in enumerate(found, 1):
        labels[codes == colour] = i
    return "", tuple(Segment("") for _ in found), labels
