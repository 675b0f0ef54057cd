"""Adaptation heads of SIMAT: a linear layer for pictures and one for texts, behind a frozen CLIP.

Ours are safetensors and JSON. The published ones are pickles of `nn.Linear`: they are read through
an allow-list, and nothing is taken from them but weights and biases.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.devices import Device
from pipelines.errors import InputError

EPSILON = 0.01  # share of the usual initialisation around the identity
WEIGHTS, FACTS = "heads.safetensors", "heads.json"


class AdaptationHeads(nn.Module):
    """h_img and h_txt (Couairon et al. 2022, sec. 3.3.3), both D -> D."""

    def __init__(self, dim: int) -> None:
        """Make identity heads without bias."""
        super().__init__()
        self.image, self.text = nn.Linear(dim, dim), nn.Linear(dim, dim)
        with torch.no_grad():
            for head in (self.image, self.text):
                nn.init.eye_(head.weight)
                nn.init.zeros_(head.bias)

    @classmethod
    def near_identity(cls, dim: int, generator: torch.Generator) -> AdaptationHeads:
        """Return heads at the start of training: identity + EPSILON x the usual initialisation."""
        heads = cls(dim)
        with torch.no_grad():
            for parameter in heads.parameters():
                noise = torch.rand(parameter.shape, generator=generator) * 2 - 1
                parameter += EPSILON * noise / math.sqrt(dim)
        return heads

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.parameters())


def save_heads(
    folder: Path, heads: Mapping[str, AdaptationHeads], facts: Mapping[str, Any]
) -> None:
    """Write the heads of one CLIP by their temperature, float16, and what is known about them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{tau}.{name}": value.detach().half().contiguous()
        for tau, pair in heads.items()
        for name, value in pair.state_dict().items()
    }
    temporary = folder / f"{WEIGHTS}.part"
    save_file(weights, temporary)
    temporary.replace(folder / WEIGHTS)
    dim = next(iter(heads.values())).image.in_features
    known = {"temperatures": list(heads), "dim": dim, **facts}
    (folder / FACTS).write_text(json.dumps(known, indent=2) + "\n")


def load_heads(folder: Path) -> tuple[dict[str, AdaptationHeads], dict[str, Any]]:
    """Return the heads of one CLIP by their temperature, float32, and what is known about them."""
    facts = json.loads((folder / FACTS).read_text())
    weights = load_file(folder / WEIGHTS)
    heads = {}
    for tau in facts["temperatures"]:
        own = {
            name.removeprefix(f"{tau}."): value.float()
            for name, value in weights.items()
            if name.startswith((f"{tau}.image.", f"{tau}.text."))
        }
        heads[tau] = AdaptationHeads(facts["dim"])
        heads[tau].load_state_dict(own, strict=True)
        heads[tau].eval().requires_grad_(False)
    return heads, facts


# ---------------------------------------------------------------- what SIMAT published


@dataclass(frozen=True)
class PublishedHeads:
    """Heads of the SIMAT release by their temperature, as text."""

    by_tau: Mapping[str, AdaptationHeads]

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> PublishedHeads:
        """Load every `head_clip_t=*.pt`; they stay on the CPU, as the vectors do.

        Raises:
            InputError: a file holds anything but two linear layers.
        """
        found = {
            path.name.removeprefix(_BEFORE_TAU).removesuffix(_AFTER_TAU): path
            for path in sorted(folder.glob(f"{_BEFORE_TAU}*{_AFTER_TAU}"))
        }
        return cls({tau: load_published_heads(path) for tau, path in found.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(heads.nbytes for heads in self.by_tau.values())


def load_published_heads(path: Path) -> AdaptationHeads:
    """Return heads of the SIMAT release (data/head_clip_t=0.1.pt): pickled linear layers.

    Raises:
        InputError: no such file, or it holds anything but two linear layers and tensors.
    """
    content = _unpickled(path, [nn.Linear])
    layers = [content.get(name) if isinstance(content, dict) else None for name in _PUBLISHED]
    shapes = [_shape(layer) for layer in layers]
    if shapes[0] is None or shapes[0] != shapes[1] or shapes[0][0] != shapes[0][1]:
        raise InputError(f"{path.name} does not hold the two linear heads of SIMAT. {_WHAT_TO_DO}")
    heads = AdaptationHeads(shapes[0][0])
    for ours, theirs in zip((heads.image, heads.text), layers, strict=True):
        ours.load_state_dict({k: theirs._parameters[k].detach() for k in ("weight", "bias")})
    return heads.eval().requires_grad_(False)


def load_word_bank(path: Path) -> dict[str, Tensor]:
    """Return {word: text embedding (D,), not normalised} of the release (simat_words_clip.ptd).

    Raises:
        InputError: no such file, or it is no list of words with vectors.
    """
    content = _unpickled(path, [])
    if not isinstance(content, list) or not all(_is_word(entry) for entry in content):
        raise InputError(f"{path.name} is no list of words and their vectors. {_WHAT_TO_DO}")
    return {word: vector.detach().float() for word, vector in content}


_BEFORE_TAU, _AFTER_TAU = "head_clip_t=", ".pt"
_PUBLISHED = "img_head", "txt_head"
_WHAT_TO_DO = "Please take the file from github.com/facebookresearch/SIMAT, or leave it out."


def _unpickled(path: Path, allowed: list[type]) -> Any:
    """Return the content of a pickle of tensors and `allowed` classes; run nothing else."""
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path.name}. {_WHAT_TO_DO}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path.name} was not opened: it holds something other than weights, perhaps a "
            f"program. {_WHAT_TO_DO}"
        ) from error


def _shape(layer: object) -> tuple[int, ...] | None:
    """Return (out, in) of a linear layer whose parameters are tensors that fit, else None."""
    parameters = getattr(layer, "_parameters", None)
    if not isinstance(layer, nn.Linear) or not isinstance(parameters, dict):
        return None
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        return None
    fits = weight.ndim == 2 and bias.shape == weight.shape[:1]
    return tuple(weight.shape) if fits else None


def _is_word(entry: object) -> bool:
    is_pair = isinstance(entry, tuple) and len(entry) == 2
    return is_pair and isinstance(entry[0], str) and isinstance(entry[1], Tensor)
