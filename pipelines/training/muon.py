"""Muon: momentum whose matrices are made orthogonal before they are applied.

K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, with the update scale of Liu et
al. 2025 (arXiv 2502.16982, section 2.2), so that AdamW's learning rates serve. torch.optim.Muon
takes no convolutions and works in bfloat16, which many CPUs lack.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

ADAMW_PART = 0.5
"""Rate of what AdamW trains, as a part of Muon's."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Return U V^T of `matrix` (m, n) = U S V^T, singular values within about [0.7, 1.2].

    Newton-Schulz: X <- a X + (b G + c G^2) X with G = X X^T. Every X is a polynomial of the first G
    times the first X, so the iteration runs on small matrices (m, m) and meets X only twice.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    gram = matrix @ matrix.T
    identity = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    product = identity
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ matrix


def muon_and_adamw(
    named: Iterable[tuple[str, nn.Parameter]], lr: float, outer: Collection[str]
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside a network and AdamW for all the rest.

    The rest are vectors, depthwise convolutions, and layers one part of whose name is in `outer`:
    the first, the last and embeddings (Jordan et al.).
    """
    inner, rest = [], []
    for name, weight in named:
        is_matrix = weight.ndim >= 2 and weight.shape[1] > 1
        is_outer = any(part in outer for part in name.split("."))
        (inner if is_matrix and not is_outer else rest).append(weight)
    settings = {"betas": (0.9, 0.99), "weight_decay": 0.01, "fused": True}
    return [Muon(inner, lr), torch.optim.AdamW(rest, lr * ADAMW_PART, **settings)]


class Muon(torch.optim.Optimizer):
    """Steps of orthogonalised Nesterov momentum for weights of two or more dimensions.

    A convolution (out, in, h, w) counts as a matrix (out, in * h * w).
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:  # fmt: skip
        """Take AdamW's learning rate and weight decay."""
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            keep = 1 - group["lr"] * group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                matrix = weight.grad.lerp(average, group["momentum"]).flatten(1)
                update = orthogonal(matrix).reshape(weight.shape)
                scale = 0.2 * math.sqrt(max(matrix.shape))
                weight.mul_(keep).add_(update, alpha=-group["lr"] * scale)
