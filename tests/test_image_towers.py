import open_clip
import pytest
import torch
from tiny_pack import VISION
from torch import nn

from pipelines.models.image_towers import quickened

TEXT = {"context_length": 8, "vocab_size": 10, "width": 16, "heads": 2, "layers": 1}


def network_of(vision):
    """Return a network in float64 whose every weight and running mean is random."""
    network = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=TEXT).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.visual.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            is_scale = tensor.ndim == 1 and name.endswith(("weight", "var"))
            spread = 0.5 if tensor.ndim < 2 else 1.5 * tensor[0].numel() ** -0.5
            tensor.copy_((1 + 0.2 * drawn).abs() if is_scale else spread * drawn)
    return network


def seen_by(network, images):
    embeds = network.encode_image(images)
    (gradient,) = torch.autograd.grad(embeds[:, 1].sum(), images)
    return embeds, gradient


VARIANTS = {
    **VISION,
    "deeper ViT": {**VISION["vit"], "layers": 3, "ls_init_value": 0.5},
    "deeper ResNet": {**VISION["resnet"], "layers": [2, 1, 2, 1]},
}


@pytest.mark.parametrize("vision", VARIANTS.values(), ids=VARIANTS)
def test_the_rewritten_encoder_gives_the_same_embeddings_and_gradients(vision):
    network = network_of(vision)
    side_px, generator = vision["image_size"], torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, side_px, side_px, generator=generator, dtype=torch.float64)
    images.requires_grad_()
    wanted = seen_by(network, images)
    assert wanted[1].abs().max() > 1e-3
    assert quickened(network) is network
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.visual.modules())
    torch.testing.assert_close(seen_by(network, images), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("other", [{"pool_type": "avg"}, {"attentional_pool": True}])
def test_a_transformer_of_which_more_than_one_token_is_read_stays_as_it_is(other):
    network = network_of({**VISION["vit"], **other})
    before = dict(network.named_modules())
    assert dict(quickened(network).named_modules()) == before
