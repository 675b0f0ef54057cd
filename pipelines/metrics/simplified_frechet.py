"""FlexIT's measures of naturalness: how far the mean features are from those of real pictures.

"Simplified FID" (Kim et al. 2020) leaves the covariances' off-diagonal terms out; the release of
FlexIT leaves out all of the covariance, and so do we: its published numbers come from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def sfid(features: Tensor, reference: Tensor) -> float:
    """Return the squared distance of the means of features (N, D) and (M, D)."""
    return float((features.mean(0) - reference.mean(0)).square().sum())


def csfid(features: Tensor, classes: Sequence[str], references: Mapping[str, Tensor]) -> float:
    """Return `sfid` averaged over target classes (sec. 4.1, metrics).

    Args:
        features: (N, D) of edited pictures.
        classes: the target class of each.
        references: features (M, D) of real pictures of every class.
    """
    rows = {name: [i for i, c in enumerate(classes) if c == name] for name in sorted(set(classes))}
    values = [sfid(features[index], references[name]) for name, index in rows.items()]
    return sum(values) / len(values)
