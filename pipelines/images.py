"""Pixels in and out: the only place where files, PIL pictures, masks and tensors meet.

Refusals are `InputError`s, each a sentence of its own that says what to do.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.errors import InputError
from pipelines.params import ranged

if TYPE_CHECKING:
    from torch import Tensor

Mask = npt.NDArray[np.float32]

MAX_PIXELS = 20_000_000
MIN_SIDE_PX = 16
MAX_ASPECT = 8
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow itself refuses to open more than twice this

# What Pillow's readers raise on damaged files, besides OSError.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError)
_DAMAGED += (RuntimeError, struct.error, zlib.error)


@dataclass(frozen=True)
class Window:
    """Which square of a picture is worked on; without a wish the centre, as large as fits."""

    across: float = ranged(0.5, 0.0, 1.0, 0.01, "0 is the left end, 1 the right end", "Across")
    down: float = ranged(0.5, 0.0, 1.0, 0.01, "0 is the top, 1 the bottom", "Down")
    size: float = ranged(
        1.0, 0.1, 1.0, 0.01, "side as a part of the picture's shorter side; less is finer", "Size"
    )


CENTRE = Window()


@dataclass(frozen=True)
class Placement:
    """Where the working square sits in the original.

    Attributes:
        width, height: the original's size in pixels.
        left, top, side: the square in the original's pixels.
        size_px: side of the working picture that it is resized to.
    """

    width: int
    height: int
    left: int
    top: int
    side: int
    size_px: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) as PIL's crop takes it."""
        return self.left, self.top, self.left + self.side, self.top + self.side

    @property
    def window(self) -> tuple[slice, slice]:
        """(rows, columns) as arrays take them."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def decode(
    source: str | Path | BinaryIO | Image.Image | None,
    *,
    max_pixels: int = MAX_PIXELS,
    mode: Literal["RGB", "RGBA"] = "RGB",
) -> Image.Image:
    """Return an upload as an upright 8-bit picture of a mode without metadata.

    First frame of animations, EXIF rotation applied, 16-bit grey scaled to 8 bits, for RGB
    transparency over white. Size and shape are checked before any pixel is decoded.

    Raises:
        InputError: it is no picture, or one that cannot be edited; the sentence says what to do.
    """
    if source is None:
        raise InputError("Please choose a picture first.")
    try:
        if isinstance(source, Image.Image):
            return _decoded(source, max_pixels, mode)
        with Image.open(source, formats=FORMATS) as image:
            return _decoded(image, max_pixels, mode)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("The uploaded picture has expired. Please upload it again.") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(max_pixels)) from error
    except UnidentifiedImageError as error:
        raise InputError(_why_unreadable(source)) from error
    except _DAMAGED as error:
        raise InputError(
            "The picture file is damaged or incomplete. Please open it in another program, save it "
            "again as PNG and upload that."
        ) from error


def fit(image: Image.Image, size_px: int, window: Window = CENTRE) -> tuple[Image.Image, Placement]:
    """Return a square of a picture at the working resolution, and where it came from.

    Nothing is stretched. A picture that has the working size already comes back pixel by pixel.
    """
    side = max(1, round(window.size * min(image.size)))
    left = math.floor(window.across * (image.width - side))
    top = math.floor(window.down * (image.height - side))
    placement = Placement(image.width, image.height, left, top, side, size_px)
    square = image.crop(placement.box)
    if side != size_px:
        square = square.resize((size_px, size_px), Image.Resampling.LANCZOS)
    return square, placement


def paste(
    original: Image.Image, edited: Image.Image, mask: Mask | None, placement: Placement
) -> Image.Image:
    """Return the original with the edited square blended in where the mask says so.

    Pixels where the mask is 0, and all outside the square, stay bit-identical to the original;
    where it is 1 they are the edited picture's, resized.

    Args:
        edited: RGB, working size.
        mask: (h, w) at the working size or (H, W) at the original's, in [0, 1], 1 = edit;
            None = the whole square.
    """
    square = edited
    if edited.size != (placement.side, placement.side):
        square = edited.resize((placement.side, placement.side), Image.Resampling.BICUBIC)
    whole = np.ones((placement.size_px, placement.size_px), np.float32)
    weight = place_mask(whole if mask is None else mask, placement)[placement.window][..., None]
    pixels = np.array(original)  # (H, W, 3)
    before = pixels[placement.window].astype(np.float32)
    blend = before + weight * (np.asarray(square, np.float32) - before)
    pixels[placement.window] = np.rint(blend).astype(np.uint8)
    return Image.fromarray(pixels)


def place_mask(mask: Mask, placement: Placement) -> Mask:
    """Return a mask of the working square, or of the original, at the original's size.

    0 outside the square. A mask that has the original's size already is only cut to the square.
    """
    full = np.zeros((placement.height, placement.width), np.float32)
    if mask.shape == full.shape:
        full[placement.window] = mask[placement.window]
    elif mask.shape == (placement.size_px, placement.size_px):
        full[placement.window] = resize_mask(mask, (placement.side, placement.side))
    else:
        raise ValueError(
            f"mask must be {placement.size_px} px square or have the original's shape "
            f"{full.shape}, got {mask.shape}"
        )
    return full


def fit_mask(mask: Mask, placement: Placement) -> Mask:
    """Return a mask painted at the original's size at the working size: the inverse of placing."""
    return resize_mask(mask[placement.window], (placement.size_px, placement.size_px))


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return a mask (h, w) in [0, 1] at `size` = (H, W).

    A hard mask stays hard: nearest when it grows; when it shrinks, a pixel is 1 if anything in
    it was, so that thin strokes survive. A soft (feathered) mask is interpolated, but never
    spreads: what was 0 stays exactly 0.
    """
    if mask.shape == size:
        return np.array(mask, np.float32)
    support = _support(mask > 0, size)
    if np.isin(mask, (0.0, 1.0)).all():
        return support.astype(np.float32)
    soft = Image.fromarray(mask.astype(np.float32))
    resized = soft.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.where(support, np.clip(resized, 0.0, 1.0), 0.0).astype(np.float32)


def to_tensor(images: Sequence[Image.Image], size_px: int) -> Tensor:
    """Return square RGB pictures of the working size as float32 (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: a picture has another size or mode (`decode` and `fit` come first).
    """
    import torch

    for image in images:
        if image.size != (size_px, size_px) or image.mode != "RGB":
            raise ValueError(f"need RGB {size_px} px square, got {image.mode} {image.size}")
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0


def to_pil(images: Tensor) -> list[Image.Image]:
    """Return (B, 3, H, W) in [-1, 1], clipped, as RGB pictures; undoes `to_tensor` exactly."""
    levels = ((images.detach().float() + 1.0) * 127.5).round().clamp(0, 255)
    pixels = levels.byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, 3)
    return [Image.fromarray(array) for array in pixels]


def _too_large(max_pixels: int) -> str:
    return (
        f"The picture has more than {max_pixels / 1e6:g} megapixels. Please make it smaller and "
        "upload it again."
    )


def _why_unreadable(source: str | Path | BinaryIO) -> str:
    with Path(source).open("rb") if isinstance(source, str | Path) else source as file:
        file.seek(0)
        head = file.read(1024)
    if not head:
        return "The file is empty. Please upload a picture, for example a PNG or JPEG file."
    if b"<svg" in head.lower():
        return "SVG drawings cannot be edited here. Please export it as PNG and upload that."
    return "This file is no picture that can be read here. Please upload a PNG, JPEG or WebP file."


def _decoded(image: Image.Image, max_pixels: int, mode: str) -> Image.Image:
    _check_size(image.width, image.height, max_pixels)
    image.seek(0)
    image.load()
    plain = _to_8_bit(_upright(image), mode)
    plain.info = {}  # nothing private (place, comments) travels on
    return plain


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(_too_large(max_pixels))
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(
            f"The picture is {width} x {height} pixels; each side must have at least "
            f"{MIN_SIDE_PX}. Please upload a larger one."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"The picture is {width} x {height} pixels; its long side may be at most "
            f"{MAX_ASPECT} times its short side. Please crop it and upload it again."
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:  # unreadable EXIF: viewers show the picture as it is stored, and so do we
        return image


def _to_8_bit(image: Image.Image, mode: str) -> Image.Image:
    """Return a new RGB or RGBA picture of a loaded one of any mode."""
    if image.mode.startswith("I"):
        image = _grey_from_16_bit(image)
    if image.mode == "F":
        raise InputError(
            "The picture holds floating-point measurements, not colours. Please save it as an "
            "8-bit PNG and upload that."
        )
    if mode == "RGBA" or not image.has_transparency_data:
        return image.convert(mode)
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image.convert("RGBA"))
    return flat.convert("RGB")


def _grey_from_16_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise InputError(
            "The picture has more than 16 bits for each pixel. Please save it as an 8-bit PNG and "
            "upload that."
        )
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))


def _support(inside: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return a boolean mask at another size: nearest where it grows, any where it shrinks."""
    for axis, target in enumerate(size):
        source = inside.shape[axis]
        if target >= source:
            nearest = ((np.arange(target) + 0.5) * source / target).astype(np.intp)
            inside = np.take(inside, nearest, axis=axis)
        else:
            starts = np.arange(target) * source // target
            inside = np.logical_or.reduceat(inside, starts, axis=axis)
    return inside
