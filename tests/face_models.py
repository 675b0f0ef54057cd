"""Networks of the face world with random weights, small enough to make in a second."""

import dataclasses
from pathlib import Path

import torch
from tiny_pack import CPU, write_clip, write_perceptual

from pipelines.clip2gan import Clip2Gan
from pipelines.data.faces import CHOICES, PARTS, RANGES
from pipelines.local_directions import random_direction
from pipelines.models.caption_mapper import CaptionMapper
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.face_judge import FaceJudge
from pipelines.models.inversion import InversionEncoder
from pipelines.models.latent_mapper import LatentMapper
from pipelines.models.latent_spaces import StyleGAN2Latents
from pipelines.models.perceptual import Perceptual
from pipelines.models.stylegan2 import StyleGAN2, StyleGAN2Config
from pipelines.training import face_parser
from pipelines.training.scene_clip import EMBED_DIM

CHANNELS = (16, 16, 16, 8, 8, 8)  # 128 pixels, which the worlds have
W_DIM = 24


def seeded(build, *args, seed=0, **options):
    """Call `build` with torch's global generator at `seed`, and put it back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(*args, **options)


def tiny_generator() -> StyleGAN2:
    config = StyleGAN2Config(CHANNELS, z_dim=16, w_dim=W_DIM, mapping_layers=2, mapping_rate=1.0)
    generator = seeded(StyleGAN2, config).eval().requires_grad_(False)
    with torch.no_grad():
        generator.w_avg.copy_(torch.linspace(-0.3, 1.0, W_DIM))
    return generator


def tiny_mapper(generator: StyleGAN2, clip_dim: int, **options) -> LatentMapper:
    config = generator.config
    return seeded(LatentMapper, clip_dim, config.w_layers, config.w_dim, **options).eval()


def tiny_caption_mapper(generator: StyleGAN2, clip_dim: int, **options) -> CaptionMapper:
    w_dim = generator.config.w_dim
    mapper = seeded(CaptionMapper, clip_dim, w_dim, depth=3, width=16, **options)
    with torch.no_grad():  # as if trained: texts move faces
        mapper.layers[-1].weight.copy_(torch.eye(w_dim, 16))
    return mapper.eval().requires_grad_(False)


def tiny_encoder(generator: StyleGAN2) -> InversionEncoder:
    config = generator.config
    encoder = seeded(InversionEncoder, config.w_layers, config.w_dim, width=16)
    for i, offset in enumerate(encoder.offsets):  # as if trained: every layer differs
        torch.nn.init.constant_(offset.bias, 0.01 * (i + 1))
    encoder.w_avg.copy_(generator.w_avg)
    return encoder.eval().requires_grad_(False)


def tiny_perceptual(folder: Path) -> Perceptual:
    return Perceptual.from_folder(write_perceptual("squeeze", folder), CPU)


def tiny_models(folder: Path) -> Clip2Gan:
    clip, generator = (
        DualEncoder.from_folder(write_clip("resnet", folder, "faces"), CPU),
        tiny_generator(),
    )
    mapper = tiny_mapper(generator, clip.dim, depth=4, width=32).requires_grad_(False)
    captions = tiny_caption_mapper(generator, clip.dim)
    return Clip2Gan(clip, mapper, generator, tiny_encoder(generator), captions)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(count, 3, 128, 128, generator=torch.Generator().manual_seed(seed))
    return noise * 2 - 1


def write_judges(folder: Path) -> None:
    """Write the networks that read faces: the judge, and one that tells persons apart."""
    choices = {name: tuple(odds) for name, odds in CHOICES.items()}
    seeded(FaceJudge, RANGES, choices, width=8, hidden=16).save(folder / "face_judge")
    seeded(FaceIdentity, width=8, hidden=16, dim=8).save(folder / "face_identity")


def write_faces(folder: Path) -> None:
    """Write every network of a pack's faces, and directions that are random whatever they say."""
    generator = tiny_generator()
    generator.save(folder / "face_stylegan2")
    tiny_encoder(generator).save(folder / "face_inversion")
    write_clip("resnet", folder / "clip_faces", "faces")
    mapper = tiny_mapper(generator, EMBED_DIM, depth=4, width=16, clip="clip_faces")
    mapper.save(folder / "latent_mapper")
    captions = tiny_caption_mapper(generator, EMBED_DIM, clip="clip_faces")
    captions.save(folder / "caption_mapper")
    write_judges(folder)
    parser = seeded(face_parser.build)
    with torch.no_grad():  # a part that is on no picture
        parser.network.decode_head.classifier.bias[PARTS.index("earrings")] = -100.0
    parser.network.save_pretrained(folder / "face_parser")
    latents = StyleGAN2Latents(StyleGAN2.from_folder(folder / "face_stylegan2", CPU))
    for seed, part in enumerate(("hair", "glasses", "skin")):
        one = random_direction(latents, part, seed=seed)
        one.save(folder / "lelsd" / f"{part}_random.safetensors")
        found = dataclasses.replace(one.scaled(2.0), method="lelsd")
        found.save(folder / "lelsd" / f"{part}_0.safetensors")
    channel = random_direction(latents, "skin", space="s", seed=9)
    channel = dataclasses.replace(channel, method="stylespace")
    channel.save(folder / "lelsd" / "skin_stylespace.safetensors")
