"""Train the scene autoencoder: 128 x 128 pixels to 4 x 32 x 32 latents of unit scale.

    python -m pipelines.training.scene_autoencoder --minutes 12
    python -m pipelines.training.scene_autoencoder --minutes 8 --decoder-only

The second command improves the pictures and leaves every latent as it was.
An AutoencoderTiny (the layout of TAESD) without normalisation layers, so that it costs a CPU
little. Loss: L1 and squared error on pixels, L1 on their differences, a pull of every latent
channel to mean 0 and deviation 1, and noise of 0.05 on the latents so that neighbouring latents
decode alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional as F

from pipelines.training.common import TOYBOX, Average, Progress, parser, train
from pipelines.training.scene_data import SceneSet

WIDTH = 32
LATENT_NOISE = 0.05


def build() -> AutoencoderTiny:
    """Return the untrained autoencoder."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 3,
        decoder_block_out_channels=(WIDTH,) * 3,
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(3, 3, 0),
        latent_channels=4,
        scaling_factor=1.0,
    )


def reconstruction_loss(vae: AutoencoderTiny, images: torch.Tensor, noise: torch.Tensor):
    """Return (loss, numbers) for images (B, 3, 128, 128) in [-1, 1], noise (B, 4, 32, 32)."""
    latents = vae.encode(images).latents
    decoded = vae.decode(latents + LATENT_NOISE * noise).sample.float()
    error = decoded - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    squared = error.square().mean()
    centred = latents.mean((0, 2, 3)).square().mean()
    scaled = (latents.std((0, 2, 3)) - 1).square().mean()
    loss = error.abs().mean() + 0.5 * edges + squared + 0.05 * (centred + scaled)
    return loss, {"psnr_db": psnr_db(squared.item()), "latent_std": latents.std().item()}


def training_view(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a random 64-pixel part of each picture or, one time in four, all of it halved.

    The network is convolutional, so parts teach it as much as wholes, and steps come four times as
    often; the halves are what the diffusion model's first phase is trained on.
    """
    if rng.random() < 0.25:
        images = F.avg_pool2d(images, 2)
    else:
        top, left = rng.integers(images.shape[-1] // 2 + 1, size=2)
        images = images[..., top : top + 64, left : left + 64]
    return images.contiguous(memory_format=torch.channels_last)


def psnr_db(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio in dB for pixels in [-1, 1]."""
    return 10 * math.log10(4 / max(mean_squared_error, 1e-12))


def main(argv: Sequence[str] | None = None) -> Path:
    """Train (or resume) and write `vae/` of the scene pack entry; return its folder."""
    options = parser(__doc__)
    options.add_argument("--decoder-only", action="store_true", help="go on from the pack's")
    args = options.parse_args(argv)
    folder = args.out or TOYBOX / "scenes" / "vae"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    scenes = SceneSet(args.work / "scenes")
    vae = AutoencoderTiny.from_pretrained(folder).float() if args.decoder_only else build()
    vae.encoder.requires_grad_(not args.decoder_only)
    vae = vae.to(args.device, memory_format=torch.channels_last)
    average = Average(vae, 0.998)
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 2e-3, betas=(0.9, 0.99), fused=True)

    def loss_of_step(progress: Progress):
        rows = rng.integers(len(scenes), size=args.batch)
        images = scenes.batch(rows, rng.random(args.batch) < 0.5)
        images = training_view(images.to(args.device), rng)
        noise = torch.randn(len(images), 4, 16, 16, device=args.device)
        return reconstruction_loss(vae, images, noise)

    progress = train(
        args,
        name="scene_decoder" if args.decoder_only else "scene_autoencoder",
        parts={"vae": vae, "average": average.module},
        optimizers=[optimizer],
        loss_of_step=loss_of_step,
        after_step=lambda p: average.update(vae, p.step),
        decay_from=0.5,
    )
    print(f"{progress.samples} samples in {progress.elapsed_s / 60:.1f} minutes")
    average.module.to(torch.float16).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
