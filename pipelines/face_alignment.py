"""The square of a picture that networks of FFHQ's faces expect (Karras et al. 2019, appendix A).

FFHQ's own code takes the middles of the eyes and the corners of the mouth from dlib's 68 landmarks.
Here a parser of faces, which the pack has anyway, shows where eyes and lips are. dlib's predictor
was trained on iBUG 300-W, which excludes commercial use, and other detectors fetch weights of their
own. The price: a parser knows faces that fill a good part of a picture, seen from the front.

FFHQ's blur of what lies outside the picture is left out: it is mirrored only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pipelines.errors import InputError
from pipelines.images import to_tensor
from pipelines.models.face_parser import FaceParser

Points = npt.NDArray[np.float64]  # (N, 2), x and y in pixels

PASSES = 2
CLOSER = 0.6  # of a picture, where the whole shows no face
MIN_PIXELS = 6  # of the eyes, and of the mouth
CORNER = 0.04  # of the lips' pixels, at either end, whose mean is a corner
MAX_OUTSIDE = 2.0  # sides of the picture that a crop may reach over
NO_FACE = (
    "No face was found in the picture. Please choose one where a face seen from the front, eyes "
    "and mouth free, fills a good part."
)


class Landmarks(NamedTuple):
    """Four points (x, y) in pixels; left and right as they are seen."""

    left_eye: Points
    right_eye: Points
    left_mouth: Points
    right_mouth: Points


def align(parser: FaceParser, picture: Image.Image, size_px: int) -> Image.Image:
    """Return the face in a picture as FFHQ's crop has it, a square of `size_px`.

    Raises:
        InputError: no face is seen.
    """
    for quad in _looks(picture.size):
        if (found := _crop_in(parser, picture, quad)) is not None:
            break
    else:
        raise InputError(NO_FACE)
    for _ in range(PASSES):  # as networks know faces: each pass looks at the crop of the one before
        found = _crop_in(parser, picture, better := found)
        if found is None:
            return cut_out(picture, better, size_px)
    return cut_out(picture, found, size_px)


def _looks(size: tuple[int, int]) -> Iterator[Points]:
    """Yield the squares to look for a face in: all of the picture, then closer ones."""
    unit = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    whole, middle = max(size), np.array(size) / 2
    yield middle - whole / 2 + whole * unit
    close = CLOSER * whole
    for shift in itertools.product((0, -1, 1), repeat=2):
        yield middle + (whole - close) / 2 * np.array(shift[::-1]) - close / 2 + close * unit


def _crop_in(parser: FaceParser, picture: Image.Image, quad: Points) -> Points | None:
    """Return FFHQ's crop of the face that the parser sees in a square; None if it sees none."""
    look_px = parser.size_px
    seen = landmarks(parser, cut_out(picture, quad, look_px))
    if seen is None:
        return None
    to_x, to_y = (quad[3] - quad[0]) / look_px, (quad[1] - quad[0]) / look_px
    return crop_of(Landmarks(*(quad[0] + x * to_x + y * to_y for x, y in seen)))


def crop_of(points: Landmarks) -> Points:
    """Return the corners (4, 2) of FFHQ's crop: upper left, lower left, lower right, upper right.

    Its side is the larger of 4 times the eyes' distance and 3.6 times that of eyes and mouth.
    """
    eyes = (points.left_eye + points.right_eye) / 2
    across = points.right_eye - points.left_eye
    down = (points.left_mouth + points.right_mouth) / 2 - eyes
    x = across - down[::-1] * [-1, 1]
    x *= max(2 * math.hypot(*across), 1.8 * math.hypot(*down)) / math.hypot(*x)
    y = x[::-1] * [-1, 1]
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def cut_out(picture: Image.Image, quad: Points, size_px: int) -> Image.Image:
    """Return the square with corners `quad` as a picture of `size_px`, mirrored outside of it.

    Raises:
        InputError: it reaches too far outside.
    """
    shrink = max(1, int(math.dist(quad[3], quad[0]) / size_px / 2))
    picture, quad = picture.reduce(shrink), quad / shrink
    pads = np.ceil([*-quad.min(0), *(quad.max(0) - picture.size)]).astype(int).clip(0) + 1
    if pads.max() > MAX_OUTSIDE * max(picture.size):
        raise InputError(NO_FACE)
    left, top, right, bottom = (int(pad) for pad in pads)
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), "symmetric")
    corners = (quad + [left, top]).flatten().tolist()
    padded, twice = Image.fromarray(pixels), (2 * size_px, 2 * size_px)
    drawn = padded.transform(twice, Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return drawn.reduce(2)


@torch.no_grad()
def landmarks(parser: FaceParser, square: Image.Image) -> Landmarks | None:
    """Return the four points of a face in a square picture; None if it shows none."""
    images = to_tensor([square], square.width).to(next(parser.parameters()).device)
    seen = parser(images).argmax(1)
    eyes = _pixels(parser, seen, ["eyes"])
    lips = _pixels(parser, seen, ["lips", "mouth"])
    if len(eyes) < MIN_PIXELS or len(lips) < MIN_PIXELS:
        return None
    middle = eyes.mean(0)
    _, _, axes = np.linalg.svd(eyes - middle, full_matrices=False)
    along = (eyes - middle) @ axes[0]  # the eyes lie on both sides of their middle
    first, second = eyes[along < 0].mean(0), eyes[along >= 0].mean(0)
    down, across = lips.mean(0) - middle, second - first
    if across[0] * down[1] - across[1] * down[0] < 0:  # the mouth is below whom one looks at
        first, second, across = second, first, -across
    order = np.argsort(lips @ across)
    ends = max(1, round(CORNER * len(lips)))
    return Landmarks(first, second, lips[order[:ends]].mean(0), lips[order[-ends:]].mean(0))


def _pixels(parser: FaceParser, seen: torch.Tensor, parts: Sequence[str]) -> Points:
    """Return the middles (N, 2), as x and y, of the pixels of some parts in a label map."""
    masks = [parser.masks_in(seen, part)[0] for part in parts if part in parser.parts]
    shown = torch.stack(masks).amax(0).cpu().numpy()
    return np.argwhere(shown > 0)[:, ::-1] + 0.5
