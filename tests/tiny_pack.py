"""Models of the shipped layouts with random weights, small enough to make in a second."""

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from pipelines.data.captions import VOCABULARY
from pipelines.devices import Device
from pipelines.models.adaptation_heads import AdaptationHeads, save_heads
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.perceptual import Perceptual, untrained
from pipelines.models.retrieval_set import Example, RetrievalSet, write_examples
from pipelines.training import (
    adaptation_heads,
    perceptual,
    scene_autoencoder,
    scene_clip,
    scene_diffusion,
    simat_set,
    word_tokenizer,
)
from pipelines.training.common import write_json

CPU = Device("cpu", torch.device("cpu"), torch.float32)


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
    return LatentDiffusion.from_folder(write_scene_model(folder, **options), CPU)


VISION = {
    "vit": {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
    "resnet_large": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8},
}
"""The three CLIPs, much smaller."""


def write_clip(size: str, folder: Path, world: str = "scenes") -> Path:
    """Write an untrained CLIP of a shipped kind as an open_clip folder."""
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        patch.setitem(scene_clip.VISION, size, VISION[size])
        scene_clip.save(scene_clip.build(size, folder, world), folder)
    return folder


def write_openai_clip(folder: Path) -> Path:
    """Write a small network in OpenAI's layout; open_clip then knows it as "tiny-quickgelu"."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny-quickgelu.json").write_text(json.dumps(config))
    (folder / "tiny.json").write_text(json.dumps({**config, "quick_gelu": False}))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.create_model("tiny-quickgelu", precision="fp32")
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_vgg16(folder: Path) -> dict[str, torch.Tensor]:
    """Write a random VGG16 under the names of timm's copy, its classifier included."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        f"features.{name.split('.', 2)[2]}": w.shape
        for name, w in untrained("vgg", "meta").state_dict().items()
        if name.startswith("net.")
    }
    tensors = {name: 0.05 * torch.randn(s, generator=generator) for name, s in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {"head.fc.bias": torch.ones(1000)}, folder / "model.safetensors")
    return tensors


def write_retrieval_set(folder: Path, clips: Sequence[Path]) -> Path:
    """Write a set of a few scenes as these CLIPs see them, with untrained heads.

    Its examples are one test query of every kind, right or wrong.
    """
    named = ["--clip", *map(str, clips), "--out", str(folder), "--work", str(folder.parent)]
    simat_set.main([*named, "--candidates", "260", "--device", "cpu"])
    for clip in clips:
        encoder = DualEncoder.from_folder(clip, CPU)
        generator = torch.Generator().manual_seed(0)
        heads = {
            tau: AdaptationHeads.near_identity(encoder.dim, generator)
            for tau in adaptation_heads.TEMPERATURES
        }
        save_heads(folder / clip.name, heads, {"clip": encoder.fingerprint})
    queries = {q.field: q for q in RetrievalSet.from_folder(folder, CPU).simat.queries if q.is_test}
    write_examples(folder, [Example(q.image, q.value, q.target) for q in queries.values()], {})
    return folder


def write_perceptual(net: str, folder: Path) -> Path:
    """Write an untrained perceptual network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = perceptual.build(net)
    write_json(folder / "config.json", {"net": net})
    save_file(perceptual.stored(network), folder / "model.safetensors")
    return folder


def tiny_clips(folder: Path) -> dict[str, DualEncoder]:
    """Return three untrained CLIPs by their roles."""
    return {
        f"clip_{size}": DualEncoder.from_folder(write_clip(size, folder / size), CPU)
        for size in VISION
    }


def tiny_perceptual(folder: Path, net: str = "squeeze") -> Perceptual:
    """Return an untrained perceptual network, loaded as the app loads it."""
    return Perceptual.from_folder(write_perceptual(net, folder), CPU)
