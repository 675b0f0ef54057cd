import open_clip
import pytest
import torch
from torch.nn import functional as F

from pipelines.benchmarks.clip import recall_at_1
from pipelines.devices import Device
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


def test_recall_counts_hits_at_rank_one():
    axes = torch.eye(4)
    assert recall_at_1(axes, axes) == 1
    assert recall_at_1(axes, axes[[1, 0, 2, 3]]) == 0.5
