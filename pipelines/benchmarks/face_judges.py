"""May the judge of clay faces judge, and do the identity networks know a person? On renders.

    python -m pipelines.benchmarks face_judges [--n 1000] [--json FILE]

On held-out renders: R2 of every continuous attribute and accuracy of every discrete one, where it
can be seen; how often two pictures are rightly told to show the same person or two (half of the
pairs each, the threshold from other pairs than those that are counted).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.benchmarks.report import Report, parser
from pipelines.data.faces import CHOICES, RANGES, Face, render_face, sample_face
from pipelines.data.people import picture_of
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.face_judge import FaceJudge, FaceVerdict
from pipelines.training.common import TOYBOX
from pipelines.training.face_judge import targets
from pipelines.training.rendered import HELD_OUT, SIZE_PX
from pipelines.training.scene_judge import IGNORED

BATCH = 25
R2, ACCURACY = 0.8, 0.95  # what an attribute needs before it may be judged
IDENTITIES = ("face_identity", "face_identity_eval")


def rendered(faces: Sequence[Face]) -> Tensor:
    """Return pictures (B, 3, 128, 128) in [-1, 1] of faces."""
    pixels = np.stack([render_face(face, SIZE_PX).image for face in faces])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def held_out_faces(first: int, count: int) -> Iterator[list[Face]]:
    """Yield faces that no training saw, in batches."""
    seeds = range(HELD_OUT + first, HELD_OUT + first + count)
    for start in range(0, count, BATCH):
        yield [sample_face(seed) for seed in seeds[start : start + BATCH]]


def joined(verdicts: Sequence[FaceVerdict]) -> FaceVerdict:
    """Return the verdicts on several batches as one."""
    return FaceVerdict(
        {name: torch.cat([v.numbers[name] for v in verdicts]) for name in RANGES},
        {name: torch.cat([v.choices[name] for v in verdicts]) for name in CHOICES},
    )


def r2(wanted: Tensor, got: Tensor) -> float:
    """Return the coefficient of determination, 1 - residual / variance."""
    return float(1 - (wanted - got).square().sum() / (wanted - wanted.mean()).square().sum())


def scores(verdict: FaceVerdict, faces: Sequence[Face]) -> dict[str, tuple[float, int]]:
    """Return R2 or accuracy of every attribute that is seen, and on how many faces it is."""
    numbers, indices = targets(faces)
    found = {}
    for i, (name, (low, high)) in enumerate(RANGES.items()):
        seen = ~numbers[:, i].isnan()
        wanted = low + numbers[seen, i] * (high - low)
        found[name] = r2(wanted, verdict.numbers[name].cpu()[seen]), int(seen.sum())
    for i, name in enumerate(CHOICES):
        seen = indices[:, i] != IGNORED
        right = verdict.choices[name].cpu().argmax(1)[seen] == indices[seen, i]
        found[name] = right.float().mean().item(), int(seen.sum())
    return {name: score for name, score in found.items() if score[1] > 0}


@dataclass(frozen=True)
class Verification:
    """Cosine above which two pictures show one person, and how often that is right."""

    threshold: float
    accuracy: float


def verification(same: Tensor, different: Tensor) -> Verification:
    """Return the best threshold on the first half of the cosines, its accuracy on the second."""

    def accuracy(threshold: Tensor, rows: slice) -> Tensor:
        known, other = same[rows] >= threshold, different[rows] < threshold
        return (known.float().mean() + other.float().mean()) / 2

    half = len(same) // 2
    tried = torch.cat([same[:half], different[:half]])
    best = max(tried, key=lambda threshold: accuracy(threshold, slice(0, half)).item())
    return Verification(float(best), float(accuracy(best, slice(half, None))))


@torch.no_grad()
def verify(network: FaceIdentity, n: int, seed: int) -> Verification:
    """Return the verification of n pairs of each kind, of held-out persons."""
    first = HELD_OUT + 2_000_000 + 500_000 * seed
    device = next(network.parameters()).device

    def embedded(view: int) -> Tensor:
        pictures = [picture_of(first + i, view) for i in range(n)]
        batches = (pictures[start : start + BATCH] for start in range(0, n, BATCH))
        return torch.cat([network(rendered(batch).to(device)) for batch in batches]).cpu()

    one, two = embedded(0), embedded(1)
    return verification((one * two).sum(1), (one * two.roll(1, 0)).sum(1))


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Record what the judge reads, and what the identity networks know."""
    from pipelines.devices import pick

    options = parser(__doc__, n=1000)
    options.add_argument("--folder", type=Path, default=TOYBOX, help="where the networks are")
    args = options.parse_args(argv)
    report, device = Report("face_judges", seed=args.seed, path=args.json), pick()
    judge = FaceJudge.from_folder(args.folder / "face_judge", device)
    faces, verdicts = [], []
    for batch in held_out_faces(500_000 * args.seed, args.n):
        faces += batch
        verdicts.append(judge(rendered(batch).to(device.torch_device)))
    found = scores(joined(verdicts), faces)
    for name, (value, n) in found.items():
        report.add("r2" if name in RANGES else "accuracy", "face_judge", value, setting=name, n=n)
    poor = [n for n, (value, _) in found.items() if value < (R2 if n in RANGES else ACCURACY)]
    report.claim(
        f"the judge reads every attribute (R2 {R2} or accuracy {ACCURACY} at least)",
        not poor,
        "fails on " + ", ".join(f"{n} {found[n][0]:.2f}" for n in poor) if poor else "all do",
    )
    for name in IDENTITIES:
        told = verify(FaceIdentity.from_folder(args.folder / name, device), args.n, args.seed)
        report.add("verification_accuracy", name, told.accuracy, n=args.n - args.n // 2)
        report.add("verification_threshold", name, told.threshold, n=args.n // 2)


if __name__ == "__main__":
    main()
