"""From a picture to a code of W+: an encoder, and optimisation from its answer.

Tov, Alaluf, Nitzan, Patashnik, Cohen-Or. Designing an encoder for StyleGAN image manipulation.
SIGGRAPH 2021, arXiv 2102.02766 (e4e): one code w, and an offset for every further layer that
training lets in one after another and keeps small, so that codes stay near W, where they can be
edited. The convolutions are our own, a few instead of a ResNet-50.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.devices import Device
from pipelines.images import to_pil
from pipelines.models.face_features import LEVELS, POOLED_PX, FaceFeatures, flattened
from pipelines.models.perceptual import Perceptual
from pipelines.models.storage import load_module, nbytes_of, save_module
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.results import OnStep, Step

REFINE_STEPS = 40
REFINE_RATE = 0.02
NEAR = 0.05  # weight of the squared way from where a refinement started


class InversionEncoder(nn.Module):
    """E: pictures to w_avg + w, and to w_avg + w + offset_i in the layers i = 1 .. L - 1.

    A third of the layers, as in pSp (Richardson et al. 2021), reads from each level of features:
    the first from the coarsest.
    """

    def __init__(self, w_layers: int, w_dim: int, *, width: int = 96) -> None:
        super().__init__()
        self.w_layers, self.w_dim, self.width = w_layers, w_dim, width
        self.features = FaceFeatures(width)
        flat = width * POOLED_PX**2
        self.code = nn.Linear(flat, w_dim)
        self.offsets = nn.ModuleList(nn.Linear(flat, w_dim) for _ in range(w_layers - 1))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.w_avg: Tensor
        for offset in self.offsets:
            nn.init.zeros_(offset.weight)
            nn.init.zeros_(offset.bias)

    def forward(self, images: Tensor, stage: int | None = None) -> Tensor:
        """Return codes (B, L, w_dim) of images (B, 3, H, H) in [-1, 1].

        Only the layers up to `stage` have an offset, all if None; stage 0 answers in W.
        """
        coarse, *finer = [flattened(level) for level in reversed(self.features(images))]
        levels, codes = [coarse, *finer], [self.w_avg + self.code(coarse)]
        for i, offset in enumerate(self.offsets, start=1):
            is_open = stage is None or i <= stage
            level = levels[i * LEVELS // self.w_layers]
            codes.append(codes[0] + offset(level) if is_open else codes[0])
        return torch.stack(codes, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return nbytes_of(self)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors in float16."""
        names = ("w_layers", "w_dim", "width")
        save_module(self, folder, {name: getattr(self, name) for name in names})

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> InversionEncoder:
        """Load what `save` wrote; it always computes in float32."""
        return load_module(cls, folder, device)


@torch.no_grad()
def refine(
    generator: StyleGAN2,
    perceptual: Perceptual,
    images: Tensor,
    w_plus: Tensor,
    *,
    steps: int = REFINE_STEPS,
    rate: float = REFINE_RATE,
    on_step: OnStep | None = None,
) -> Tensor:
    """Return codes (B, L, w_dim) whose pictures are nearer to `images`, from `w_plus` on.

    Adam on LPIPS + L2 + NEAR * squared way in W+ (after Abdal et al. 2019, Image2StyleGAN, where
    the start is w_avg and nothing keeps the code near). Codes of a batch do not influence each
    other. A code never ends worse than it began. `on_step` may raise `Cancelled`.
    """
    wanted = perceptual.features(images)

    def distance(codes: Tensor) -> tuple[Tensor, Tensor]:
        made = generator.synthesis(codes)
        apart = perceptual.distance_to(wanted, made) + (made - images).square().mean((1, 2, 3))
        return apart + NEAR * (codes - w_plus).square().mean((1, 2)), made

    best, least = w_plus.clone(), w_plus.new_full((len(w_plus),), float("inf"))
    codes = w_plus.clone().requires_grad_()
    optimizer = torch.optim.Adam([codes], rate)
    for step in range(steps + 1):  # the last pass only measures
        with torch.enable_grad():
            losses, made = distance(codes)
            total = losses.sum()
        is_better = losses < least
        best = torch.where(is_better[:, None, None], codes, best)
        least = torch.where(is_better, losses, least)
        if step == steps:
            break
        (codes.grad,) = torch.autograd.grad(total, codes)
        optimizer.step()
        if on_step is not None:
            on_step(Step("refining", step + 1, steps, lambda made=made: to_pil(made[:1])[0]))
    return best.detach()
