"""Which toy is where: a SegFormer over the classes of the toy scenes.

Scores layouts, and is the external classifier that ZestGuide is compared with. It shares no weight
with the scene model.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerForSemanticSegmentation

from pipelines.devices import Device


class SceneSegmenter(nn.Module):
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

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> SceneSegmenter:
        """Load the network; it always computes in float32."""
        network = SegformerForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        return cls(network).float().eval().requires_grad_(False).to(device.torch_device)
