import math

import pytest
import torch
from torch.nn import functional as F

from pipelines.devices import Device
from pipelines.models.stylegan2 import (
    Discriminator,
    StyleGAN2,
    StyleGAN2Config,
    blur,
    rosinality_state,
    upsample,
)

CPU = Device("cpu", torch.device("cpu"), torch.float32)
CONFIG = StyleGAN2Config((12, 10, 8), z_dim=7, w_dim=9, mapping_layers=3)


def lively(config=CONFIG):
    """A generator whose noise and biases are not at their idle initial values."""
    torch.manual_seed(0)
    model = StyleGAN2(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.w_avg.copy_(torch.randn(config.w_dim))
    return model.eval()


# ---------------------------------------------------------------- rosinality, written out


def rosinality_checkpoint(channels=(12, 10, 8), style_dim=9, mlp=3):
    """Random weights under the keys of rosinality/stylegan2-pytorch's Generator."""
    torch.manual_seed(1)
    state = {}

    def modulated(name, inputs, outputs, size, kernel=None):
        state[f"{name}.conv.weight"] = torch.randn(1, outputs, inputs, size, size)
        state[f"{name}.conv.modulation.weight"] = torch.randn(inputs, style_dim)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.3 * torch.randn(inputs)
        if kernel:
            state[f"{name}.conv.blur.kernel"] = 4 * fir()

    def styled(name, inputs, outputs, kernel=False):
        modulated(name, inputs, outputs, 3, kernel)
        state[f"{name}.noise.weight"] = torch.randn(1)
        state[f"{name}.activate.bias"] = torch.randn(outputs)

    def to_rgb(name, inputs, kernel=True):
        modulated(name, inputs, 3, 1)
        state[f"{name}.bias"] = torch.randn(1, 3, 1, 1)
        if kernel:
            state[f"{name}.upsample.kernel"] = 4 * fir()

    for i in range(1, mlp + 1):
        state[f"style.{i}.weight"] = 100 * torch.randn(style_dim, style_dim)
        state[f"style.{i}.bias"] = 10 * torch.randn(style_dim)
    state["input.input"] = torch.randn(1, channels[0], 4, 4)
    styled("conv1", channels[0], channels[0])
    to_rgb("to_rgb1", channels[0], kernel=False)
    for k in range(1, len(channels)):
        styled(f"convs.{2 * k - 2}", channels[k - 1], channels[k], kernel=True)
        styled(f"convs.{2 * k - 1}", channels[k], channels[k])
        to_rgb(f"to_rgbs.{k - 1}", channels[k])
    for i in range(2 * len(channels) - 1):
        side = 2 ** ((i + 5) // 2)
        state[f"noises.noise_{i}"] = torch.randn(1, 1, side, side)
    return {"g_ema": state, "latent_avg": torch.randn(style_dim)}


def fir():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def upfirdn(image, kernel, up, pad):
    """One channel at a time: zeros between pixels, zeros around, then correlation."""
    rows = []
    for plane in image.flatten(0, 1):
        spread = plane.new_zeros(plane.shape[0] * up, plane.shape[1] * up)
        spread[::up, ::up] = plane
        padded = F.pad(spread, (pad[0], pad[1], pad[0], pad[1]))
        rows.append(F.conv2d(padded[None, None], kernel.flip(0, 1)[None, None])[0, 0])
    return torch.stack(rows).unflatten(0, image.shape[:2])


def reference(state, w_plus):
    """The published generator's arithmetic with one modulated kernel for each picture."""

    def style(name, w):
        gain = 1 / math.sqrt(w.shape[1])
        weight = state[f"{name}.conv.modulation.weight"] * gain
        return w @ weight.T + state[f"{name}.conv.modulation.bias"]

    def convolve(name, x, w, demodulate, up):
        kernel = state[f"{name}.conv.weight"]
        outputs, inputs, size = kernel.shape[1:4]
        results = []
        for image, s in zip(x, style(name, w), strict=True):
            own = kernel[0] / math.sqrt(inputs * size**2) * s[None, :, None, None]
            if demodulate:
                own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if up:
                grown = F.conv_transpose2d(image[None], own.transpose(0, 1), stride=2)
                results.append(upfirdn(grown, state[f"{name}.conv.blur.kernel"], 1, (1, 1))[0])
            else:
                results.append(F.conv2d(image[None], own, padding=size // 2)[0])
        return torch.stack(results)

    def styled(name, x, w, noise, up=False):
        x = convolve(name, x, w, True, up) + state[f"{name}.noise.weight"] * noise
        x = x + state[f"{name}.activate.bias"][:, None, None]
        return F.leaky_relu(x, 0.2) * 2**0.5

    def to_rgb(name, x, w):
        return convolve(name, x, w, False, False) + state[f"{name}.bias"]

    noises = [state[f"noises.noise_{i}"] for i in range(sum("noises" in key for key in state))]
    x = state["input.input"].repeat(len(w_plus), 1, 1, 1)
    x = styled("conv1", x, w_plus[:, 0], noises[0])
    image = to_rgb("to_rgb1", x, w_plus[:, 1])
    for k in range((len(noises) - 1) // 2):
        i = 2 * k + 1
        x = styled(f"convs.{2 * k}", x, w_plus[:, i], noises[i], up=True)
        x = styled(f"convs.{2 * k + 1}", x, w_plus[:, i + 1], noises[i + 1])
        kernel = state[f"to_rgbs.{k}.upsample.kernel"]
        image = upfirdn(image, kernel, 2, (2, 1)) + to_rgb(f"to_rgbs.{k}", x, w_plus[:, i + 2])
    return image


def reference_mapping(state, z):
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, sum(key.startswith("style.") for key in state) // 2 + 1):
        weight = state[f"style.{i}.weight"] * (0.01 / math.sqrt(w.shape[1]))
        w = F.leaky_relu(w @ weight.T + 0.01 * state[f"style.{i}.bias"], 0.2) * 2**0.5
    return w


def test_a_rosinality_checkpoint_gives_the_pictures_of_its_own_arithmetic(tmp_path):
    checkpoint = rosinality_checkpoint()
    torch.save(checkpoint, tmp_path / "ffhq.pt")
    model = StyleGAN2.from_rosinality(tmp_path / "ffhq.pt", CPU)
    assert model.config.size_px == 16
    assert model.config.w_layers == 6
    z = torch.randn(3, 9)
    torch.testing.assert_close(
        model.mapping(z), reference_mapping(checkpoint["g_ema"], z), rtol=1e-4, atol=1e-5
    )
    w_plus = torch.randn(3, 6, 9)
    expected = reference(checkpoint["g_ema"], w_plus)
    torch.testing.assert_close(model.synthesis(w_plus), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.w_avg, checkpoint["latent_avg"])


def test_other_layouts_are_refused():
    with pytest.raises(ValueError, match="rosinality"):
        rosinality_state({"synthesis.b4.const": torch.zeros(1)}, torch.zeros(4))


# ---------------------------------------------------------------- upfirdn


def test_blur_and_upsample_are_the_filter_written_out():
    image = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(blur(image, (2, 1), 1.0), upfirdn(image, fir(), 1, (2, 1)))
    torch.testing.assert_close(upsample(image), upfirdn(image, 4 * fir(), 2, (2, 1)))


def test_upsampling_keeps_a_flat_colour_away_from_the_border():
    flat = upsample(torch.full((1, 1, 8, 8), 0.7))
    torch.testing.assert_close(flat[..., 2:-2, 2:-2], torch.full((1, 1, 12, 12), 0.7))


# ---------------------------------------------------------------- spaces


def test_stylespace_and_w_plus_give_the_same_picture():
    model = lively()
    w_plus = torch.randn(2, CONFIG.w_layers, CONFIG.w_dim)
    styles = model.styles(w_plus)
    assert [s.shape[1] for s in styles] == [12, 12, 12, 10, 10, 10, 8, 8]
    assert torch.equal(model.synthesis(styles), model.synthesis(w_plus))


def test_features_are_those_of_every_convolution():
    model = lively()
    images, seen = model.features(torch.randn(2, CONFIG.w_layers, CONFIG.w_dim))
    shapes = [(12, 4), (10, 8), (10, 8), (8, 16), (8, 16)]
    assert [tuple(x.shape) for x in seen] == [(2, c, s, s) for c, s in shapes]
    assert images.shape == (2, 3, 16, 16)


def test_a_code_is_mixed_from_its_crossover_on():
    model = lively()
    w, other = torch.randn(2, 1, CONFIG.w_dim)
    mixed = model.w_plus(w, other, 2)
    assert torch.equal(mixed[:, :2], model.w_plus(w)[:, :2])
    assert torch.equal(mixed[:, 2:], model.w_plus(other)[:, 2:])
    assert torch.equal(model.w_plus(w, other, None), model.w_plus(w))


def test_truncation_goes_from_the_average_to_the_code():
    model = lively()
    z = torch.randn(2, CONFIG.z_dim)
    full = model.mapping(z)
    assert torch.equal(model.mapping(z, psi=0.0), model.w_avg.expand(2, -1))
    half = (full + model.w_avg) / 2
    torch.testing.assert_close(model.mapping(z, psi=0.5), half)


def test_noise_belongs_to_its_seed_and_not_to_the_batch():
    model = lively()
    together = model.noises([3, 4], model.constant)
    alone = model.noises([4], model.constant)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[1:], b)
    w_plus = torch.randn(1, CONFIG.w_layers, CONFIG.w_dim)
    other = model.synthesis(w_plus, alone)
    assert (other - model.synthesis(w_plus)).abs().mean() > 0.01
    silent = [torch.zeros_like(n) for n in alone]
    assert torch.equal(model.synthesis(w_plus, silent), model.synthesis(w_plus, silent))


def test_a_picture_does_not_depend_on_its_batch():
    model = lively()
    z = torch.randn(4, CONFIG.z_dim)
    torch.testing.assert_close(model(z)[2:3], model(z[2:3]), rtol=1e-4, atol=1e-5)


def test_unequalised_layers_start_with_outputs_of_the_same_size():
    plain = StyleGAN2Config((12, 10, 8), z_dim=64, w_dim=64, mapping_layers=2, mapping_rate=1.0)
    bare = StyleGAN2Config(**{**vars(plain), "equalised": False})
    torch.manual_seed(0)
    z = torch.randn(64, 64)
    spreads = [StyleGAN2(config).mapping(z).std().item() for config in (plain, bare)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.2)
    assert not any(m.gain != 1.0 for m in StyleGAN2(bare).mapping_net)


def test_a_saved_generator_comes_back(tmp_path):
    model = lively()
    for parameter in model.state_dict().values():
        parameter.copy_(parameter.half().float())
    model.save(tmp_path)
    back = StyleGAN2.from_folder(tmp_path, CPU)
    z = torch.randn(2, CONFIG.z_dim)
    assert back.config == CONFIG
    assert torch.equal(back(z, psi=0.7), model(z, psi=0.7))
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


# ---------------------------------------------------------------- the discriminator


def test_the_discriminator_sees_how_much_a_group_varies():
    torch.manual_seed(0)
    critic = Discriminator((8, 8, 6), group=4)
    same = torch.randn(1, 3, 16, 16).repeat(4, 1, 1, 1)
    mixed = torch.cat([same[:1], torch.randn(3, 3, 16, 16)])
    assert critic(same).shape == (4,)
    torch.testing.assert_close(critic(same), critic(same[:1]).repeat(4))
    assert not torch.isclose(critic(mixed)[0], critic(same)[0])


def test_every_weight_of_both_players_gets_a_gradient():
    model, critic = lively().requires_grad_(True), Discriminator((12, 10, 8))
    critic(model(torch.randn(4, CONFIG.z_dim))).sum().backward()
    for player in (model, critic):
        idle = [n for n, p in player.named_parameters() if p.grad is None or not p.grad.any()]
        assert not idle
