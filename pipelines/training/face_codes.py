"""A code z for every face, such that sampling faces makes z standard normal.

For the warm start of the face generator: it learns z -> picture by regression, and afterwards any
normal z is the code of some face. A number in [0, 1] becomes one normal coordinate by the normal's
quantile function; a choice becomes two, whose angle falls into the sector of its value; what is
left over is noise that means nothing. All coordinates are then mixed by one fixed rotation.
`attributes` goes back, and `wanted_w` is what a mapping network should make of a code before it
ever meets a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.faces import CHOICES, RANGES, Face
from pipelines.data.faces.features import JITTERS, traits_of
from pipelines.data.faces.spec import SHUT
from pipelines.noise import sub_seed

Z_DIM = 64
_MIXING_SEED, _LAYING_SEED = 5, 6
_NUMBERS = len(RANGES) + JITTERS  # continuous coordinates


def _fractions(face: Face, rng: np.random.Generator) -> list[float]:
    """Return every continuous number of a face as a fraction, uniform on [0, 1] over faces."""
    values = {n: (getattr(face, n) - low) / (high - low) for n, (low, high) in RANGES.items()}
    opened = (face.mouth_open - SHUT) / (1 - SHUT)
    closed = float(rng.uniform(0.0, -SHUT / (1 - SHUT)))
    values["mouth_open"] = opened if face.mouth_open > 0 else closed
    return [*values.values(), *((j + 1) / 2 for j in traits_of(face).jitter)]


def _angles(face: Face, rng: np.random.Generator) -> list[float]:
    """Return an angle in radians for every choice, uniform over faces."""
    angles = []
    for name, odds in CHOICES.items():
        ends = np.cumsum([0.0, *odds.values()])
        k = list(odds).index(getattr(face, name))
        angles.append(2 * np.pi * float(rng.uniform(ends[k], ends[k + 1])))
    return angles


def _rotation(size: int, seed: int) -> Tensor:
    normal = np.random.default_rng(seed).normal(size=(size, size))
    return torch.from_numpy(np.linalg.qr(normal)[0])


def codes(faces: Sequence[Face], seed: int) -> Tensor:
    """Return z (N, Z_DIM); `seed` draws what the face leaves open."""
    rows = []
    for face in faces:
        rng = np.random.default_rng(sub_seed(seed, "code", face.seed))
        uniform = torch.tensor(_fractions(face, rng), dtype=torch.float64)
        normal = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        angles = torch.tensor(_angles(face, rng), dtype=torch.float64)
        radii = torch.from_numpy(np.sqrt(2 * rng.exponential(size=len(angles))))
        known = torch.cat([normal, radii * angles.cos(), radii * angles.sin()])
        rest = torch.from_numpy(rng.normal(size=Z_DIM - len(known)))
        rows.append(torch.cat([known, rest]))
    return (torch.stack(rows) @ _rotation(Z_DIM, _MIXING_SEED)).float()


def attributes(z: Tensor) -> Tensor:
    """Return the attributes (N, A) of codes (N, Z_DIM), as `codes` laid them there.

    Every number, and every value of every choice as 0 or 1; all with mean 0 and variance 1 over
    normal z, but for mouths, a third of which are closed.
    """
    known = z.double() @ _rotation(Z_DIM, _MIXING_SEED).to(z.device).T
    numbers = torch.special.ndtr(known[:, :_NUMBERS])
    mouth = list(RANGES).index("mouth_open")
    numbers[:, mouth] = numbers[:, mouth].clamp(min=-SHUT / (1 - SHUT))
    cosines, sines = known[:, _NUMBERS:][:, : 2 * len(CHOICES)].chunk(2, 1)
    turns = torch.atan2(sines, cosines).div(2 * np.pi).remainder(1.0)  # (N, choices)
    columns = [(numbers - 0.5) * 12**0.5]
    for i, odds in enumerate(CHOICES.values()):
        shares = torch.tensor(list(odds.values()), dtype=z.dtype, device=z.device)
        chosen = torch.bucketize(turns[:, i].contiguous(), shares.cumsum(0)[:-1].double())
        columns.append((F.one_hot(chosen, len(odds)) - shares) / (shares * (1 - shares)).sqrt())
    return torch.cat(columns, 1)


def wanted_w(z: Tensor, w_dim: int) -> Tensor:
    """Return codes w (N, w_dim) that hold the attributes of z (N, Z_DIM), mixed by a rotation.

    Raises:
        ValueError: w_dim is less than the number of attributes.
    """
    held = attributes(z)
    if held.shape[1] > w_dim:
        raise ValueError(f"w_dim must be at least {held.shape[1]}, got {w_dim}")
    return (held @ _rotation(w_dim, _LAYING_SEED).to(z.device)[: held.shape[1]]).float()
