"""The published e4e encoder in its layout: opened, compared with its arithmetic, or refused."""

import pytest
import torch
from test_weights import Attack
from tiny_pack import CPU
from torch.nn import functional as F

from pipelines.errors import InputError
from pipelines.models.e4e import BLOCKS, E4E, INPUT_PX

WIDTH, W_DIM, LAYERS = 16, 9, 10


def checkpoint():
    """Random weights under the keys of omertov/encoder4editing, narrow ones."""
    generator, state = torch.Generator().manual_seed(0), {}

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    def conv(name, inputs, outputs, size, bias=False):
        state[f"{name}.weight"] = randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.1 * randn(outputs)

    def norm(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.1 * randn(width), 0.1 * randn(width)
        state[f"{name}.running_mean"] = 0.1 * randn(width)
        state[f"{name}.running_var"] = 1 + randn(width).square()
        state[f"{name}.num_batches_tracked"] = torch.tensor(200_000)

    conv("encoder.input_layer.0", 3, WIDTH, 3)
    norm("encoder.input_layer.1", WIDTH)
    state["encoder.input_layer.2.weight"] = 0.25 + 0.1 * randn(WIDTH)
    inputs, index = WIDTH, 0
    for stage, count in enumerate(BLOCKS):
        outputs = WIDTH * 2**stage
        for _ in range(count):
            name = f"encoder.body.{index}"
            if inputs != outputs:
                conv(f"{name}.shortcut_layer.0", inputs, outputs, 1)
                norm(f"{name}.shortcut_layer.1", outputs)
            norm(f"{name}.res_layer.0", inputs)
            conv(f"{name}.res_layer.1", inputs, outputs, 3)
            state[f"{name}.res_layer.2.weight"] = 0.25 + 0.1 * randn(outputs)
            conv(f"{name}.res_layer.3", outputs, outputs, 3)
            norm(f"{name}.res_layer.4", outputs)
            conv(f"{name}.res_layer.5.fc1", outputs, outputs // 16, 1)
            conv(f"{name}.res_layer.5.fc2", outputs // 16, outputs, 1)
            inputs, index = outputs, index + 1
    for i in range(LAYERS):
        for k in range(4 + (i >= 3) + (i >= 7)):
            conv(f"encoder.styles.{i}.convs.{2 * k}", W_DIM if k else inputs, W_DIM, 3, bias=True)
        state[f"encoder.styles.{i}.linear.weight"] = randn(W_DIM, W_DIM)
        state[f"encoder.styles.{i}.linear.bias"] = 0.1 * randn(W_DIM)
    conv("encoder.latlayer1", 4 * WIDTH, inputs, 1, bias=True)
    conv("encoder.latlayer2", 2 * WIDTH, inputs, 1, bias=True)
    state["decoder.input.input"] = randn(1, 4, 4, 4)
    opts = {
        "encoder_type": "Encoder4Editing", "start_from_latent_avg": True, "stylegan_size": 64,
        "device": "cuda:0", "exp_dir": "runs/ffhq", "checkpoint_path": None, "lpips_lambda": 0.8,
    }  # fmt: skip
    return {"state_dict": state, "opts": opts, "latent_avg": randn(LAYERS, W_DIM)}


def reference(told, x):
    """The published forward pass, with functions over the checkpoint's own tensors."""
    state = {name.removeprefix("encoder."): one for name, one in told["state_dict"].items()}

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def norm(name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))

    x = norm("input_layer.1", conv("input_layer.0", x, padding=1))
    x, kept, index = F.prelu(x, state["input_layer.2.weight"]), {}, 0
    for count in BLOCKS:
        for k in range(count):
            name, stride = f"body.{index}", 1 if k else 2
            short = F.max_pool2d(x, 1, stride)
            if f"{name}.shortcut_layer.0.weight" in state:
                short = conv(f"{name}.shortcut_layer.0", x, stride=stride)
                short = norm(f"{name}.shortcut_layer.1", short)
            y = conv(f"{name}.res_layer.1", norm(f"{name}.res_layer.0", x), padding=1)
            y = F.prelu(y, state[f"{name}.res_layer.2.weight"])
            y = conv(f"{name}.res_layer.3", y, stride=stride, padding=1)
            y = norm(f"{name}.res_layer.4", y)
            weight = F.relu(conv(f"{name}.res_layer.5.fc1", F.adaptive_avg_pool2d(y, 1)))
            x = y * conv(f"{name}.res_layer.5.fc2", weight).sigmoid() + short
            kept[index], index = x, index + 1

    def style(i, x):
        k = 0
        while f"styles.{i}.convs.{k}.weight" in state:
            x, k = F.leaky_relu(conv(f"styles.{i}.convs.{k}", x, stride=2, padding=1), 0.01), k + 2
        weight = state[f"styles.{i}.linear.weight"] / W_DIM**0.5
        return F.linear(x.view(-1, W_DIM), weight, state[f"styles.{i}.linear.bias"])

    def added(x, y):
        return F.interpolate(x, y.shape[2:], mode="bilinear", align_corners=True) + y

    c1, c2, c3 = kept[6], kept[20], kept[23]
    w = style(0, c3)[:, None].repeat(1, LAYERS, 1)
    features = c3
    for i in range(1, LAYERS):
        features = added(c3, conv("latlayer1", c2)) if i == 3 else features
        features = added(features, conv("latlayer2", c1)) if i == 7 else features
        w[:, i] += style(i, features)
    return w + told["latent_avg"]


@pytest.fixture
def file(tmp_path):
    torch.save(checkpoint(), tmp_path / "e4e_ffhq_encode.pt")
    return tmp_path / "e4e_ffhq_encode.pt"


def test_codes_are_those_of_the_published_arithmetic(file):
    model, told = E4E.from_published(file.parent, CPU), checkpoint()
    images = (
        torch.rand(2, 3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )
    with torch.no_grad():
        codes, expected = model(images), reference(told, images)
    torch.testing.assert_close(codes, expected, rtol=1e-3, atol=1e-3)
    assert not any(p.requires_grad for p in model.parameters())
    told["opts"]["start_from_latent_avg"] = False
    torch.save(told, file)
    with torch.no_grad():
        moved = codes - E4E.from_published(file.parent, CPU)(images)
    torch.testing.assert_close(moved, told["latent_avg"].expand(2, -1, -1), rtol=0, atol=1e-4)


def without(name):
    return lambda told: told["state_dict"].pop(name)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda told: told.pop("opts"), "has no “opts”: it is no encoder in the layout"),
        (lambda told: told.pop("latent_avg"), "has no “latent_avg”"),
        (lambda told: told.update(opts={"encoder_type": "GradualStyleEncoder"}), "not of e4e"),
        (without("encoder.body.9.res_layer.1.weight"), r"not complete.*body\.9\.res_layer\.1"),
        (without("encoder.styles.0.linear.weight"), "its encoder has no “styles.0.linear.weight”"),
        (
            lambda told: told["state_dict"].update({"encoder.latlayer1.bias": torch.ones(3)}),
            "another architecture.*latlayer1.bias",
        ),
        (
            lambda told: told["state_dict"].update({"encoder.body.24.x": torch.ones(3)}),
            "has no place for.*body.24",
        ),
    ],
)
def test_other_encoders_are_refused(file, damage, sentence):
    told = checkpoint()
    damage(told)
    torch.save(told, file)
    with pytest.raises(InputError, match=sentence):
        E4E.from_published(file.parent, CPU)


def test_code_and_cuts_are_refused(file, tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut off half-way"):
        E4E.from_published(file.parent, CPU)
    torch.save({**checkpoint(), "opts": Attack(tmp_path / "ran")}, file)
    with pytest.raises(InputError, match="pickle that would run code"):
        E4E.from_published(file.parent, CPU)
    assert not (tmp_path / "ran").exists()
    file.unlink()
    with pytest.raises(InputError, match="no checkpoint of e4e"):
        E4E.from_published(tmp_path, CPU)
