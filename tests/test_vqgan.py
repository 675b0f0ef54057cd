"""VQGAN: both published layouts against the network of the release."""

import sys
import types

import pytest
import tiny_vqgan
import torch
from diffusers import VQModel

from pipelines import weights
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models.vqgan import VQGAN, architecture, renamed

CPU = Device("cpu", torch.device("cpu"), torch.bfloat16)
SIDE = 32


def opened(folder):
    return VQGAN.from_folder(folder, CPU, resolution_px=SIDE)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    return folder, tiny_vqgan.save(folder / "last.ckpt")


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1


@torch.no_grad()
def test_the_release_encodes_and_decodes_as_published(release, images):
    folder, oracle = release
    vqgan = opened(folder)
    latents0 = vqgan.encode_images(images)
    assert latents0.shape[1:] == vqgan.latent_shape == (tiny_vqgan.LATENTS, 8, 8)
    torch.testing.assert_close(latents0, oracle.encode(images), rtol=1e-4, atol=1e-5)
    expected = oracle.decode(latents0).clamp(-1, 1)
    torch.testing.assert_close(vqgan.decode_latents(latents0), expected, rtol=1e-4, atol=1e-5)
    assert vqgan.dtype == torch.float32


@torch.no_grad()
def test_the_layout_of_diffusers_gives_the_same(release, images, tmp_path):
    vqgan = opened(release[0])
    vqgan.vqmodel.save_pretrained(tmp_path)
    other = opened(tmp_path)
    latents0 = vqgan.encode_images(images)
    assert torch.equal(other.encode_images(images), latents0)
    assert torch.equal(other.decode_latents(latents0), vqgan.decode_latents(latents0))
    assert other.latent_shape == vqgan.latent_shape


def test_the_published_sizes_give_the_published_architecture():
    """The table of PAPERS, from names and shapes alone."""
    widths = (128, 128, 256, 256, 512)
    with torch.device("meta"):
        published = VQModel(
            block_out_channels=widths, layers_per_block=2, latent_channels=256,
            num_vq_embeddings=1024,
            down_block_types=(*["DownEncoderBlock2D"] * 4, "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 4),
        )  # fmt: skip
    read = architecture(published.state_dict())
    assert {name: published.config[name] for name in read} | {"vq_embed_dim": 256} == read


def test_latents_are_continuous_and_have_gradients(release, images):
    vqgan = opened(release[0])
    leaf = vqgan.encode_images(images).requires_grad_()
    vqgan.decode_latents(leaf).square().sum().backward()
    assert all(gradient.abs().max() > 0 for gradient in leaf.grad)
    assert not any(p.requires_grad for p in vqgan.vqmodel.parameters())


def test_every_tensor_of_the_release_has_its_place(release):
    tensors = weights.read_tensors(release[0] / "last.ckpt")
    kept = {name: value for name, value in tensors.items() if not name.startswith("loss.")}
    names = renamed(kept)
    assert len(names) == len(kept) < len(tensors)
    assert set(names) == set(VQModel(**architecture(names)).state_dict())


def test_classes_of_lightning_are_read_as_empty_shells(tmp_path, monkeypatch):
    """The release's checkpoint names its callback's class beside the tensors."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "last.ckpt"
    tensors = tiny_vqgan.Release().state_dict()
    torch.save({"callbacks": {callback: {"best": 0.5}}, "state_dict": tensors}, path)
    monkeypatch.undo()
    assert "pytorch_lightning" not in sys.modules
    assert opened(tmp_path).latent_shape == (tiny_vqgan.LATENTS, 8, 8)


def test_what_is_no_vqgan_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"encoder.layers.0.weight": torch.ones(2)}}, path)
    with pytest.raises(InputError, match="holds no VQGAN"):
        opened(tmp_path)
    tensors = tiny_vqgan.Release().state_dict()
    del tensors["decoder.mid.attn_1.q.weight"]
    torch.save({"state_dict": tensors}, path)
    with pytest.raises(InputError, match=r"missing, such as “decoder\.mid_block.*to_q\.weight”"):
        opened(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="has no diffusion_pytorch_model"):
        opened(tmp_path)
