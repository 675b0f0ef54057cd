"""Generators whose local directions are known, or whose architecture is another one."""

import torch
from torch import nn

from pipelines.directions import LatentSpace
from pipelines.noise import seeded_noise

CELLS = ("left top", "right top", "left bottom", "right bottom")


class Quarters:
    """Four quarters of a picture, each moved by one axis of a rotated space, in two layers.

    Quarter k shows tanh of (R_0 w_0)_k in red and of (R_1 w_1)_k in green, so that what moves it
    and nothing else is R_l' e_k in each layer, and only that.
    """

    fingerprint = "quarters"
    spaces = {"w": LatentSpace((4, 4), is_shared=True), "w+": LatentSpace((4, 4))}

    def __init__(self, seed=0, *, alike=False):
        source = torch.Generator().manual_seed(seed)
        self.rotations = [torch.linalg.qr(torch.randn(4, 4, generator=source))[0] for _ in range(2)]
        if alike:
            self.rotations[1] = self.rotations[0]

    def draw(self, space, seeds):
        like = torch.zeros(())
        first, second = (
            0.5 * seeded_noise((4,), [2 * seed + i for seed in seeds], like) for i in (0, 1)
        )
        return (first, first) if space == "w" else (first, second)

    def features(self, space, codes):
        pairs = zip(codes, self.rotations, strict=True)
        planes = [torch.tanh(code @ turn.T).view(-1, 2, 2) for code, turn in pairs]
        coarse = torch.stack([*planes, torch.zeros_like(planes[0])], 1)  # (B, 3, 2, 2)
        image = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return image, [coarse, image]

    def truth(self, part):
        return [turn[CELLS.index(part)] for turn in self.rotations]


class QuarterParser:
    """Knows the quarters of every picture, and a part that is on none."""

    parts = (*CELLS, "nothing")

    def part_masks(self, images, part):
        side = images.shape[-1] // 2
        masks = images.new_zeros(len(images), 5)
        masks[:, self.parts.index(part)] = 1
        cells = masks[:, :4].view(-1, 2, 2)
        return cells.repeat_interleave(side, 1).repeat_interleave(side, 2)


class DCGAN(nn.Module):
    """A generator without styles: a code, four transposed convolutions (Radford et al. 2016)."""

    fingerprint = "dcgan"
    spaces = {"z": LatentSpace((10,))}

    def __init__(self):
        super().__init__()
        widths = (10, 16, 12, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(a, b, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            )
            for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        )
        self.colours = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def draw(self, space, seeds):
        return (seeded_noise((10,), seeds, self.colours.bias),)

    def features(self, space, codes):
        x, seen = codes[0][:, :, None, None], []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return self.colours(x).tanh(), seen
