"""The published encoder from photographed faces to codes of W+ (e4e_ffhq_encode.pt).

Tov, Alaluf, Nitzan, Patashnik, Cohen-Or. Designing an encoder for StyleGAN image manipulation.
SIGGRAPH 2021, arXiv 2102.02766. The layout is that of omertov/encoder4editing: a dict of `opts`,
`state_dict` (the encoder's tensors after "encoder.", a copy of the generator's after "decoder.",
which is left) and `latent_avg`. Modules have the checkpoint's names. The backbone is ArcFace's
IR-SE50; every width is read off the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines import weights
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models.storage import nbytes_of
from pipelines.models.stylegan2 import Linear

INPUT_PX = 256
BLOCKS = (3, 4, 14, 3)  # of IR-SE50
SQUEEZE = 16
COARSE, MIDDLE = 3, 7  # layers of W+ below these read the coarse, the middle features
_TAKEN = (6, 20)  # blocks after which the fine and the middle features are taken
_WIDTH, _CODE = "input_layer.0.weight", "styles.0.linear.weight"


class _Squeeze(nn.Module):
    """Features weighted by what their mean says (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // SQUEEZE, 1, bias=False)
        self.fc2 = nn.Conv2d(width // SQUEEZE, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        widened = nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride) if inputs == outputs else nn.Sequential(*widened)
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            _Squeeze(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class _Style(nn.Module):
    """From features of a side to one code, by convolutions that halve it."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(side))):
            layers.append(nn.Conv2d(outputs if i else inputs, outputs, 3, 2, padding=1))
            layers.append(nn.LeakyReLU())
        self.convs = nn.Sequential(*layers)
        self.linear = Linear(outputs, outputs, equalised=True)

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class E4E(nn.Module):
    """E: pictures to latent_avg + w, and to latent_avg + w + offset_i in the layers i = 1 .. L - 1.

    `width` is that of the first features, doubled at every further stage.
    """

    def __init__(self, w_layers: int, w_dim: int, width: int = 64) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.body = nn.Sequential(
            *(
                _Bottleneck(b if i else a, b, 1 if i else 2)
                for a, b, count in zip(widths, widths[1:], BLOCKS, strict=False)
                for i in range(count)
            )
        )
        last, sides = widths[-1], [16] * COARSE + [32] * (MIDDLE - COARSE)
        sides += [64] * (w_layers - len(sides))
        self.styles = nn.ModuleList(_Style(last, w_dim, side) for side in sides[:w_layers])
        self.latlayer1 = nn.Conv2d(widths[3], last, 1)
        self.latlayer2 = nn.Conv2d(widths[2], last, 1)
        self.register_buffer("latent_avg", torch.zeros(w_layers, w_dim))
        self.latent_avg: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return codes (B, L, w_dim) of aligned faces (B, 3, H, H) in [-1, 1]."""
        size = INPUT_PX, INPUT_PX
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
        x, taken = self.input_layer(images), []
        for i, block in enumerate(self.body):
            x = block(x)
            taken += [x] if i in _TAKEN else []
        coarse, (fine, middle) = x, taken
        middle = _above(coarse, self.latlayer1(middle))
        fine = _above(middle, self.latlayer2(fine))
        levels = [coarse if i < COARSE else middle if i < MIDDLE else fine
                  for i in range(len(self.styles))]  # fmt: skip
        first, *offsets = (style(seen) for style, seen in zip(self.styles, levels, strict=True))
        codes = torch.stack([first, *(first + offset for offset in offsets)], 1)
        return codes + self.latent_avg

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    @classmethod
    def from_published(cls, folder: Path, device: Device) -> E4E:
        """Load the checkpoint in a folder; it always computes in float32.

        Raises:
            InputError: there is none, it would run code, it is damaged or incomplete, or it is
                another encoder's.
        """
        files = sorted(folder.rglob("e4e*.pt"))
        if not files:
            raise InputError(f"{folder} has no checkpoint of e4e (e4e_ffhq_encode.pt).")
        tensors = _encoder_of(weights.read_checkpoint(files[0]), files[0])
        model = cls(len(tensors["latent_avg"]), len(tensors[_CODE]), len(tensors[_WIDTH]))
        weights.load_tensors(model, tensors, files[0])
        return model.float().eval().requires_grad_(False).to(device.torch_device)


def _above(coarser: Tensor, lateral: Tensor) -> Tensor:
    size = lateral.shape[-2:]
    return F.interpolate(coarser, size, mode="bilinear", align_corners=True) + lateral


def _encoder_of(checkpoint: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the encoder's tensors, and latent_avg, of a checkpoint of the published layout.

    Raises:
        InputError: it has another layout, or belongs to another encoder.
    """
    absent = [name for name in ("opts", "state_dict", "latent_avg") if name not in checkpoint]
    if absent:
        raise InputError(
            f"{file} has no “{absent[0]}”: it is no encoder in the layout of "
            "omertov/encoder4editing. Choose the file that belongs to this model."
        )
    opts = checkpoint["opts"]
    kind = opts.get("encoder_type") if isinstance(opts, Mapping) else None
    if kind != "Encoder4Editing":
        raise InputError(
            f"{file} is of the encoder “{kind}”, not of e4e (“Encoder4Editing”), whose codes can "
            "be edited. Choose the file that belongs to this model."
        )
    named = checkpoint["state_dict"].items()
    tensors = {
        name.removeprefix("encoder."): one for name, one in named if name.startswith("encoder.")
    }
    for name in (_WIDTH, _CODE):
        if name not in tensors:
            raise InputError(f"{file} is not complete: its encoder has no “{name}”.")
    average = checkpoint["latent_avg"]
    layers = len({name.split(".")[1] for name in tensors if name.startswith("styles.")})
    average = average if average.ndim == 2 else average.repeat(layers, 1)
    return tensors | {
        "latent_avg": average if opts.get("start_from_latent_avg", True) else 0 * average
    }
