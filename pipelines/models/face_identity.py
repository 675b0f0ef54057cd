"""Who is in a picture of a clay face: a unit vector that keeps through expression and dress.

What plays ArcFace's part (Deng et al. 2019) in losses and measurements. `data.people` says what
makes a person in this world.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.devices import Device
from pipelines.models.face_features import FaceReader
from pipelines.models.storage import load_module, nbytes_of, save_module


class FaceIdentity(nn.Module):
    """Pictures to unit vectors; the cosine of two says how alike the persons are."""

    def __init__(self, *, width: int = 48, hidden: int = 192, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.reader = FaceReader(dim, width=width, hidden=hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, dim) of images (B, 3, H, H) in [-1, 1]; differentiable."""
        return F.normalize(self.reader(images), dim=1)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors in float16."""
        reader = self.reader
        config = {"width": reader.width, "hidden": reader.hidden, "dim": self.dim}
        save_module(self, folder, config)

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> FaceIdentity:
        """Load what `save` wrote; it always computes in float32."""
        return load_module(cls, folder, device)
