import json

import lpips
import pytest
import torch
from safetensors.torch import save_file
from tiny_pack import write_vgg16
from torch.nn import functional as F

from pipelines.data.distortions import DISTORTIONS, SPOILT, triplets
from pipelines.devices import Device
from pipelines.errors import InputError
from pipelines.models.perceptual import LAYER_WEIGHTS, Perceptual, stored, untrained

CPU = Device("cpu", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", params=["squeeze", "alex"])
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return untrained(request.param)


@pytest.fixture
def perceptual(network, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"net": network.pnet_type}))
    save_file(stored(network), tmp_path / "model.safetensors")
    return Perceptual.from_folder(tmp_path, CPU)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 3, 64, 64, generator=generator) * 2 - 1


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips uses old arguments
def test_distance_is_that_of_the_lpips_package(network, perceptual, pictures):
    theirs = lpips.LPIPS(net=network.pnet_type, pretrained=False, pnet_rand=True, verbose=False)
    theirs.load_state_dict(perceptual.network.state_dict())
    expected = theirs(*pictures).flatten()
    assert expected.abs().min() > 1e-4
    torch.testing.assert_close(perceptual.distance(*pictures), expected, rtol=1e-4, atol=1e-6)


def test_weights_on_disk_are_the_networks_in_half_precision(network, perceptual):
    mine, theirs = perceptual.network.state_dict(), network.state_dict()
    assert list(mine) == list(theirs)
    for name, weight in theirs.items():
        torch.testing.assert_close(mine[name], weight, rtol=1e-3, atol=1e-6)
    assert torch.equal(mine["scaling_layer.shift"], theirs["scaling_layer.shift"])
    assert perceptual.nbytes == 4 * sum(p.numel() for p in network.parameters())


def test_a_picture_is_no_distance_from_itself_and_order_does_not_matter(perceptual, pictures):
    a, b = pictures
    assert torch.equal(perceptual.distance(a, a), torch.zeros(3))
    torch.testing.assert_close(perceptual.distance(a, b), perceptual.distance(b, a))
    kept = perceptual.features(a)
    torch.testing.assert_close(perceptual.distance_to(kept, b), perceptual.distance(a, b))


def test_distance_can_be_differentiated(perceptual, pictures):
    a, b = pictures
    b = b.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual.distance(a, b).sum(), b)
    assert gradient.abs().sum((1, 2, 3)).min() > 0
    assert not any(p.requires_grad for p in perceptual.network.parameters())


def test_an_unknown_or_incomplete_network_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match="vgg"):
        untrained("resnet")
    weights = stored(network)
    weights.pop("lin0.model.1.weight")
    (tmp_path / "config.json").write_text(json.dumps({"net": network.pnet_type}))
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match="lin0"):
        Perceptual.from_folder(tmp_path, CPU)


@pytest.fixture
def scenes():
    generator = torch.Generator().manual_seed(2)
    smooth = torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(smooth, (64, 64), mode="bicubic").clamp(-1, 1)
    labels = torch.zeros(6, 64, 64, dtype=torch.uint8)
    labels[:, 20:40, 20:40] = 1
    return images, labels


def squared(a, b):
    return (a - b).square().mean((1, 2, 3))


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_the_farther_version_is_distorted_more(kind, scenes):
    images, labels = scenes
    near, far = triplets(images, labels, kind, 3)
    assert near.shape == far.shape == images.shape
    assert (squared(far, images) > squared(near, images)).all()
    assert (squared(near, images) > 0).all()
    again = triplets(images, labels, kind, 3)
    assert torch.equal(again[0], near)
    assert not torch.equal(triplets(images, labels, kind, 4)[1], far) or kind == "recolour"


def test_pixels_mislead_about_pictures_that_moved(scenes):
    images, labels = scenes
    misled = total = 0
    for seed in range(20):
        near, far = triplets(images, labels, SPOILT, seed)
        assert (squared(far, near) > 0).all()
        misled += int((squared(far, images) < squared(near, images)).sum())
        total += len(images)
    assert 0 < misled < total / 2


@pytest.fixture
def published(tmp_path):
    return tmp_path, write_vgg16(tmp_path)


def test_published_lpips_is_the_packages_layers_over_that_backbone(published):
    folder, tensors = published
    images = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features, layers = [[], []], torch.load(LAYER_WEIGHTS, "cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    for x, seen in zip(images, features, strict=True):
        x = (x - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = F.max_pool2d(x, 2) if block[0] else x
            for i in block:
                x = F.conv2d(x, *(tensors[f"features.{i}.{p}"] for p in ("weight", "bias")), 1, 1)
                x = x.relu()
            seen.append(x / x.norm(dim=1, keepdim=True))
    terms = [
        F.conv2d((a - b) ** 2, layers[f"lin{i}.model.1.weight"]).mean()
        for i, (a, b) in enumerate(zip(*features, strict=True))
    ]
    distance = Perceptual.from_published(folder, CPU).distance(*images)
    torch.testing.assert_close(distance, sum(terms).reshape(1), rtol=1e-4, atol=1e-6)


def test_a_backbone_that_lacks_a_layer_is_refused(published):
    folder, tensors = published
    del tensors["features.28.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"missing, such as “net\.slice5\.28\.bias”"):
        Perceptual.from_published(folder, CPU)
