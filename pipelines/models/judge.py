"""The judge of toy scenes: which classes are seen, in which colour, and where.

Used for evaluation only; it shares no weight with any network that is judged.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.devices import Device


@dataclass(frozen=True)
class Verdict:
    """Logits for B images: presence (B, K), colour (B, K, C), place (B, P), maps (B, K, h, w).

    A class is seen where its presence logit is positive; its colour is the argmax of C named
    colours and, last, the class's natural one. `maps` say where each class is seen.
    """

    presence: Tensor
    colour: Tensor
    place: Tensor
    maps: Tensor


def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Return convolution, normalisation, rectifier."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class SceneJudge(nn.Module):
    """A small convolutional network with one attention map per class.

    Each class looks for itself (its map's peak is its presence) and its colour is read from the
    features under its own map, so that the colours of two things do not mix.
    """

    def __init__(
        self, classes: list[str], colours: list[str], places: list[str], width: int = 128
    ) -> None:
        super().__init__()
        self.classes, self.colours, self.places = list(classes), list(colours), list(places)
        self.width = width
        self.early = nn.Sequential(
            nn.PixelUnshuffle(4),
            block(48, width // 2, 1),
            block(width // 2, width // 2, 2),
            block(width // 2, width // 2, 1),
        )
        self.late = nn.Sequential(
            block(width // 2, width, 1), block(width, width, 1), block(width, width, 1)
        )
        self.maps = nn.Conv2d(width, len(classes), 1)
        self.coarse = nn.Conv2d(width // 2, width, 1)
        self.class_embedding = nn.Parameter(torch.randn(len(classes), width) * 0.1)
        self.colour = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(colours) + 1)
        )
        self.place = nn.Linear(2 * width, len(places))

    def forward(self, images: Tensor) -> Verdict:
        """Return the verdict on images (B, 3, 128, 128) in [-1, 1]."""
        early = self.early(images)  # (B, width/2, 16, 16)
        late = self.late(early)  # (B, width, 16, 16)
        planes = self.maps(late)  # (B, K, 16, 16)
        maps = planes.flatten(2)  # (B, K, 256)
        presence = maps.logsumexp(-1) - math.log(maps.shape[-1])
        attention = maps.mul(2).softmax(-1)  # (B, K, 256)
        fine = self.coarse(early).flatten(2)  # (B, width, 256)
        seen = torch.einsum("bkn,bcn->bkc", attention, fine)
        colour = self.colour(seen + self.class_embedding)
        pooled = torch.cat([late.mean((2, 3)), late.amax((2, 3))], 1)
        return Verdict(presence, colour, self.place(pooled), planes)

    def describe(self, images: Tensor) -> Tensor:
        """Return the last features, averaged over the picture, (B, width)."""
        return self.late(self.early(images)).mean((2, 3))

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> SceneJudge:
        """Load the judge; it always computes in float32."""
        config = json.loads((folder / "config.json").read_text())
        judge = cls(**config)
        judge.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        return judge.float().eval().requires_grad_(False).to(device.torch_device)
