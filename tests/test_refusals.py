"""Every loader of published files against five kinds of broken ones: a sentence for each kind.

Each loader opens the whole file first, so that what is refused is the damage.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_bisenet
import test_e4e
import tiny_vqgan
import torch
from safetensors.torch import load_file, save_file
from test_published_faces import write_segformer
from test_stylegan2 import rosinality_checkpoint
from test_weights import Attack
from tiny_pack import CPU, write_openai_clip, write_vgg16
from tiny_sd import write_sd, write_sdxl

from pipelines import hub
from pipelines.errors import InputError
from pipelines.hub import Repository
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.e4e import E4E
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.perceptual import Perceptual
from pipelines.models.published_faces import PublishedFaceParser, open_generator
from pipelines.models.vqgan import VQGAN

UNET = "unet/diffusion_pytorch_model.safetensors"
GENERATOR, ENCODER = "stylegan2-ffhq-config-f.pt", "e4e_ffhq_encode.pt"


@dataclass(frozen=True)
class Layout:
    """A published layout: its writer, the file to damage, one tensor in it, and its loader."""

    write: Callable[[Path], object]
    file: str
    tensor: str
    load: Callable[[Path], object]
    inside: str = ""  # the entry of a checkpoint that holds the tensors


def clip(folder):
    return DualEncoder.from_pretrained(folder, CPU, "tiny-quickgelu")


def diffusion(folder):
    return LatentDiffusion.from_folder(folder, CPU)


def parser(folder):
    return PublishedFaceParser.from_published(folder, CPU)


LAYOUTS = {
    "Stable Diffusion": Layout(write_sd, UNET, "conv_in.bias", diffusion),
    "Stable Diffusion XL": Layout(write_sdxl, UNET, "conv_in.bias", diffusion),
    "OpenAI CLIP": Layout(
        write_openai_clip, "open_clip_model.safetensors", "visual.conv1.weight", clip
    ),
    "LPIPS": Layout(
        write_vgg16, "model.safetensors", "features.28.bias",
        lambda folder: Perceptual.from_published(folder, CPU),
    ),
    "VQGAN": Layout(
        lambda folder: tiny_vqgan.save(folder / "last.ckpt"), "last.ckpt",
        "decoder.mid.attn_1.q.bias", lambda folder: VQGAN.from_folder(folder, CPU), "state_dict",
    ),
    "StyleGAN2": Layout(
        lambda folder: torch.save(rosinality_checkpoint(), folder / GENERATOR), GENERATOR,
        "convs.0.conv.weight", lambda folder: open_generator(folder, CPU), "g_ema",
    ),
    "e4e": Layout(
        lambda folder: torch.save(test_e4e.checkpoint(), folder / ENCODER), ENCODER,
        "encoder.body.9.res_layer.1.weight", lambda folder: E4E.from_published(folder, CPU),
        "state_dict",
    ),
    "BiSeNet": Layout(
        lambda folder: torch.save(test_bisenet.checkpoint(), folder / test_bisenet.FILE),
        test_bisenet.FILE, "ffm.conv1.weight", parser,
    ),
    "SegFormer": Layout(
        write_segformer, "model.safetensors", "decode_head.classifier.bias", parser
    ),
}  # fmt: skip


def rewritten(layout, path, change):
    """Write a file again with changed tensors."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})
        return
    content = torch.load(path, weights_only=False)
    change(content[layout.inside] if layout.inside else content)
    torch.save(content, path)


def with_code(layout, path, mark):
    if path.suffix == ".safetensors":
        path.write_bytes(pickle.dumps(Attack(mark)))
    else:
        torch.save({**torch.load(path, weights_only=False), "args": Attack(mark)}, path)


def cut(layout, path, mark):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def of_another_shape(layout, path, mark):
    def change(tensors):
        tensors[layout.tensor] = torch.cat([tensors[layout.tensor]] * 2)

    rewritten(layout, path, change)


def without_a_key(layout, path, mark):
    rewritten(layout, path, lambda tensors: tensors.pop(layout.tensor))


DAMAGES = {
    with_code: "would run code of its own|is no safetensors file",
    cut: "cut off half-way",
    of_another_shape: "another architecture",
    without_a_key: "is not complete.* missing",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_whole_file_opens_and_each_broken_one_has_its_own_sentence(layout, tmp_path):
    mark, said = tmp_path / "ran", set()
    folder = tmp_path / "whole"
    folder.mkdir()
    layout.write(folder)
    path = folder / layout.file
    content = path.read_bytes()
    assert layout.load(folder).nbytes > 0
    for damage, phrase in DAMAGES.items():
        damage(layout, path, mark)
        with pytest.raises(InputError, match=phrase) as caught:
            layout.load(folder)
        said.add(str(caught.value))
        path.write_bytes(content)
    other = Repository((), (layout.file,), "MIT", len(content), sha256={layout.file: "0" * 64})
    with pytest.raises(InputError, match="not the file that was published") as caught:
        hub.check(folder, other)
    said.add(str(caught.value))
    assert len(said) == len(DAMAGES) + 1
    assert all(str(path) in one and one.endswith(".") for one in said)
    assert not mark.exists()
