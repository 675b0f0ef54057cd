import open_clip
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from tiny_pack import write_openai_clip
from torch.nn import functional as F

from pipelines import repositories
from pipelines.benchmarks.clip import recall_at_1
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models.dual_encoder import DualEncoder
from pipelines.training import scene_clip

CPU = Device("cpu", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", params=list(scene_clip.VISION))
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scene_clip.save(scene_clip.build(request.param, folder), folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return DualEncoder.from_folder(folder, CPU)


def pictures(side_px, seed=0):
    noise = torch.rand(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(seed))
    return noise * 2 - 1


def test_open_clip_opens_the_folder_and_agrees(folder, encoder):
    source = f"local-dir:{folder}"
    network, preprocess = open_clip.create_model_from_pretrained(source)
    network.eval()
    tokens = open_clip.get_tokenizer(source)(["a red horse", "a cat on the beach"])
    images = pictures(encoder.image_size_px)
    standardised = (images + 1) / 2
    standardised = preprocess.transforms[-1](standardised)
    with torch.no_grad():
        theirs = network.encode_image(standardised, normalize=True)
        their_words = network.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encoder.embed_images(images), theirs)
        ours = encoder.embed_texts(["a red horse", "a cat on the beach"])
    torch.testing.assert_close(ours, their_words)


def test_embeddings_are_unit_vectors_and_follow_the_picture(encoder):
    images = pictures(128).requires_grad_()
    embeds = encoder.embed_images(images)
    assert embeds.shape == (2, encoder.dim)
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(2))
    embeds[0, 0].backward()
    assert images.grad[0].abs().max() > 0
    assert images.grad[1].abs().max() == 0
    assert not any(p.requires_grad for p in encoder.network.parameters())


def test_any_size_is_resized_with_antialiasing(encoder):
    images = pictures(160)
    size = (encoder.image_size_px,) * 2
    resized = F.interpolate(images, size, mode="bicubic", antialias=True)
    torch.testing.assert_close(encoder.preprocess(images), encoder.preprocess(resized))


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"open_clip_model\.safetensors"):
        DualEncoder.from_folder(tmp_path, CPU)


def test_the_loss_is_that_of_the_paper_plus_the_negatives():
    generator = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(3, 5, generator=generator), dim=-1)
    words = F.normalize(torch.randn(7, 5, generator=generator), dim=-1)
    scale = torch.tensor(4.0)
    similar = 4 * pictures @ words.T
    to_text = sum(-similar[i].log_softmax(0)[i] for i in range(3)) / 3
    to_picture = sum(-similar[:, i].log_softmax(0)[i] for i in range(3)) / 3
    loss = scene_clip.contrastive_loss(pictures, words, scale)
    torch.testing.assert_close(loss, (to_text + to_picture) / 2)
    alone = scene_clip.contrastive_loss(pictures, words[:3], scale)
    assert alone < loss


def test_adversarial_examples_lie_within_their_radius_where_the_loss_is_greatest():
    torch.manual_seed(0)
    images, slope = torch.rand(4, 3, 8, 8), torch.randn(3, 8, 8)
    moved = scene_clip.adversarial(images, lambda x: (x * slope).sum(), 0.1) - images
    size = moved.square().mean((1, 2, 3)).sqrt()
    assert (size <= 0.1 + 1e-6).all() and (size > 0.05).all()
    along = F.cosine_similarity(moved.flatten(1), slope.flatten()[None])
    assert (along > 0.5).all()
    pulled = scene_clip.adversarial(images, lambda x: -x.square().sum(), 0.1)
    assert (pulled.square().sum((1, 2, 3)) < images.square().sum((1, 2, 3))).all()


def test_recall_counts_hits_at_rank_one():
    axes = torch.eye(4)
    assert recall_at_1(axes, axes) == 1
    assert recall_at_1(axes, axes[[1, 0, 2, 3]]) == 0.5


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_openai_clip(tmp_path_factory.mktemp("published"))


@torch.no_grad()
def test_published_weights_embed_as_in_open_clip(published):
    path = published / "open_clip_model.safetensors"
    network = open_clip.create_model("tiny-quickgelu", pretrained=str(path)).eval()
    encoder = DualEncoder.from_pretrained(published, CPU, "tiny-quickgelu")
    texts, images = ["a red horse", "a cat on the beach"], pictures(32)
    words = network.encode_text(open_clip.get_tokenizer("tiny-quickgelu")(texts), normalize=True)
    torch.testing.assert_close(encoder.embed_texts(texts), words)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    seen = network.encode_image(((images + 1) / 2 - mean) / std, normalize=True)
    torch.testing.assert_close(encoder.embed_images(images), seen)
    assert (encoder.name, encoder.dim, encoder.image_size_px) == ("tiny", 24, 32)


@torch.no_grad()
def test_the_plain_name_loads_as_well_and_embeds_wrongly(published):
    """Why packs name the activation function."""
    right, wrong = (
        DualEncoder.from_pretrained(published, CPU, name) for name in ("tiny-quickgelu", "tiny")
    )
    difference = right.embed_texts(["a red horse"]) - wrong.embed_texts(["a red horse"])
    assert difference.abs().max() > 1e-3


def test_every_published_name_is_known_and_quick():
    for name in repositories.OPENAI_CLIPS:
        assert open_clip.get_model_config(name)["quick_gelu"] is True


def test_weights_of_another_architecture_are_refused(published, tmp_path):
    save_file({"visual.conv1.weight": torch.ones(1)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(InputError, match="another architecture"):
        DualEncoder.from_pretrained(tmp_path, CPU, "tiny-quickgelu")
