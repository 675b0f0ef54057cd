"""A code z for every face, such that sampling faces makes z standard normal.

For the warm start of the face generator: it learns z -> picture by regression, and afterwards any
normal z is the code of some face. A number in [0, 1] becomes one normal coordinate by the normal's
quantile function; a choice becomes two, whose angle falls into the sector of its value; what is
left over is noise that means nothing. All coordinates are then mixed by one fixed rotation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.data.faces import CHOICES, RANGES, Face
from pipelines.data.faces.features import traits_of
from pipelines.data.faces.spec import SHUT
from pipelines.noise import sub_seed

Z_DIM = 64
_MIXING_SEED = 5


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


def _rotation() -> Tensor:
    normal = np.random.default_rng(_MIXING_SEED).normal(size=(Z_DIM, Z_DIM))
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
    return (torch.stack(rows) @ _rotation()).float()
