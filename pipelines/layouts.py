"""What a visitor painted: a prompt, and segments with words of their own on one label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError

MAX_SEGMENTS = 8
MAX_TEXT = 1000
MAX_STRENGTH = 2.0
SMALLEST_PART = 0.002
"""A segment below this part of the picture is smaller than one cell of the coarsest map."""


@dataclass(frozen=True)
class Segment:
    """Words for one painted region.

    Attributes:
        text: what should be there.
        strength: how much the region counts beside the others, in (0, 2]; 1 is usual.
        pen: number of the pen that painted it; 0 = its own number among the segments.
    """

    text: str
    strength: float = 1.0
    pen: int = field(default=0, compare=False)


@dataclass(frozen=True, eq=False)
class Layout:
    """A prompt with its painted segments.

    Attributes:
        prompt: the whole picture in words.
        labels: (H, W) uint8; 0 is free, i belongs to segments[i - 1].
    """

    prompt: str
    segments: tuple[Segment, ...]
    labels: NDArray[np.uint8]

    @property
    def pens(self) -> tuple[int, ...]:
        """The number of every segment's pen."""
        return tuple(segment.pen or i for i, segment in enumerate(self.segments, 1))

    @property
    def text(self) -> str:
        """The prompt, with the words of every segment it does not contain appended.

        Guidance works on the attention of words, so these must be in the text (the release's
        `concat_words_to_prompt`; thesis, section 6.4.1).
        """
        padded = f" {_plain(self.prompt)} "
        missing = [s.text.strip() for s in self.segments if f" {_plain(s.text)} " not in padded]
        return ", ".join([part for part in (self.prompt.strip(), *dict.fromkeys(missing)) if part])


def check_layout(
    prompt: str,
    texts: Sequence[str],
    labels: NDArray[np.uint8],
    strengths: Sequence[float] | None = None,
) -> Layout:
    """Return the layout of a painting whose segment i has texts[i - 1] and strengths[i - 1].

    Segments without paint and without text are dropped, and the rest numbered anew.

    Raises:
        InputError: nothing is painted, paint has no text, text has no paint, a segment is too
            small to be seen by the model, there are too many, or a strength is out of range.
    """
    strengths = [1.0] * len(texts) if strengths is None else strengths
    painted = [i for i in range(1, int(labels.max(initial=0)) + 1) if (labels == i).any()]
    named = [i for i, text in enumerate(texts, 1) if any(map(str.isalnum, text))]
    if not painted:
        raise InputError("Nothing is painted yet. Choose a colour and paint where things belong.")
    for i in painted:
        if i not in named:
            raise InputError(f"Segment {i} is painted but has no words. Say what should be there.")
        if (labels == i).mean() < SMALLEST_PART:
            raise InputError(f"Segment {i} is too small to be seen. Please paint it larger.")
    for i in named:
        if i not in painted:
            raise InputError(
                f"Segment {i} has words but no paint of its own; another segment may cover it. "
                "Paint it, or clear its words."
            )
    if len(painted) > MAX_SEGMENTS:
        raise InputError(f"At most {MAX_SEGMENTS} segments fit. Please join or remove some.")
    if any(len(text) > MAX_TEXT for text in (prompt, *texts)):
        raise InputError(f"Please keep every text below {MAX_TEXT} characters.")
    if not all(0 < strengths[i - 1] <= MAX_STRENGTH for i in painted):
        raise InputError(f"The strength of a segment must be above 0 and at most {MAX_STRENGTH:g}.")
    renumbered = np.zeros_like(labels)
    for new, old in enumerate(painted, 1):
        renumbered[labels == old] = new
    segments = tuple(
        Segment(" ".join(texts[i - 1].split()), float(strengths[i - 1]), i) for i in painted
    )
    return Layout(" ".join(prompt.split()), segments, renumbered)


def nearest_labels(
    colours: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """Return the label map of a painting (H, W, 4) RGBA: index into `palette` plus one, 0 = clear.

    Brushes blend at their rims, so a colour means the palette entry nearest to it, and a pixel
    counts as painted from half opacity on.
    """
    rgb = colours[..., :3].astype(np.int32)
    distances = ((rgb[..., None, :] - np.array(palette)) ** 2).sum(-1)  # (H, W, entries)
    labels = distances.argmin(-1).astype(np.uint8) + 1
    return np.where(colours[..., 3] >= 128, labels, 0).astype(np.uint8)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace(",", " , ").split())
