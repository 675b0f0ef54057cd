"""Recipes: what a picture was made from, complete enough to make its bytes again."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from pipelines.models.latent_diffusion import LatentDiffusion

PNG_KEY = "parameters"
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow", "gradio")


def fingerprint(image: Image.Image) -> str:
    """Return a hash of the size and pixels of an RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:32]


def mask_text(mask: npt.NDArray[np.float32]) -> str:
    """Return a mask (H, W), 1 = edit, as the base64 of a PNG with one bit a pixel."""
    buffer = io.BytesIO()
    Image.fromarray(mask > 0).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def labels_text(labels: npt.NDArray[np.uint8]) -> str:
    """Return a label map (H, W) as the base64 of a grey PNG whose values are the labels."""
    return png_text(Image.fromarray(labels))


def png_text(image: Image.Image) -> str:
    """Return the base64 of a picture's PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def mask_from_text(text: str) -> npt.NDArray[np.float32]:
    """Return the mask that `mask_text` wrote."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("1"), np.float32)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the bytes."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def made_with(pack_name: str, model: LatentDiffusion) -> dict[str, Any]:
    """Return the part of a recipe that says which networks, where, in which number format."""
    return {
        "pack": pack_name,
        "model": model.fingerprint,
        "weights": model.origin,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "versions": versions(),
    }


def embedded(image: Image.Image, recipe: Mapping[str, object]) -> Image.Image:
    """Return the picture with its recipe, which a PNG file carries along."""
    carrying = image.copy()
    carrying.info = {PNG_KEY: json.dumps(recipe, ensure_ascii=True)}
    return carrying


def pretty(recipe: Mapping[str, object]) -> str:
    """Return the recipe as a person reads it."""
    return json.dumps(recipe, indent=2, ensure_ascii=False)


def change_outside(
    before: Image.Image, after: Image.Image, mask: npt.NDArray[np.float32]
) -> tuple[float, int] | None:
    """Return (mean absolute change in 0..255, changed pixels) where mask (H, W) is 0.

    None where the mask leaves nothing outside.
    """
    outside = mask == 0
    if not outside.any():
        return None
    change = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16))[outside]  # (N, 3)
    return float(change.mean()), int((change.max(axis=1) > 0).sum())
