"""Train CLIP2GAN's mapper on pictures alone; no text is seen.

    python -m pipelines.training.latent_mapper --minutes 120
    python -m pipelines.training.latent_mapper --minutes 0 --warm-start-minutes 5
    python -m pipelines.training.latent_mapper --depth 4 --out runs/depth_4         (ablations)
    python -m pipelines.training.latent_mapper --no-adversarial --out runs/no_adversarial
    python -m pipelines.training.latent_mapper --no-diversity --out runs/no_diversity

Wang et al. 2022 (arXiv 2211.15045), sec. 3.2 and supplement A: x' = G(M(C_img(x))), weights 1 for
reconstruction, LPIPS, identity, diversity and gradient penalty, 0.1 for the adversarial loss; Adam
at 2e-3, linear decay in the second half. Not in the paper, and chosen here: batch 16; the mean of
squares for eq. 4, as pSp and e4e have it; diversity as the mode seeking loss that it follows (Mao
et al. 2019: means, 1e-5 in the denominator); the gradient penalty on logits, as WGAN-GP has no
sigmoid; StyleGAN2's residual discriminator from fresh weights; gradients clipped to norm 1.
With `--warm-start-minutes` the mapper first regresses the known codes of renders, as the inversion
encoder does; the paper has no such start, and a CPU no time for its own. Each ablation goes to its
own --work copy or takes another --name. `python -m pipelines.benchmarks clip2gan --variants runs/*`
compares them.
With `--drawn` a generator in the layout of rosinality/stylegan2-pytorch is its own training set.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.latent_mapper import DEPTHS, LatentMapper
from pipelines.models.published_faces import any_clip
from pipelines.models.stylegan2 import Discriminator
from pipelines.repositories import OPENAI_CLIPS, role_of
from pipelines.training.common import (
    TOYBOX,
    Progress,
    descend,
    parser,
    run,
    train,
    write_json,
)
from pipelines.training.face_likeness import (
    Likeness,
    add_folders,
    device_of,
    faces_of,
    known_codes,
    numbers_of,
    weighted,
    write_sheet,
)

WEIGHTS = {"rec": 1.0, "lpips": 1.0, "id": 1.0, "adversarial": 0.1, "diversity": 1.0}
PENALTY = 1.0
WARM_BATCH, EMBED_BATCH = 256, 100
EPSILON = 1e-5
OPENAI = {name.removesuffix("-quickgelu") for name in OPENAI_CLIPS}


def diversity_loss(f: Tensor, f1: Tensor, images: Tensor, images1: Tensor) -> Tensor:
    """Return L_div = d(f, f1) / d(x', x1') (eq. 9), d the mean absolute difference.

    Smaller where the same change of the features changes the pictures more.
    """
    apart = (images - images1).abs().mean() / (f - f1).abs().mean()
    return 1 / (apart + EPSILON)


def generator_loss(logits: Tensor) -> Tensor:
    """Return log(1 - D(x')) (eq. 6) of the discriminator's logits."""
    return -F.softplus(logits).mean()


def gradient_penalty(discriminator: Discriminator, made: Tensor) -> Tensor:
    """Return (|grad D(x')| - 1)^2, averaged over pictures (eq. 7, second term)."""
    made = made.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(made).sum(), made, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def discriminator_loss(discriminator: Discriminator, images: Tensor, made: Tensor) -> Tensor:
    """Return -log D(x) - log(1 - D(x')) + PENALTY * gradient_penalty (eq. 7)."""
    real, fake = discriminator(images), discriminator(made.detach())
    penalty = gradient_penalty(discriminator, made)
    return F.softplus(-real).mean() + F.softplus(fake).mean() + PENALTY * penalty


class Trainer:
    """The networks and random numbers of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args, self.rng = args, np.random.default_rng(args.seed)
        self.like = Likeness.from_args(args)
        self.faces = faces_of(args, self.like.generator)
        self.clip = any_clip(args.clip, device_of(args))
        config = self.like.generator.config
        self.mapper = LatentMapper(
            self.clip.dim, config.w_layers, config.w_dim, depth=args.depth, width=args.width,
            clip=role_of(self.clip.name) if self.clip.name in OPENAI else self.clip.name,
        ).to(args.device)  # fmt: skip
        self.warm_log: list[dict[str, float]] = []
        self.mapper.start_at(self.like.generator.w_avg)
        self.discriminator = Discriminator(config.channels).to(args.device)
        self.makers = torch.optim.Adam(self.mapper.parameters(), 2e-3)
        self.critics = torch.optim.Adam(self.discriminator.parameters(), 2e-3)

    def real(self) -> Tensor:
        """Return pictures (B, 3, S, S) of the training set."""
        rows = self.rng.integers(len(self.faces), size=self.args.batch)
        images = self.faces.batch(rows, self.rng.random(len(rows)) < 0.5)
        return self.like.sized(images.to(self.args.device)).contiguous()

    def warm_up(self) -> None:
        """Regress the known codes of renders from what CLIP sees in them, up to the noise of n."""
        wanted = known_codes(self.args.generator, self.like.generator, self.faces)
        seen = self.embeds()

        def loss_of_step(progress: Progress) -> tuple[Tensor, dict[str, float]]:
            rows = torch.from_numpy(self.rng.integers(len(seen), size=WARM_BATCH))
            target = wanted[rows.to(wanted.device), None]
            embeds = seen[rows.to(seen.device)]
            strength = torch.rand(len(embeds), 1, device=embeds.device)
            found = self.mapper(embeds, strength * torch.randn_like(embeds))
            missed = (found - target).square().mean() / wanted.var()
            return missed, {"missed": missed.item()}

        args = copy.copy(self.args)
        args.minutes, args.batch = args.warm_start_minutes, WARM_BATCH
        optimizer = torch.optim.AdamW(self.mapper.parameters(), 1e-3, weight_decay=0.05)
        self.warm_log = train(
            args,
            name=f"{args.name}_warm",
            parts={"mapper": self.mapper},
            optimizers=[optimizer],
            loss_of_step=loss_of_step,
            decay_from=0.4,
        ).log

    @torch.no_grad()
    def embeds(self) -> Tensor:
        """Return CLIP's embeddings (N, D) of all pictures."""
        straight, rows = np.zeros(EMBED_BATCH, bool), np.arange(len(self.faces))
        return torch.cat([
            self.clip.embed_images(
                self.faces.batch(part, straight[: len(part)]).to(self.args.device)
            )
            for part in np.array_split(rows, -(-len(rows) // EMBED_BATCH))
        ])  # fmt: skip

    def step(self, progress: Progress) -> dict[str, float]:
        """Move the mapper, then the discriminator."""
        images = self.real()
        with torch.no_grad():
            embeds = self.clip.embed_images(images)
        made = self.like.generator.synthesis(self.mapper(embeds))
        losses = self.like.losses(images, made)
        if self.args.diversity:
            losses["diversity"] = self.diversity(embeds, made)
        if self.args.adversarial:
            self.discriminator.requires_grad_(False)
            losses["adversarial"] = generator_loss(self.discriminator(made))
            self.discriminator.requires_grad_(True)
        descend(weighted(losses, WEIGHTS), [self.makers])
        numbers = numbers_of(losses)
        if self.args.adversarial:
            told = discriminator_loss(self.discriminator, images, made)
            descend(told, [self.critics])
            numbers["discriminator"] = told.item()
        return numbers

    def diversity(self, embeds: Tensor, made: Tensor) -> Tensor:
        """Return L_div of pictures and those of the same features with n ~ N(0, 1) added."""
        noise = torch.randn_like(embeds)
        other = self.like.generator.synthesis(self.mapper(embeds, noise))
        f = self.mapper.features(embeds)
        return diversity_loss(f, f + noise, made, other)


def options() -> argparse.ArgumentParser:
    """Return the parser: the common options, the frozen networks and the ablations."""
    more = parser(__doc__)
    add_folders(more)
    more.add_argument("--clip", type=Path, default=TOYBOX / "clip_faces")
    more.add_argument("--depth", type=int, default=12, choices=DEPTHS)
    more.add_argument("--width", type=int, default=512)
    switch = argparse.BooleanOptionalAction
    more.add_argument("--adversarial", action=switch, default=True)
    more.add_argument("--diversity", action=switch, default=True)
    more.add_argument("--name", default="latent_mapper", help="of the checkpoint in --work")
    more.set_defaults(batch=16)
    return more


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write the mapper's pack entry; return its folder."""
    args = options().parse_args(argv)
    trainer = Trainer(args)
    is_begun = (args.work / f"{args.name}.pt").exists() and not args.fresh
    if args.warm_start_minutes > 0 and not is_begun:
        trainer.warm_up()
    progress = run(
        args,
        name=args.name,
        parts={"mapper": trainer.mapper, "discriminator": trainer.discriminator},
        optimizers=[trainer.makers, trainer.critics],
        step=trainer.step,
        decay_from=0.5,
    )
    folder = args.out or TOYBOX / "latent_mapper"
    trainer.mapper.eval().save(folder)
    with torch.no_grad():
        images = trainer.real()[:10]
        codes = trainer.mapper(trainer.clip.embed_images(images))
        write_sheet([images, trainer.like.generator.synthesis(codes)], folder / "samples.webp")
    switches = {name: getattr(args, name) for name in ("depth", "adversarial", "diversity")}
    counted = {"samples": progress.samples, "minutes": round(progress.elapsed_s / 60, 1)}
    counted["warm_start_minutes"] = args.warm_start_minutes
    write_json(
        folder / "training.json", {**switches, **counted, "log": progress.log or trainer.warm_log}
    )
    return folder


if __name__ == "__main__":
    main()
