"""Which toy is where: a SegFormer over the classes of the toy scenes.

Scores layouts, and is the external classifier that ZestGuide is compared with. It shares no weight
with the scene model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerForSemanticSegmentation

from pipelines.data.captions import parse
from pipelines.devices import Device
from pipelines.images import to_tensor


class Segmenter(nn.Module):
    """A SegFormer (Xie et al. 2021, arXiv 2105.15203) whose class 0 is the background."""

    def __init__(self, network: SegformerForSemanticSegmentation) -> None:
        """Wrap a network whose config names its classes in id2label."""
        super().__init__()
        self.network = network
        labels: dict[int, str] = network.config.id2label
        self.classes = [labels[i] for i in range(1, len(labels))]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 1 + K, H, W) of images (B, 3, H, W) in [-1, 1]."""
        logits = self.network(images).logits  # (B, 1 + K, H / 4, W / 4)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")

    @torch.no_grad()
    def class_map(self, image: Image.Image) -> npt.NDArray[np.int64]:
        """Return the class of each pixel of a square RGB picture: 0, or 1 + index in `classes`."""
        pixels = to_tensor([image], image.width).to(self.network.device)
        seen = self(pixels).argmax(1)[0]
        return np.asarray(seen.cpu())

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> Self:
        """Load the network; it always computes in float32."""
        network = SegformerForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        return cls(network).float().eval().requires_grad_(False).to(device.torch_device)


class SceneSegmenter(Segmenter):
    """The segmenter of toy scenes, whose classes are words of their captions."""

    def class_of(self, phrase: str) -> int | None:
        """Return the index in logits of the thing that a phrase names first; None for none."""
        named = [thing.class_name for thing in parse(phrase).things]
        return 1 + self.classes.index(named[0]) if named and named[0] in self.classes else None
