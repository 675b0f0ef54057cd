"""Train the generator of clay faces: a StyleGAN2, on a CPU after a warm start.

    python -m pipelines.training.face_stylegan --mapping-minutes 8 --warm-start-minutes 48
        --minutes 0 --batch 8 --compile                                 (only the warm start)
    python -m pipelines.training.face_stylegan --mapping-minutes 8 --warm-start-minutes 48
        --minutes 120 --anchor 0.3 --batch 8 --compile
    python -m pipelines.training.face_stylegan --minutes 120 --batch 64       (on a GPU, plain)

Adversarial training: non-saturating logistic loss, lazy R1 (Karras et al. 2020, sec. 3.1), lazy
path length (sec. 3.2) where asked for, style mixing, an averaged generator. From nothing that
takes millions of pictures. On a CPU a warm start comes first: every face has a code z made of its
own attributes (`pipelines.training.face_codes`); the mapping regresses these attributes, laid into
W by a rotation, the synthesis regresses the renderer from there, picture by picture, and only then
does the discriminator join in. With `--anchor` the regression goes on beside it, lest a short
adversarial phase forget; that it sharpens has yet to be shown. Directions found in such a generator
are weaker evidence than in one that never saw an attribute: W was laid out by hand. The pack
entry's training.json says how each was trained.
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

from pipelines.data.faces import PARTS
from pipelines.images import to_pil
from pipelines.models.stylegan2 import Discriminator, StyleGAN2, StyleGAN2Config
from pipelines.training.common import (
    TOYBOX,
    Average,
    Progress,
    autocast,
    descend,
    parser,
    run,
    train,
    write_json,
)
from pipelines.training.face_codes import Z_DIM, codes, wanted_w
from pipelines.training.face_data import FaceSet
from pipelines.training.muon import muon_and_adamw

CHANNELS = (128, 128, 128, 64, 32, 16)  # from 4 pixels to 128
MAPPING_RATE, WARM_RATE = 0.1, 0.05  # of Muon, for matrices of unit variance
WARM_CODES = 1024  # that the mapping learns from in a step
PENALTY_EVERY = 16  # steps between two R1 penalties
PATH_EVERY = 8  # steps between two path length penalties
# Small parts are what a mean over pixels learns last.
PART_WEIGHTS = {
    **dict.fromkeys(("eyes", "mouth", "lips"), 6.0),
    **dict.fromkeys(("brows", "glasses", "earrings"), 4.0),
    **dict.fromkeys(("nose", "beard", "ears"), 2.0),
}


def build(size_px: int) -> StyleGAN2:
    """Return the untrained generator of pictures of 64 or 128 pixels.

    Its codes are not pulled to the average: half of a hat is no hat.
    """
    return StyleGAN2(
        StyleGAN2Config(
            CHANNELS[: int(np.log2(size_px)) - 1],
            z_dim=Z_DIM,
            w_dim=128,
            mapping_layers=6,
            mapping_dim=256,
            mapping_rate=1.0,
            normalised=False,
            truncation_psi=1.0,
        )
    )


Optimizers = Sequence[torch.optim.Optimizer]


# ---------------------------------------------------------------- losses


def part_weights(labels: Tensor, size_px: int) -> Tensor:
    """Return the weight of every pixel (B, 1, S, S), mean 1, from label maps (B, H, W)."""
    table = torch.tensor([PART_WEIGHTS.get(part, 1.0) for part in PARTS], device=labels.device)
    weights = F.adaptive_avg_pool2d(table[labels.long()].unsqueeze(1), size_px)
    return weights / weights.mean()


def regression_loss(images: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted difference of two batches over an octave pyramid, edges included.

    Each level adds its mean difference and that of its horizontal and vertical steps, so that
    blurred outlines cost as much as wrong colours.
    """
    error, loss = images - wanted, images.new_zeros(())
    for _ in range(4):
        across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
        edges = (across * weights[..., 1:]).mean() + (down * weights[..., 1:, :]).mean()
        loss = loss + (error.abs() * weights).mean() + edges
        error, weights = F.avg_pool2d(error, 2), F.avg_pool2d(weights, 2)
    return loss


