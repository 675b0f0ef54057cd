import copy
import json
import threading

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tiny_pack import tiny_scene_model, write_scene_model
from tiny_sd import write_sd, write_sdxl

from pipelines.devices import Device
from pipelines.diffusion import ddim
from pipelines.diffusion.attention import capture
from pipelines.diffusion.guidance import classifier_free
from pipelines.errors import InputError
from pipelines.models import text_encoders
from pipelines.models.latent_diffusion import LatentDiffusion

CPU = Device("cpu", torch.device("cpu"), torch.float32)
HALF = Device("cpu", torch.device("cpu"), torch.bfloat16)
ROUNDING = {CPU: {"rtol": 1e-4, "atol": 1e-5}, HALF: {"rtol": 0.05, "atol": 0.06}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scene_model(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def model(folder):
    return LatentDiffusion.from_folder(folder, CPU)


def test_shapes_and_ranges(model):
    assert model.resolution == 128
    assert model.latent_shape == (4, 32, 32)
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        latents = model.encode_images(images)
        decoded = model.decode_latents(latents)
    assert latents.shape == (2, 4, 32, 32)
    assert decoded.shape == images.shape
    assert decoded.abs().max() <= 1


def test_samples_equal_those_of_diffusers_own_pipeline(folder, model):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        "a red horse at night",
        latents=latents,
        num_inference_steps=5,
        guidance_scale=4.0,
        output_type="latent",
        height=128,
        width=128,
    ).images
    embeds = model.embed_text(["a red horse at night"]), model.embed_text([""])
    with torch.no_grad():
        denoise = classifier_free(model.eps, *embeds, 4.0)
        ours = ddim.decode(denoise, latents, model.schedule.grid(5), model.schedule)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_large_batches_are_split_without_a_difference(model, monkeypatch):
    latents, text = torch.randn(5, 4, 32, 32), model.embed_text(["a cat"])
    with torch.no_grad():
        whole = model.eps(latents, 500, text)
        monkeypatch.setattr("pipelines.models.latent_diffusion.MAX_BATCH", 2)
        split = model.eps(latents, 500, text)
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", [CPU, HALF], ids=lambda device: str(device.dtype))
def test_a_frozen_network_predicts_what_the_network_does(folder, device):
    model = LatentDiffusion.from_folder(folder, device)
    before = model.nbytes
    model.warm_up()
    assert model.nbytes == before
    plain = model.with_unet(copy.deepcopy(model.unet))
    assert model._frozen is not None
    assert plain._frozen is None
    for size in (1, 2, 5):
        latents, text = torch.randn(size, 4, 32, 32), model.embed_text(["a cat"]).detach()
        leaf = latents.requires_grad_()
        predicted = [one.eps(leaf, 700, text) for one in (plain, model, model)]
        gradients = [torch.autograd.grad(eps.sum(), leaf)[0] for eps in predicted]
        for found in (predicted, gradients):
            torch.testing.assert_close(found[1], found[0], **ROUNDING[device])
            assert torch.equal(found[1], found[2])  # the first call is like all others
    with torch.no_grad():
        half = model.eps(torch.randn(1, 4, 16, 16), 700, text)  # another size: the network itself
    assert half.shape == (1, 4, 16, 16)


@pytest.mark.parametrize("device", [CPU, HALF], ids=lambda device: str(device.dtype))
def test_a_watched_model_gives_the_maps_of_a_captured_network(folder, device):
    model = LatentDiffusion.from_folder(folder, device)
    unet, expected = capture(model.unet)
    captured = model.with_unet(unet)
    watched, store = model.watched()
    other, its_store = model.watched()
    assert watched._frozen is not None
    text = model.embed_text(["a cat"]).detach()
    for size in (1, 3):
        leaf = torch.randn(size, 4, 32, 32).requires_grad_()
        found = watched.eps(leaf, 700, text)
        torch.testing.assert_close(found, captured.eps(leaf, 700, text), **ROUNDING[device])
        assert store.sizes == expected.sizes
        assert list(store.maps) == list(expected.maps)
        gradients = []
        for one in (store, expected):
            (gradient,) = torch.autograd.grad(one.average(32)[..., 2].square().sum(), leaf)
            gradients.append(gradient / gradient.abs().max())
        torch.testing.assert_close(*gradients, **ROUNDING[device])
    assert not its_store.maps  # every request has its own
    assert other.watched()[0]._frozen is None  # a changed network is not the one that was frozen


def test_v_prediction_becomes_epsilon(tmp_path, model):
    v_model = tiny_scene_model(tmp_path, prediction_type="v_prediction")
    latents, text = torch.randn(1, 4, 32, 32), model.embed_text(["a cat"])
    with torch.no_grad():
        v = model.eps(latents, 700, text)  # the same weights, read as epsilon: the raw output
        eps = v_model.eps(latents, 700, text)
    alpha, sigma = model.schedule.alpha_sigma(700, latents)
    torch.testing.assert_close(eps, alpha * v + sigma * latents, rtol=1e-4, atol=1e-4)


def test_text_beyond_the_limit_is_named(model):
    assert model.truncated_text("a cat on the grass") == ""
    long = "a cat " * 15 + "and a horse"
    assert model.truncated_text(long) == "and a horse"  # 30 tokens fit beside start and end


def test_counting_what_is_cut_disturbs_no_other_thread(model):
    over = threading.Event()

    def count():
        while not over.is_set():
            model.truncated_text("a cat " * 15 + "and a horse")

    counting = threading.Thread(target=count)
    counting.start()
    try:
        lengths = {tuple(text_encoders.token_ids(model.tokenizer, [""]).shape) for _ in range(3000)}
    finally:
        over.set()
        counting.join()
    assert lengths == {(1, model.tokenizer.model_max_length)}


def test_every_known_word_is_one_token(model):
    from pipelines.data.captions import VOCABULARY

    assert all(len(model.tokenizer.tokenize(word)) == 1 for word in VOCABULARY)
    assert len(model.tokenizer.tokenize("flamingo")) > 1


def test_words_no_caption_uses_say_nothing(model):
    embedding = model.text_encoder.get_input_embeddings().weight
    pieces = model.tokenizer("flamingo", add_special_tokens=False).input_ids
    assert embedding[pieces].abs().max() == 0


def test_stable_diffusions_own_autoencoder_opens_too(tmp_path):
    write_scene_model(tmp_path)
    for file in (tmp_path / "vae").iterdir():
        file.unlink()
    AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
    ).save_pretrained(tmp_path / "vae")
    model = LatentDiffusion.from_folder(tmp_path, CPU)
    images = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        latents = model.encode_images(images)
        mode = model.vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(latents, 0.5 * mode)
    assert model.decode_latents(latents).shape == images.shape


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_half_precision_serve_as_well(tmp_path, variant):
    model = LatentDiffusion.from_folder(write_sd(tmp_path, variant=variant), CPU)
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file() == bool(
        variant
    )
    assert model.dtype == torch.float32
    assert model.origin == tmp_path.name


