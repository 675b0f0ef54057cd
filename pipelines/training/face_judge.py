"""Train the judge of clay faces, which measures what edits did. No other network learns from it.

    python -m pipelines.training.face_judge --minutes 30 --batch 64

Sees renders with noise and blur, so that it reads generated faces as well; attributes that cannot
be seen are left out of the loss. `python -m pipelines.benchmarks face_judges` states how well it
reads each attribute of held-out renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.faces import CHOICES, RANGES, Face, hidden_by
from pipelines.models.face_judge import FaceJudge
from pipelines.training.common import (
    TOYBOX,
    Average,
    Progress,
    autocast,
    parser,
    train,
    write_json,
)
from pipelines.training.face_data import FaceSet, attribute_values
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_judge import IGNORED, disturb

MIRRORED = ("yaw", "light")  # attributes whose sign a mirror turns


def targets(faces: Sequence[Face]) -> tuple[Tensor, Tensor]:
    """Return fractions of the ranges (N, R), NaN where unseen, and choices (N, K) or IGNORED."""
    numbers, indices = attribute_values(faces)
    low, high = torch.tensor(list(RANGES.values())).T
    numbers = (numbers - low) / (high - low)
    for row, face in enumerate(faces):
        for i, name in enumerate(RANGES):
            if hidden_by(face, name):
                numbers[row, i] = float("nan")
        for i, name in enumerate(CHOICES):
            if hidden_by(face, name):
                indices[row, i] = IGNORED
    return numbers, indices


def mirrored(numbers: Tensor, flips: Tensor) -> Tensor:
    """Return fractions (B, R) of pictures that are mirrored where `flips` (B,)."""
    turns = torch.tensor([name in MIRRORED for name in RANGES], device=numbers.device)
    return torch.where(flips[:, None] & turns, 1 - numbers, numbers)


def judge_loss(answers: tuple[Tensor, list[Tensor]], numbers: Tensor, indices: Tensor) -> Tensor:
    """Return the loss of both kinds of attributes, each the mean over what can be seen.

    Squared errors of fractions, in parts of the variance of a uniform one, and cross-entropies.
    """
    fractions, logits = answers
    seen = ~numbers.isnan()
    squared = torch.where(seen, fractions - numbers.nan_to_num(), 0).square().sum() / seen.sum()
    entropies = [
        F.cross_entropy(scores, indices[:, i], ignore_index=IGNORED, reduction="sum")
        for i, scores in enumerate(logits)
    ]
    known = (indices != IGNORED).sum().clamp(min=1)
    return 12 * squared + torch.stack(entropies).sum() / known


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the judge's pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=64)
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    faces = FaceSet(args.work / "faces")
    numbers, indices = targets(faces.faces)
    choices = {name: tuple(values) for name, values in CHOICES.items()}
    judge = FaceJudge(RANGES, choices, width=args.width).to(args.device)
    average = Average(judge, 0.998)

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        rows = rng.integers(len(faces), size=args.batch)
        flips = rng.random(args.batch) < 0.5
        images = disturb(faces.batch(rows, flips), rng).to(args.device)
        wanted = mirrored(numbers[torch.from_numpy(rows)], torch.from_numpy(flips))
        values = indices[torch.from_numpy(rows)].to(args.device)
        with autocast(args.device):
            fractions, logits = judge.fractions(images)
        answers = fractions.float(), [scores.float() for scores in logits]
        loss = judge_loss(answers, wanted.to(args.device), values)
        return loss, {"loss": loss.item()}

    progress = train(
        args,
        name="face_judge",
        parts={"judge": judge, "average": average.module},
        optimizers=muon_and_adamw(judge.named_parameters(), 2e-3, ("second",)),
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(judge, p.step),
        decay_from=0.5,
    )
    folder = args.out or TOYBOX / "face_judge"
    average.module.save(folder)
    write_json(folder / "training_log.json", progress.log)
    return folder


if __name__ == "__main__":
    main()
