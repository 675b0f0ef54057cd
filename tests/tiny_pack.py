"""A scene model of the shipped layout with random weights, small enough to make in a second."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from pipelines.data.captions import VOCABULARY
from pipelines.devices import Device
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.training import scene_autoencoder, scene_diffusion, word_tokenizer


def write_scene_model(folder: Path, *, prediction_type: str = "epsilon") -> Path:
    """Write an untrained scene model as a diffusers folder; the same bytes every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = word_tokenizer.build(
            VOCABULARY, folder / "tokenizer", max_length=scene_diffusion.MAX_TOKENS
        )
        scheduler = scene_diffusion.build_scheduler()
        scheduler.register_to_config(prediction_type=prediction_type)
        unet = scene_diffusion.build_unet((32, 32, 32), (2, 2, 2))
        StableDiffusionPipeline(
            vae=scene_autoencoder.build(),
            text_encoder=scene_diffusion.build_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder


def tiny_scene_model(folder: Path, **options: str) -> LatentDiffusion:
    """Return the model of `write_scene_model`, loaded as the app loads it."""
    device = Device("cpu", torch.device("cpu"), torch.float32)
    return LatentDiffusion.from_folder(write_scene_model(folder, **options), device)
