"""How different two pictures look: LPIPS over features that were trained for this world.

Zhang, Isola, Efros, Shechtman, Wang. The unreasonable effectiveness of deep features as a
perceptual metric. CVPR 2018, arXiv 1801.03924. The network is the `lpips` package's own. The
toybox reads nothing of its published weights; photo packs do (`from_published`).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import lpips
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipelines import hub
from pipelines.devices import Device
from pipelines.weights import check_safetensors, fingerprint, load_tensors, read_tensors

NETS = ("squeeze", "alex")
PUBLISHED = "vgg"
"""The backbone of FlexIT's loss, read as torchvision published it."""
LAYER_WEIGHTS = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{PUBLISHED}.pth"


class Perceptual:
    """The distance of one `lpips.LPIPS` network, in evaluation mode and never modified."""

    def __init__(self, network: lpips.LPIPS, *, fingerprint: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.fingerprint = fingerprint

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> Perceptual:
        """Load `config.json` ({"net"}) and `model.safetensors`; always computes in float32."""
        network = untrained(json.loads((folder / "config.json").read_text())["net"], "meta")
        weights = {k: w.float() for k, w in load_file(folder / "model.safetensors").items()}
        again = {f"lins.{k[3:]}": w for k, w in weights.items() if k.startswith("lin")}
        network.load_state_dict(weights | again, strict=True, assign=True)
        network.to(device.torch_device, memory_format=torch.channels_last)
        return cls(network, fingerprint=fingerprint(folder))

    @classmethod
    def from_published(cls, folder: Path, device: Device) -> Perceptual:
        """Load LPIPS v0.1 in float32: a backbone from timm's copy, layer weights from `lpips`.

        Raises:
            InputError: the backbone is damaged or another network.
        """
        path = hub.weights_in(folder, "model.safetensors")
        check_safetensors(path)
        features = {
            name.removeprefix("features."): w.float()
            for name, w in read_tensors(path).items()
            if name.startswith("features.")
        }
        lins = {f"lins.{k[3:]}": w for k, w in read_tensors(LAYER_WEIGHTS).items()}
        network = untrained(PUBLISHED, "meta")
        slices = (name for name in network.state_dict() if name.startswith("net."))
        places = {name.split(".", 2)[2]: name for name in slices}  # "0.weight": "net.slice1.0..."
        tensors = {places.get(name, name): w for name, w in features.items()}
        lin = {f"lin{k[5:]}": w for k, w in lins.items()}
        scaling = {f"scaling_layer.{k}": w for k, w in lpips.ScalingLayer().state_dict().items()}
        network.to_empty(device="cpu")
        load_tensors(network, {**tensors, **lin, **lins, **scaling}, path)
        return cls(network.to(device.torch_device), fingerprint=fingerprint(folder, [path]))

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.network.parameters())

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return unit-norm features, one (B, C, h, w) a layer, of images (B, 3, H, W) in [-1, 1].

        `distance_to` compares further pictures with them, so that a reference is read once.
        """
        layers = self.network.net(self.network.scaling_layer(images))
        return tuple(lpips.normalize_tensor(layer) for layer in layers)

    def distance_to(self, features: tuple[Tensor, ...], images: Tensor) -> Tensor:
        """Return the distance (B,) of images to the pictures that `features` were computed from.

        Sum over layers of the mean over positions of w_l . (difference)^2 (eq. 1).
        """
        pairs = zip(self.network.lins, features, self.features(images), strict=True)
        return sum(weigh((a - b).square()).mean((1, 2, 3)) for weigh, a, b in pairs)

    def distance(self, images_a: Tensor, images_b: Tensor) -> Tensor:
        """Return the distance (B,) of two batches (B, 3, H, W) in [-1, 1]; differentiable."""
        return self.distance_to(self.features(images_a), images_b)


def untrained(net: str, device: str = "cpu") -> lpips.LPIPS:
    """Return the `lpips` network of a backbone without any weights read.

    Raises:
        ValueError: another backbone.
    """
    if net not in (*NETS, PUBLISHED):
        raise ValueError(f"net must be one of {(*NETS, PUBLISHED)}, got {net!r}")
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")  # lpips calls torchvision by a deprecated argument
        return lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)


def stored(network: lpips.LPIPS) -> dict[str, Tensor]:
    """Return what `from_folder` reads: weights in float16, each once, and the input scaling."""
    weights = {name: w.detach().half().contiguous() for name, w in network.named_parameters()}
    return weights | dict(network.named_buffers())
