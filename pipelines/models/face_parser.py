"""Which part of a face is where: a SegFormer over the parts of clay heads.

LELSD takes its masks from it. Labels are found by name, in whatever order a network has them: those
of the clay faces, or of CelebAMask-HQ (Lee et al. 2020, arXiv 1907.11922), whose published parsers
disagree about the order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import SegformerForSemanticSegmentation

from pipelines.models.segmenter import Segmenter

# CelebAMask-HQ's labels by the part that they belong to, where the names differ.
CELEBAMASK = {
    "brows": ("l_brow", "r_brow"),
    "eyes": ("l_eye", "r_eye"),
    "glasses": ("eye_g",),
    "ears": ("l_ear", "r_ear"),
    "earrings": ("ear_r",),
    "lips": ("u_lip", "l_lip"),
    "necklace": ("neck_l",),
}


class FaceParser(Segmenter):
    """A segmenter whose classes are grouped to the parts that directions are for."""

    size_px = 128  # of the pictures that it learnt from

    def __init__(self, network: SegformerForSemanticSegmentation) -> None:
        """Wrap a network whose config names its classes in id2label."""
        super().__init__(network)
        part_of = {label: part for part, labels in CELEBAMASK.items() for label in labels}
        self.labels: dict[str, list[int]] = {}
        for index, name in enumerate(self.classes, 1):
            self.labels.setdefault(part_of.get(name, name), []).append(index)

    @property
    def parts(self) -> tuple[str, ...]:
        """What it can find."""
        return tuple(self.labels)

    @torch.no_grad()
    def part_masks(self, images: Tensor, part: str) -> Tensor:
        """Return where a part is, (B, H, W) in {0, 1}, in images (B, 3, H, W) in [-1, 1]."""
        return self.masks_in(self(images).argmax(1), part)

    def masks_in(self, seen: Tensor, part: str) -> Tensor:
        """Return where a part is, (B, H, W) in {0, 1}, in label maps (B, H, W) read before."""
        return torch.isin(seen, torch.tensor(self.labels[part], device=seen.device)).float()
