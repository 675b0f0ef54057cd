"""BiSeNet as zllrunning/face-parsing.PyTorch has it, whose published faces are 79999_iter.pth.

Yu, Wang, Peng, Gao, Yu, Sang. BiSeNet: Bilateral segmentation network for real-time semantic
segmentation. ECCV 2018, arXiv 1808.00897; that code takes the features of a ResNet-18 at an eighth
of the size for the spatial path. Modules have the checkpoint's names, so that it loads as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from transformers import PretrainedConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from pipelines import weights

FILE = "79999_iter.pth"
LABELS = (  # of CelebAMask-HQ, in the order of that code's training
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
_TRAINING_ONLY = ("conv_out16.", "conv_out32.")  # further outputs, for losses


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Refinement(nn.Module):
    """Features weighted by what their mean says."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _Conv(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        mean = x.mean((2, 3), keepdim=True)
        return x * self.bn_atten(self.conv_atten(mean)).sigmoid()


class _Context(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resnet = resnet18(weights=None)
        del self.resnet.fc
        self.arm16, self.arm32 = _Refinement(256, 128), _Refinement(512, 128)
        self.conv_head32, self.conv_head16 = _Conv(128, 128, 3), _Conv(128, 128, 3)
        self.conv_avg = _Conv(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ResNet's features and the context, both at an eighth of the size."""
        net = self.resnet
        eighth = net.layer2(net.layer1(net.maxpool(F.relu(net.bn1(net.conv1(x))))))
        sixteenth = net.layer3(eighth)
        last = net.layer4(sixteenth)
        seen = self.arm32(last) + self.conv_avg(last.mean((2, 3), keepdim=True))
        seen = self.conv_head32(F.interpolate(seen, sixteenth.shape[-2:]))
        seen = self.arm16(sixteenth) + seen
        return eighth, self.conv_head16(F.interpolate(seen, eighth.shape[-2:]))


class _Fusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convblk = _Conv(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], 1))
        return x + x * self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))).sigmoid()


class _Output(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = _Conv(256, 256, 3)
        self.conv_out = nn.Conv2d(256, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv_out(self.conv(x))
        return logits


class BiSeNet(nn.Module):
    """A parser of faces that answers as the segmenters of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig(id2label=dict(enumerate(LABELS)))
        self.cp, self.ffm, self.conv_out = _Context(), _Fusion(), _Output(len(LABELS))

    def forward(self, images: Tensor) -> SemanticSegmenterOutput:
        """Return logits (B, 19, H, W) of images (B, 3, H, W) in ImageNet's range."""
        logits = self.conv_out(self.ffm(*self.cp(images)))  # (B, 19, H / 8, W / 8)
        size = images.shape[-2:]
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
        return SemanticSegmenterOutput(logits=logits)


def open_bisenet(file: Path) -> BiSeNet:
    """Load the published checkpoint.

    Raises:
        InputError: it would run code, or is damaged, incomplete or of another architecture.
    """
    tensors = weights.read_tensors(file)
    network = BiSeNet()
    kept = {name: one for name, one in tensors.items() if not name.startswith(_TRAINING_ONLY)}
    weights.load_tensors(network, kept, file)
    return network
