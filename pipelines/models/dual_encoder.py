"""A CLIP (Radford et al. 2021, arXiv 2103.00020): one open_clip network with its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.nn import functional as F

from pipelines import hub, weights
from pipelines.devices import Device
from pipelines.models.image_towers import quickened

WEIGHTS = "open_clip_model.safetensors"


class DualEncoder:
    """Pictures and texts in one space of unit vectors; never modified once it is made.

    It takes the network over and rewrites its image encoder for speed (`image_towers`).

    Attributes:
        name: the folder's name, or that of a published architecture.
        image_size_px: side of the square that the image encoder sees.
        dim: D, the length of an embedding.
    """

    def __init__(
        self, network: open_clip.CLIP, tokenizer: Callable[..., Tensor], *, name: str,
        fingerprint: str,
    ) -> None:  # fmt: skip
        self.network = quickened(network.eval()).requires_grad_(False)
        self.tokenizer = tokenizer
        self.name, self.fingerprint = name, fingerprint
        size = network.visual.preprocess_cfg["size"]  # a side, or height and width
        self.image_size_px = int(size if isinstance(size, int) else size[0])
        self.dim = int(network.text_projection.shape[-1])

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> DualEncoder:
        """Load an open_clip folder; safetensors only, nothing downloaded.

        It computes in float32: FlexIT follows gradients through it.
        """
        if not (folder / WEIGHTS).is_file():
            raise ValueError(f"{folder} has no {WEIGHTS}")
        source = f"local-dir:{folder}"
        network = open_clip.create_model(source, precision="fp32", device=device.torch_device)
        return cls(
            network.to(memory_format=torch.channels_last),
            open_clip.get_tokenizer(source),
            name=folder.name,
            fingerprint=weights.fingerprint(folder),
        )

    @classmethod
    def from_pretrained(cls, folder: Path, device: Device, architecture: str) -> DualEncoder:
        """Load published weights under open_clip's name of their architecture, in float32.

        The name decides the activation function. OpenAI's weights need one that ends with
        "-quickgelu": under the plain name they load just as well and embed wrongly.

        Raises:
            InputError: the weights are damaged or of another architecture.
        """
        path = hub.weights_in(folder, WEIGHTS)
        network = untrained(architecture)
        weights.load_tensors(network, weights.read_tensors(path), path)
        return cls(
            network.to(device.torch_device),
            open_clip.get_tokenizer(architecture),
            name=architecture.removesuffix("-quickgelu"),
            fingerprint=weights.fingerprint(folder),
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.logit_scale.device

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.network.parameters())

    def embed_images(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of square images (B, 3, H, H) in [-1, 1]; differentiable."""
        return self.embed_prepared(self.preprocess(images))

    def embed_prepared(self, prepared: Tensor) -> Tensor:
        """Return unit vectors (B, D) of what `preprocess` returned; differentiable."""
        return F.normalize(self.network.encode_image(prepared), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (B, D) of texts; the part beyond the context length is cut."""
        ids = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(self.network.encode_text(ids), dim=-1)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return what the image encoder takes: resized with antialiasing, standardised."""
        settings = self.network.visual.preprocess_cfg
        size = (self.image_size_px, self.image_size_px)
        images = images.to(self.device)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        mean, std = (images.new_tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
        return ((images + 1) / 2 - mean) / std


def untrained(architecture: str) -> open_clip.CLIP:
    """Return a published architecture with random weights, and with OpenAI's way to prepare."""
    network = open_clip.CLIP(**open_clip.get_model_config(architecture))
    network.visual.preprocess_cfg = {
        "size": network.visual.image_size,
        "mean": OPENAI_DATASET_MEAN,
        "std": OPENAI_DATASET_STD,
    }
    return network
