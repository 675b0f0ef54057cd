"""Pictures drawn for the eye: masks over photos, heat maps. PIL in, PIL out, no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipelines import images

VIEW_PX = 512
TINT = (255, 45, 125)
OUTLINE = (0, 229, 255)  # far from every colour of the heat map
_DIMMED = 0.35
_MARGIN_PX = 22  # above and beside a sheet, for its titles
_RIM = 0.004  # width of the mask's outline as a fraction of the picture

# Inferno (matplotlib, CC0) at even distances: dark to light, readable without colour vision.
_HEAT = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21),
     (250, 193, 39), (252, 255, 164)],
    np.float32,
)  # fmt: skip


def enlarged(image: Image.Image, side_px: int = VIEW_PX) -> Image.Image:
    """Return a picture whose longer side is `side_px`."""
    factor = side_px / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC)


def mask_over(image: Image.Image, mask: npt.NDArray[np.float32]) -> Image.Image:
    """Return the picture with everything outside mask (H, W), 1 = edit, dimmed, and an outline."""
    view = enlarged(image)
    grey = np.asarray(view.convert("L").convert("RGB"), np.float32)
    inside = np.asarray(
        Image.fromarray((mask * 255).astype(np.uint8)).resize(view.size, Image.Resampling.NEAREST)
    )
    weight = inside[..., None].astype(np.float32) / 255
    pixels = weight * np.asarray(view, np.float32) + (1 - weight) * (_DIMMED * grey + 90)
    reach = max(1, round(_RIM * max(view.size)))
    pixels[_outline(inside > 0, reach)] = TINT
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def square_of(image: Image.Image, window: images.Window) -> Image.Image:
    """Return the picture with everything outside the square that is worked on dimmed."""
    small = enlarged(image)
    square, placement = images.fit(small, VIEW_PX, window)
    return mask_over(small, images.place_mask(np.ones(square.size, np.float32), placement))


def heat(
    values: npt.NDArray[np.float32], wanted: npt.NDArray[np.bool_] | None = None
) -> Image.Image:
    """Return values (h, w) in [0, 1] as colours, cells left as blocks; `wanted` (H, W) outlined."""
    position = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    below = np.minimum(position.astype(int), len(_HEAT) - 2)
    part = (position - below)[..., None]
    colours = (1 - part) * _HEAT[below] + part * _HEAT[below + 1]
    picture = Image.fromarray(colours.round().astype(np.uint8))
    side = VIEW_PX // 2
    picture = picture.resize((side, side), Image.Resampling.NEAREST)
    if wanted is None:
        return picture
    inside = Image.fromarray(wanted).resize((side, side), Image.Resampling.NEAREST)
    pixels = np.array(picture)
    pixels[_outline(np.asarray(inside), 1)] = OUTLINE
    return Image.fromarray(pixels)


def sheet(
    rows: Sequence[Sequence[Image.Image]], across: Sequence[str], down: Sequence[str]
) -> Image.Image:
    """Return pictures of one size in rows, columns titled `across` above, rows `down` beside."""
    width, height = rows[0][0].size
    size = (_MARGIN_PX + width * len(across), _MARGIN_PX + height * len(down))
    canvas, font = Image.new("RGB", size, "white"), ImageFont.load_default(12)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            canvas.paste(picture, (_MARGIN_PX + j * width, _MARGIN_PX + i * height))
    for j, title in enumerate(across):
        centre = _MARGIN_PX + (j + 0.5) * width, _MARGIN_PX / 2
        ImageDraw.Draw(canvas).text(centre, title, "black", font, anchor="mm")
    for i, title in enumerate(down):
        column = Image.new("RGB", (height, _MARGIN_PX), "white")
        centre = height / 2, _MARGIN_PX / 2
        ImageDraw.Draw(column).text(centre, title, "black", font, anchor="mm")
        canvas.paste(column.rotate(90, expand=True), (0, _MARGIN_PX + i * height))
    return canvas


def label_colours(
    labels: npt.NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]
) -> npt.NDArray[np.uint8]:
    """Return labels (H, W) as RGBA (H, W, 4): label i in palette[i - 1], label 0 transparent."""
    table = np.zeros((256, 4), np.uint8)
    table[1 : len(palette) + 1] = [(*colour, 255) for colour in palette]
    return table[labels]


def paint_layer(mask: npt.NDArray[np.float32], size_px: int, opacity: float) -> Image.Image:
    """Return mask (h, w) as a square RGBA layer in the painter's colour."""
    small = Image.fromarray(((mask > 0) * round(255 * opacity)).astype(np.uint8))
    layer = Image.new("RGBA", (size_px, size_px), (*TINT, 0))
    layer.putalpha(small.resize((size_px, size_px), Image.Resampling.NEAREST))
    return layer


def _outline(inside: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Return the pixels outside that lie within `reach` of the inside, along rows and columns."""
    grown = inside.copy()
    for _ in range(reach):
        padded = np.pad(grown, 1)
        grown = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1]
        grown |= padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown & ~inside