def test_batches_shrink_as_latents_grow(model):
    assert model.max_batch == 64
    sizes = {}
    for side in (64, 96, 128):
        larger = copy.copy(model)
        larger.latent_shape = (4, side, side)
        sizes[side] = larger.max_batch
    assert sizes == {64: 16, 96: 7, 128: 4}


def test_an_autoencoder_that_overflows_computes_in_float32(tmp_path):
    folder = write_sdxl(tmp_path)
    half = Device("cpu", torch.device("cpu"), torch.float16)
    config = json.loads((folder / "vae" / "config.json").read_text())
    assert config["force_upcast"] is True  # as in the published one
    model = LatentDiffusion.from_folder(folder, half)
    assert (model.vae.dtype, model.unet.dtype) == (torch.float32, torch.float16)
    fixed = tmp_path / "fixed"
    model.vae.register_to_config(force_upcast=False)
    model.vae.save_pretrained(fixed)
    other = LatentDiffusion.from_folder(folder, half, {"vae": fixed})
    assert other.vae.dtype == torch.float16
    assert other.origin == f"{folder.name}, fixed"


def damaged(folder, change):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("conv_in.bias"), r"not complete: 1 tensors are missing.*“conv_in\.bias”"),
        (lambda t: t.update({"conv_in.bias": torch.ones(3)}), "of another architecture"),
        (lambda t: t.update(extra=torch.ones(3)), "no place for, such as “extra”"),
    ],
    ids=["missing", "shape", "strange"],
)
def test_a_unet_that_does_not_fit_is_refused(tmp_path, change, sentence):
    folder = damaged(write_sd(tmp_path), change)
    with pytest.raises(InputError, match=sentence):
        LatentDiffusion.from_folder(folder, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    folder = write_sd(tmp_path)
    file = "diffusion_pytorch_model.safetensors"
    (folder / "unet" / file).write_bytes((folder / "vae" / file).read_bytes())
    with pytest.raises(InputError, match="another architecture"):
        LatentDiffusion.from_folder(folder, CPU)


def test_a_missing_shard_is_named(tmp_path):
    folder = write_sd(tmp_path)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shards = {"conv_in.bias": "diffusion_pytorch_model-00001-of-00002.safetensors"}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(InputError, match="has no diffusion_pytorch_model-00001-of-00002"):
        LatentDiffusion.from_folder(folder, CPU)
