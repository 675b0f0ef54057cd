"""Train a network that knows a clay face again, by contrast of pictures of persons.

    python -m pipelines.training.face_identity --render 40000 --workers 2     (the pictures, once)
    python -m pipelines.training.face_identity --minutes 20 --batch 64
    python -m pipelines.training.face_identity --minutes 20 --batch 64 --seed 1 --width 40
        --name face_identity_eval --out assets/toybox/face_identity_eval      (to evaluate with)

Two pictures of each person of a batch share what `data.people` calls identity and differ in all
the rest; each must find the other among those of everybody else (the loss of a CLIP, Radford et
al. 2021). The one that a loss uses and the one that measures share neither weights, seed nor
width. `python -m pipelines.benchmarks face_judges` states the verification accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.data.faces import Face, FaceRender, render_face
from pipelines.data.people import picture_of
from pipelines.models.face_identity import FaceIdentity
from pipelines.training.common import TOYBOX, Average, Progress, parser, train, write_json
from pipelines.training.muon import muon_and_adamw
from pipelines.training.rendered import SIZE_PX, RenderedSet, write_set
from pipelines.training.scene_clip import contrastive_loss
from pipelines.training.scene_judge import disturb

VIEWS = 4  # pictures of every person
SCALE = 14.0  # inverse temperature


class PeopleSet(RenderedSet):
    """Rendered pictures of persons, VIEWS in a row of each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "people", "pipelines.training.face_identity --render COUNT")
        self.faces = [Face.from_dict(record["face"]) for record in self.records]

    @property
    def persons(self) -> int:
        """How many persons are complete."""
        return len(self) // VIEWS


def _render_seed(seed: int) -> tuple[dict, FaceRender]:
    face = picture_of(*divmod(seed, VIEWS))
    return {"face": face.to_dict()}, render_face(face, SIZE_PX)


def pairs(persons: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two different pictures of each of `count` different persons."""
    chosen = rng.choice(persons, min(count, persons), replace=False)
    first = rng.integers(VIEWS, size=len(chosen))
    second = (first + rng.integers(1, VIEWS, size=len(chosen))) % VIEWS
    return chosen * VIEWS + first, chosen * VIEWS + second


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the network's pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--render", type=int, help="only render this many pictures")
    options.add_argument("--workers", type=int, default=2, help="processes that render")
    options.add_argument("--width", type=int, default=48)
    options.add_argument("--name", default="face_identity", help="of the checkpoint in --work")
    args = options.parse_args(argv)
    if args.render is not None:
        command = ["--work", str(args.work), "--workers", str(args.workers)]
        write_set(command, __doc__, records="people", render=_render_seed, count=args.render)
        return args.work / "people"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    people = PeopleSet(args.work / "people")
    network = FaceIdentity(width=args.width).to(args.device)
    average = Average(network, 0.998)

    def embedded(rows: np.ndarray) -> Tensor:
        images = people.batch(rows, rng.random(len(rows)) < 0.5)
        return network(disturb(images, rng).to(args.device))

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        first, second = (embedded(rows) for rows in pairs(people.persons, args.batch, rng))
        loss = contrastive_loss(first, second, torch.tensor(SCALE, device=args.device))
        right = (first @ second.T).argmax(1) == torch.arange(len(first), device=args.device)
        return loss, {"loss": loss.item(), "recall": right.float().mean().item()}

    progress = train(
        args,
        name=args.name,
        parts={"network": network, "average": average.module},
        optimizers=muon_and_adamw(network.named_parameters(), 2e-3, ("second",)),
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(network, p.step),
        decay_from=0.5,
    )
    folder = args.out or TOYBOX / "face_identity"
    average.module.save(folder)
    write_json(folder / "training_log.json", progress.log)
    return folder


if __name__ == "__main__":
    main()