def r1_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Return the mean squared gradient at real images (Mescheder et al. 2018, eq. 9)."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(generator: StyleGAN2, w: Tensor, noise: Tensor) -> Tensor:
    """Return |J^T y| of each code for normal images y = `noise` (Karras et al. 2020, eq. 4)."""
    w_plus = generator.w_plus(w)
    images = generator.synthesis(w_plus)
    scaled = noise / np.sqrt(images.shape[-1] * images.shape[-2])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), w_plus, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


# ---------------------------------------------------------------- the phases


class Memory(nn.Module):
    """Numbers that checkpoints keep: samples of the warm start, and the mean path length."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("warm_samples", torch.zeros((), dtype=torch.long))
        self.register_buffer("path_mean", torch.zeros(()))
        self.warm_samples: Tensor
        self.path_mean: Tensor


class Trainer:
    """What both phases share: data, networks, and the random numbers of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args, self.rng = args, np.random.default_rng(args.seed)
        self.faces = FaceSet(args.work / "faces")
        layout = {"device": args.device, "memory_format": torch.channels_last}
        self.generator = build(args.size).to(**layout)
        self.discriminator = Discriminator(self.generator.config.channels).to(**layout)
        self.average = Average(self.generator, 0.999)
        self.memory = Memory().to(args.device)
        self.warm_log: list[dict[str, float]] = []
        self.codes: Tensor | None = None  # z of every face, once asked for
        self.regression_loss = torch.compile(regression_loss) if args.compile else regression_loss

    def rows(self) -> np.ndarray:
        """Return the indices of a batch of faces."""
        return self.rng.integers(len(self.faces), size=self.args.batch)

    def real(self, rows: np.ndarray, flips: np.ndarray) -> Tensor:
        """Return pictures (B, 3, S, S) of faces."""
        images = self.faces.batch(rows, flips).to(self.args.device)
        return F.adaptive_avg_pool2d(images, self.args.size) if self.args.size < 128 else images

    def drawn_codes(self) -> Tensor:
        """Return codes in W+ of fresh z, half of the batches with two styles."""
        shape = (2, self.args.batch, self.generator.config.z_dim)
        w, other = (self.generator.mapping(z) for z in torch.randn(shape, device=self.args.device))
        crossover = int(self.rng.integers(1, self.generator.config.w_layers))
        return self.generator.w_plus(w, other, crossover if self.rng.random() < 0.5 else None)

    def face_codes(self, rows: np.ndarray) -> Tensor:
        """Return codes in W+ of faces."""
        return self.generator.w_plus(self.generator.mapping(self.codes_of(rows)))

    def fresh_noise(self) -> list[Tensor]:
        """Return noise that differs from picture to picture, as training wants it."""
        seeds = self.rng.integers(2**62, size=self.args.batch).tolist()
        return self.generator.noises(seeds, self.generator.constant)

    def codes_of(self, rows: np.ndarray) -> Tensor:
        """Return z (B, z_dim) of faces."""
        if self.codes is None:
            self.codes = codes(self.faces.faces, self.args.seed)
        return self.codes[torch.from_numpy(rows)].to(self.args.device)

    def regression(self, images: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the loss of pictures made of the codes of faces, and the mean difference."""
        straight = np.zeros(len(rows), bool)
        wanted = self.real(rows, straight)
        labels = self.faces.labels(rows, straight).to(self.args.device)
        loss = self.regression_loss(images, wanted, part_weights(labels, self.args.size))
        return loss, (images.detach() - wanted).abs().mean()

    def lay_out(self) -> None:
        """Regress the attributes from random codes: the mapping."""
        mapping, w_dim = self.generator.mapping_net, self.generator.config.w_dim

        def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
            z = torch.randn(WARM_CODES, Z_DIM, device=self.args.device)
            wanted = wanted_w(z, w_dim)
            missed = (self.generator.mapping(z) - wanted).square().mean() / wanted.var()
            return missed, {"missed": missed.item()}

        args = copy.copy(self.args)
        args.minutes, args.steps = args.mapping_minutes, args.mapping_steps
        train(
            args,
            name="face_stylegan_mapping",
            parts={"mapping": mapping},
            optimizers=muon_and_adamw(mapping.named_parameters(), MAPPING_RATE, ()),
            loss_of_step=loss_of_step,
            decay_from=0.4,
        )
        self.average.module.mapping_net.load_state_dict(mapping.state_dict())

    def warm_up(self) -> None:
        """Regress the renderer from attributes: the synthesis."""
        generator, w_dim = self.generator, self.generator.config.w_dim

        def paint(w: Tensor) -> Tensor:
            return generator.synthesis(generator.w_plus(w))

        painted = torch.compile(paint) if self.args.compile else paint

        def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
            rows = self.rows()
            with autocast(self.args.device):
                images = painted(wanted_w(self.codes_of(rows), w_dim))
            loss, l1 = self.regression(images.float(), rows)
            return loss, {"loss": loss.item(), "l1": l1.item()}

        args = copy.copy(self.args)
        args.minutes, args.steps = args.warm_start_minutes, args.warm_start_steps
        progress = train(
            args,
            name="face_stylegan_warm",
            parts={"generator": self.generator, "average": self.average.module},
            optimizers=muon_and_adamw(self.synthesis_weights(), WARM_RATE, ()),
            loss_of_step=loss_of_step,
            after_step=lambda p: self.average.update(self.generator, p.step),
            decay_from=0.4,
        )
        self.memory.warm_samples.fill_(progress.samples)
        self.warm_log = progress.log

    def compete(self) -> Progress:
        """Train generator and discriminator against each other."""
        makers, critics = self.players()

        def step(progress: Progress) -> dict[str, float]:
            made = self.move_generator(makers, progress.step)
            judged = self.move_discriminator(critics, progress.step)
            return {**made, **judged}

        return run(
            self.args,
            name="face_stylegan",
            parts={
                "generator": self.generator,
                "discriminator": self.discriminator,
                "average": self.average.module,
                "memory": self.memory,
            },
            optimizers=[*makers, *critics],
            step=step,
            after_step=lambda p: self.average.update(self.generator, p.step),
            decay_from=0.8,
        )

    def players(self) -> tuple[Optimizers, Optimizers]:
        """Return Adam for both, as published, with a small rate for the mapping."""
        mapping = list(self.generator.mapping_net.parameters())
        others = [p for _, p in self.synthesis_weights()]
        groups = [{"params": others}, {"params": mapping, "lr": 0.02 * self.args.rate}]
        makers = torch.optim.Adam(groups, self.args.rate, betas=(0.0, 0.99))
        critics = torch.optim.Adam(self.discriminator.parameters(), self.args.rate, (0.0, 0.99))
        return [makers], [critics]

    def synthesis_weights(self) -> list[tuple[str, nn.Parameter]]:
        """Return all weights of the generator but those of the mapping, with their names."""
        named = self.generator.named_parameters()
        return [(name, weight) for name, weight in named if not name.startswith("mapping")]

    def move_generator(self, optimizers: Optimizers, step: int) -> dict[str, float]:
        """Make pictures that the discriminator takes for real."""
        rows = self.rows()
        w_plus = self.face_codes(rows) if self.args.anchor > 0 else self.drawn_codes()
        images = self.generator.synthesis(w_plus, self.fresh_noise())
        self.discriminator.requires_grad_(False)
        loss = F.softplus(-self.discriminator(images)).mean()
        numbers = {"generator": loss.item()}
        if self.args.anchor > 0:
            apart, l1 = self.regression(images, rows)
            loss = loss + self.args.anchor * apart
            numbers |= {"regression": apart.item(), "l1": l1.item()}
        if self.args.path_length > 0 and step % PATH_EVERY == 0:
            z = torch.randn(len(images) // 2 + 1, Z_DIM, device=images.device)
            w = self.generator.mapping(z)
            lengths = path_lengths(self.generator, w, torch.randn_like(images[: len(w)]))
            self.memory.path_mean.lerp_(lengths.detach().mean(), 0.01)
            strained = (lengths - self.memory.path_mean).square().mean()
            loss = loss + self.args.path_length * PATH_EVERY * strained
            numbers["path_length"] = lengths.mean().item()
        descend(loss, optimizers)
        self.discriminator.requires_grad_(True)
        return numbers

    def move_discriminator(self, optimizers: Optimizers, step: int) -> dict[str, float]:
        """Tell real pictures from made ones."""
        rows = self.rows()
        real = self.real(rows, self.rng.random(len(rows)) < 0.5)
        with torch.no_grad():
            made = self.generator.synthesis(self.drawn_codes(), self.fresh_noise())
        said_made, said_real = self.discriminator(made), self.discriminator(real)
        loss = F.softplus(said_made).mean() + F.softplus(-said_real).mean()
        numbers = {
            "discriminator": loss.item(),
            "says_real": (said_real > 0).float().mean().item(),
            "says_made": (said_made < 0).float().mean().item(),
        }
        if step % PENALTY_EVERY == 0:
            penalty = r1_penalty(self.discriminator, real)
            loss = loss + 0.5 * self.args.r1 * PENALTY_EVERY * penalty
            numbers["r1"] = penalty.item()
        descend(loss, optimizers)
        return numbers


# ---------------------------------------------------------------- the command


@torch.no_grad()
def set_average_code(generator: StyleGAN2, seed: int, count: int = 10_000) -> None:
    """Store the mean of w over random z, which truncation pulls to."""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.config.z_dim, generator=source)
    generator.w_avg.copy_(generator.mapping(z.to(generator.w_avg.device)).mean(0))


@torch.no_grad()
def sample_sheet(generator: StyleGAN2, path: Path, *, psi: float = 1.0, rows: int = 6) -> None:
    """Write pictures of the seeds 0, 1, ... in rows of ten."""
    z = torch.randn(rows * 10, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    images = generator(z.to(generator.w_avg.device), psi=psi)
    grid = images.unflatten(0, (rows, 10)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil(grid[None])[0].save(path)


def options() -> argparse.ArgumentParser:
    """Return the parser: the common options and those of the two phases."""
    more = parser(__doc__)
    more.add_argument("--size", type=int, default=128, choices=(64, 128), help="pixels")
    more.add_argument("--mapping-minutes", type=float, default=15.0, help="of a warm start")
    more.add_argument("--mapping-steps", type=int, help="stop that after these")
    more.add_argument("--warm-start-minutes", type=float, default=0.0, help="regression first")
    more.add_argument("--warm-start-steps", type=int, help="stop the warm start after these")
    more.add_argument("--rate", type=float, default=2e-3, help="learning rate of both players")
    more.add_argument("--anchor", type=float, default=0.0, help="weight of the regression then")
    more.add_argument("--compile", action="store_true", help="the warm start with torch.compile")
    more.add_argument("--r1", type=float, default=1.0, help="weight of the gradient penalty")
    more.add_argument("--path-length", type=float, default=0.0, help="2 is usual; 0 is off")
    more.set_defaults(batch=16)
    return more


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the generator's pack entry; return its folder."""
    args = options().parse_args(argv)
    trainer = Trainer(args)
    is_begun = (args.work / "face_stylegan.pt").exists() and not args.fresh
    is_warm = args.warm_start_minutes > 0 or args.warm_start_steps is not None
    if is_warm and not is_begun:
        trainer.warm_up()
        trainer.lay_out()
    progress = trainer.compete()
    folder = args.out or TOYBOX / "face_stylegan2"
    generator = trainer.average.module.cpu()
    set_average_code(generator, args.seed)
    generator.save(folder)
    sample_sheet(generator, folder / "samples.webp")
    story = {
        "warm_start": int(trainer.memory.warm_samples) > 0,
        "anchor": args.anchor,
        "warm_start_samples": int(trainer.memory.warm_samples),
        "adversarial_samples": progress.samples,
        "adversarial_minutes": round(progress.elapsed_s / 60, 1),
        "log": progress.log or trainer.warm_log,
    }
    write_json(folder / "training.json", story)
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    return folder


if __name__ == "__main__":
    main()
