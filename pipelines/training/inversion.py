"""Train the inversion encoder of the face generator (e4e: Tov et al. 2021, arXiv 2102.02766).

    python -m pipelines.training.inversion --minutes 60
    python -m pipelines.training.inversion --minutes 15 --warm-start-minutes 8

Weights as published: L2 1, LPIPS 0.8, identity 0.1, offsets 2e-4 (sum of their norms), and 0.1 for
a discriminator that tells codes of the mapping network from the encoder's (R1 with 10, every 16th
step). The first fifth of the run answers in W; then one offset after another is let in, the last
at seven tenths. Trained on renders. On a CPU a warm start comes first, which a generator with one
allows: every render's code is known, and regressed. `python -m pipelines.benchmarks clip2gan`
measures LPIPS.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.inversion import InversionEncoder
from pipelines.models.stylegan2 import StyleGAN2
from pipelines.training.common import (
    TOYBOX,
    Average,
    Progress,
    autocast,
    descend,
    fraction_of,
    parser,
    run,
    train,
    write_json,
)
from pipelines.training.face_data import FaceSet
from pipelines.training.face_likeness import (
    DrawnFaces,
    Likeness,
    add_folders,
    faces_of,
    known_codes,
    numbers_of,
    weighted,
    write_sheet,
)
from pipelines.training.muon import muon_and_adamw
from pipelines.training.scene_judge import disturb

WEIGHTS = {"rec": 1.0, "lpips": 0.8, "id": 0.1, "offsets": 2e-4, "adversarial": 0.1}
R1 = 10.0
PENALTY_EVERY = 16
OPENING = (0.2, 0.7)  # part of the run between the first and the last offset


def stage_at(fraction: float, layers: int) -> int:
    """Return how many layers beyond the first have an offset at `fraction` of the run."""
    first, last = OPENING
    opened = (fraction - first) / (last - first) * (layers - 1)
    return int(min(max(np.floor(opened), 0), layers - 1))


def offset_loss(codes: Tensor) -> Tensor:
    """Return the summed norms of the offsets from the first layer (eq. 5), batch mean."""
    return (codes[:, 1:] - codes[:, :1]).square().sum(2).add(1e-12).sqrt().sum(1).mean()


class CodeDiscriminator(nn.Sequential):
    """Logits of codes: does the mapping network make such ones? Four layers, as e4e's."""

    def __init__(self, w_dim: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(w_dim, 1))


def code_discriminator_loss(
    discriminator: nn.Module, real: Tensor, made: Tensor, penalty: float
) -> Tensor:
    """Return the logistic loss on codes (N, w_dim), with `penalty` * |gradient|^2 at real ones."""
    real = real.detach().requires_grad_(penalty > 0)
    said = discriminator(real)
    loss = F.softplus(-said).mean() + F.softplus(discriminator(made.detach())).mean()
    if penalty == 0:
        return loss
    (gradient,) = torch.autograd.grad(said.sum(), real, create_graph=True)
    return loss + penalty / 2 * gradient.square().sum(1).mean()


def warm_up(
    args: argparse.Namespace,
    encoder: InversionEncoder,
    faces: FaceSet | DrawnFaces,
    generator: StyleGAN2,
) -> None:
    """Regress the known codes of renders, or of drawn faces, in W."""
    rng = np.random.default_rng(args.seed)
    wanted = known_codes(args.generator, generator, faces)

    def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
        rows = rng.integers(len(faces), size=args.batch)
        images = disturb(faces.batch(rows, np.zeros(len(rows), bool)), rng).to(args.device)
        target = wanted[torch.from_numpy(rows).to(wanted.device)]
        with autocast(args.device):
            found = encoder(images, 0)[:, 0]
        missed = (found.float() - target).square().mean() / wanted.var()
        return missed, {"missed": missed.item()}

    shorter = copy.copy(args)
    shorter.minutes = args.warm_start_minutes
    train(
        shorter,
        name="inversion_warm",
        parts={"encoder": encoder},
        optimizers=muon_and_adamw(encoder.named_parameters(), 2e-3, ("code", "offsets")),
        loss_of_step=loss_of_step,
        decay_from=0.4,
    )


def drawn_codes(generator: StyleGAN2, count: int) -> Tensor:
    """Return codes w (count, w_dim) of fresh z."""
    with torch.no_grad():
        z = torch.randn(count, generator.config.z_dim, device=generator.w_avg.device)
        return generator.mapping(z)


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the encoder's pack entry; return its folder."""
    options = parser(__doc__)
    add_folders(options)
    options.add_argument("--width", type=int, default=96)
    options.add_argument("--rate", type=float, default=2e-4, help="learning rate of the encoder")
    options.set_defaults(batch=16)
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    like = Likeness.from_args(args)
    faces = faces_of(args, like.generator)
    config = like.generator.config
    encoder = InversionEncoder(config.w_layers, config.w_dim, width=args.width).to(args.device)
    encoder.w_avg.copy_(like.generator.w_avg)
    if args.warm_start_minutes > 0 and (args.fresh or not (args.work / "inversion.pt").exists()):
        warm_up(args, encoder, faces, like.generator)
    discriminator = CodeDiscriminator(config.w_dim).to(args.device)
    average = Average(encoder, 0.998)
    makers = torch.optim.Adam(encoder.parameters(), args.rate)
    critics = torch.optim.Adam(discriminator.parameters(), 2e-4)

    def batch() -> Tensor:
        rows = rng.integers(len(faces), size=args.batch)
        return faces.batch(rows, rng.random(len(rows)) < 0.5).to(args.device)

    def step(progress: Progress) -> dict[str, float]:
        images = batch()
        stage = stage_at(fraction_of(args, progress), config.w_layers)
        with autocast(args.device):
            codes = encoder(images, stage).float()
            made = like.generator.synthesis(codes).float()
        losses = like.losses(like.sized(images), made)
        losses["offsets"] = offset_loss(codes)
        losses["adversarial"] = F.softplus(-discriminator(codes.flatten(0, 1))).mean()
        descend(weighted(losses, WEIGHTS), [makers])
        is_penalised = progress.step % PENALTY_EVERY == 0
        told = code_discriminator_loss(
            discriminator,
            drawn_codes(like.generator, len(images)),
            codes[:, rng.integers(stage + 1)],
            R1 * PENALTY_EVERY if is_penalised else 0.0,
        )
        descend(told, [critics])
        return {**numbers_of(losses), "discriminator": told.item(), "stage": stage}

    progress = run(
        args,
        name="inversion",
        parts={
            "encoder": encoder, "discriminator": discriminator, "average": average.module
        },
        optimizers=[makers, critics],
        step=step,
        after_step=lambda p: average.update(encoder, p.step),
    )  # fmt: skip
    folder = args.out or TOYBOX / "face_inversion"
    finished = average.module
    finished.save(folder)
    with torch.no_grad():
        images = batch()[:10]
        made = like.generator.synthesis(finished(images))
    write_sheet([like.sized(images), made], folder / "samples.webp")
    counted = {"samples": progress.samples, "minutes": round(progress.elapsed_s / 60, 1)}
    counted["warm_start_minutes"] = args.warm_start_minutes
    write_json(folder / "training.json", {**counted, "log": progress.log})
    return folder


if __name__ == "__main__":
    main()
