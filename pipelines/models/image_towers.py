"""The image encoders of open_clip rewritten for speed: the same numbers up to rounding.

Weights that never change allow what training does not, and of the last layer only one token is
read. FlexIT, which follows gradients through these networks, takes the time of two thirds.

    batch normalisation   folded into the convolution before it
    patches               a product of matrices: a CPU's strided convolution is slow backwards
    self-attention        one product of matrices for queries, keys and values of all tokens
    last block            computes the class token alone
    attention pooling     projects one query and mixtures of tokens instead of every token

A tower of another class stays as it is.
"""

from __future__ import annotations

import open_clip
import torch
from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


def quickened(network: open_clip.CLIP) -> open_clip.CLIP:
    """Return the network, in evaluation mode, with its image encoder rewritten in place."""
    visual = network.visual
    if isinstance(visual, ModifiedResNet):
        for part in list(visual.modules()):
            if isinstance(part, ModifiedResNet | Bottleneck):
                fold_norms(part)
        visual.attnpool = Pool(visual.attnpool)
    elif isinstance(visual, VisionTransformer) and reads_class_token(visual):
        visual.conv1 = Patches(visual.conv1)
        blocks = visual.transformer.resblocks
        for block in blocks:
            block.attn = SelfAttention(block.attn)
        blocks[-1] = LastBlock(blocks[-1])
    return network


def reads_class_token(visual: VisionTransformer) -> bool:
    """Return whether a transformer is CLIP's own: plain blocks, and one token read of the last."""
    plain = all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    return plain and visual.attn_pool is None and visual.pool_type == "tok"


def fold_norms(part: ModifiedResNet | Bottleneck) -> None:
    """Fold the batch normalisations of a stem or a block into its convolutions, in place."""
    for i in (1, 2, 3):
        conv, norm = getattr(part, f"conv{i}"), getattr(part, f"bn{i}")
        setattr(part, f"conv{i}", fuse_conv_bn_eval(conv, norm))
        setattr(part, f"bn{i}", nn.Identity())
    if getattr(part, "downsample", None) is not None:
        shrink, conv, norm = part.downsample
        part.downsample = nn.Sequential(shrink, fuse_conv_bn_eval(conv, norm))


class Patches(nn.Module):
    """A convolution whose stride is its size, as a product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.side = conv.kernel_size[0]
        self.weight = nn.Parameter(conv.weight.flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K, cells) of images (B, 3, H, W)."""
        cells = F.unfold(images, self.side, stride=self.side)  # (B, 3 * side^2, cells)
        return F.linear(cells.transpose(1, 2), self.weight).transpose(1, 2)


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a sequence (B, L, D) with itself, without a mask."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.weight, self.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, x: Tensor, k: Tensor, v: Tensor, *, need_weights: bool, attn_mask: None
    ) -> tuple[Tensor, None]:
        """Return what the replaced module does; x, k and v are the same, and no weights needed."""
        return self.mixed(*F.linear(x, self.weight, self.bias).chunk(3, -1)), None

    def of_first(self, x: Tensor) -> Tensor:
        """Return (B, 1, D) of the first token."""
        width = x.shape[-1]
        query = F.linear(x[:, :1], self.weight[:width], self.bias[:width])
        others = F.linear(x, self.weight[width:], self.bias[width:])
        return self.mixed(query, *others.chunk(2, -1))

    def mixed(self, *projected: Tensor) -> Tensor:
        """Return (B, Q, D) of queries (B, Q, D), keys and values (B, L, D)."""
        qkv = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projected]
        return self.out_proj(F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))


class LastBlock(nn.Module):
    """A transformer's last block, whose attention is a `SelfAttention`, for its first token."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, attn_mask: None = None) -> Tensor:
        """Return (B, 1, D) of x (B, L, D)."""
        block = self.block
        token = x[:, :1] + block.ls_1(block.attn.of_first(block.ln_1(x)))
        return token + block.ls_2(block.mlp(block.ln_2(token)))


class Pool(nn.Module):
    """`AttentionPool2d`, for the query that is read: that of the tokens' mean.

    Its products with the keys, q . (W x + b) over the tokens x, are (W^T q) . x up to a constant,
    which softmax cancels; and the mixture of values W x is W times the mixture of x.
    """

    def __init__(self, pool: AttentionPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (B, D) of features (B, C, h, w)."""
        pool, heads = self.pool, self.pool.num_heads
        x = features.flatten(2).transpose(1, 2)  # (B, h * w, C)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positional_embedding
        query = pool.q_proj(x[:, 0]).unflatten(-1, (heads, -1))
        keys, values = (
            linear.weight.unflatten(0, (heads, -1)) for linear in (pool.k_proj, pool.v_proj)
        )  # (heads, C / heads, C)
        asked = torch.einsum("bhd,hdc->bhc", query, keys) / query.shape[-1] ** 0.5
        mixed = (asked @ x.transpose(1, 2)).softmax(-1) @ x  # (B, heads, C)
        read = torch.einsum("bhc,hdc->bhd", mixed, values).flatten(1)
        return pool.c_proj(read + pool.v_proj.bias)
