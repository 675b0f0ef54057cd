"""The network of the VQGAN release in few lines, with its names: an oracle for the loader."""

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS, LATENTS, CODES = 32, 8, 16
MULTIPLES = (1, 1, 2)  # the release has (1, 1, 2, 2, 4); its last level attends, as here


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attend(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))  # (B, C, H*W)
        weights = (q.transpose(1, 2) @ k * len(q[0]) ** -0.5).softmax(-1)  # (B, H*W, H*W)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.block_2 = Block(channels, channels), Block(channels, channels)
        self.attn_1 = Attend(channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


def level(widths, attends):
    part = nn.Module()
    part.block = nn.ModuleList(Block(a, b) for a, b in zip(widths, widths[1:], strict=False))
    part.attn = nn.ModuleList(Attend(width) for width in widths[1:] if attends)
    return part


def through(part, x):
    for j, block in enumerate(part.block):
        x = block(x)
        x = part.attn[j](x) if len(part.attn) else x
    return x


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [CHANNELS, *(CHANNELS * m for m in MULTIPLES)]
        self.conv_in = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            is_last = i == len(MULTIPLES) - 1
            self.down.append(level((a, b, b), is_last))
            if not is_last:
                self.down[i].downsample = nn.Module()
                self.down[i].downsample.conv = nn.Conv2d(b, b, 3, stride=2)
        self.mid, self.norm_out = Middle(widths[-1]), norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], LATENTS, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for part in self.down:
            x = through(part, x)
            if hasattr(part, "downsample"):
                x = part.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [CHANNELS * m for m in MULTIPLES]
        before = [*widths[1:], widths[-1]]  # what level i gets from the level above it
        self.conv_in = nn.Conv2d(LATENTS, widths[-1], 3, padding=1)
        self.mid, self.norm_out = Middle(widths[-1]), norm(widths[0])
        self.up = nn.ModuleList()
        for i, (a, b) in enumerate(zip(before, widths, strict=True)):
            self.up.append(level((a, b, b, b), i == len(MULTIPLES) - 1))
            if i:
                self.up[i].upsample = nn.Module()
                self.up[i].upsample.conv = nn.Conv2d(b, b, 3, padding=1)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z):
        x = self.mid(self.conv_in(z))
        for part in reversed(self.up):
            x = through(part, x)
            if hasattr(part, "upsample"):
                x = part.upsample.conv(F.interpolate(x, scale_factor=2.0))
        return self.conv_out(F.silu(self.norm_out(x)))


class Release(nn.Module):
    """`encode` and `decode` without the codebook, as FlexIT uses them."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder, self.decoder = Encoder(), Decoder()
            self.quantize = nn.Module()
            self.quantize.embedding = nn.Embedding(CODES, LATENTS)
            self.quant_conv = nn.Conv2d(LATENTS, LATENTS, 1)
            self.post_quant_conv = nn.Conv2d(LATENTS, LATENTS, 1)

    def encode(self, images):
        return self.quant_conv(self.encoder(images))

    def decode(self, latents):
        return self.decoder(self.post_quant_conv(latents))


def save(path):
    """Write a Lightning checkpoint as the release's: tensors, the discriminator's, a class."""
    release = Release().eval()
    tensors = {**release.state_dict(), "loss.discriminator.main.0.weight": torch.ones(3)}
    torch.save({"epoch": 4, "global_step": 7, "state_dict": tensors}, path)
    return release
