import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.data.faces import CHOICES, PARTS, RANGES, sample_face
from pipelines.devices import Device
from pipelines.models.stylegan2 import Discriminator, StyleGAN2
from pipelines.training import face_stylegan
from pipelines.training.face_codes import Z_DIM, attributes, codes, wanted_w
from pipelines.training.face_data import FaceSet, attribute_values, render_chunk
from pipelines.training.face_stylegan import (
    part_weights,
    path_lengths,
    r1_penalty,
    regression_loss,
)

CPU = Device("cpu", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    (folder / "faces").mkdir()
    for first in (0, 4):
        render_chunk(folder / "faces", first, 4)
    return folder


def test_faces_come_back_as_rendered(work):
    faces = FaceSet(work / "faces")
    assert faces.faces == [sample_face(seed) for seed in range(8)]
    plain, mirrored = faces.batch([6, 6], [False, True])
    assert torch.equal(mirrored, plain.flip(-1))
    assert plain.shape == (3, 128, 128)
    assert faces.labels([6], [False]).max() < len(PARTS)
    assert len(faces.captions()[5]) == 4
    numbers, indices = attribute_values(faces.faces)
    assert numbers.shape == (8, len(RANGES))
    assert indices.shape == (8, len(CHOICES))


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(ValueError, match="face_data"):
        FaceSet(tmp_path)


def test_the_generator_trains_warm_then_against_its_critic_and_resumes(work, tmp_path):
    command = ["--work", str(work), "--out", str(tmp_path), "--batch", "2", "--device", "cpu"]
    command += ["--size", "64", "--path-length", "2"]
    face_stylegan.main(
        [*command, "--mapping-steps", "2", "--warm-start-steps", "2", "--steps", "2"]
    )
    first = StyleGAN2.from_folder(Path(tmp_path), CPU)
    face_stylegan.main([*command, "--steps", "4"])
    second = StyleGAN2.from_folder(Path(tmp_path), CPU)
    checkpoint = torch.load(work / "face_stylegan.pt", weights_only=True)
    assert checkpoint["progress"]["step"] == 4
    assert not torch.equal(first.constant, second.constant)
    z = torch.randn(2, Z_DIM)
    assert second(z).shape == (2, 3, 64, 64)
    assert second(z).isfinite().all()
    assert second.w_avg.abs().max() > 0
    assert Image.open(tmp_path / "samples.webp").size == (640, 384)
    story = json.loads((tmp_path / "training.json").read_text())
    assert (story["warm_start_samples"], story["adversarial_samples"]) == (4, 8)
    assert story["warm_start"]
    face_stylegan.main([*command, "--steps", "6", "--anchor", "0.5"])
    assert StyleGAN2.from_folder(Path(tmp_path), CPU)(z).isfinite().all()


def test_codes_of_faces_are_standard_normal():
    z = codes([sample_face(seed) for seed in range(1500)], 0)
    assert z.shape == (1500, Z_DIM)
    # 1500 draws scatter by 0.026 (mean), 0.018 (deviation), 0.026 (correlation)
    assert z.mean(0).abs().max() < 0.11
    assert (z.std(0) - 1).abs().max() < 0.09
    off = torch.corrcoef(z.T) - torch.eye(Z_DIM)
    assert off.abs().max() < 0.13
    assert (z.pow(4).mean(0) - 3).abs().max() < 1.2  # no coordinate is lumpy


def test_codes_hold_the_attributes():
    """A linear map of z reads a number back; two coordinates tell the values of a choice."""
    faces = [sample_face(seed) for seed in range(1500)]
    z = codes(faces, 0)
    skin = torch.tensor([2 * face.skin - 1 for face in faces])
    normal = torch.erfinv(skin.clamp(-0.9999, 0.9999)) * 2**0.5
    fitted = z @ torch.linalg.lstsq(z, normal).solution
    assert (fitted - normal).square().mean() < 1e-3
    torch.testing.assert_close(codes(faces[3:4], 0), z[3:4], rtol=0, atol=1e-6)
    assert not torch.equal(codes(faces[3:4], 1), z[3:4])


def test_attributes_come_back_from_codes_and_lie_in_w():
    faces = [sample_face(seed) for seed in range(200)]
    z = codes(faces, 0)
    held = attributes(z)
    for i, name in enumerate(RANGES):
        value = torch.tensor([getattr(face, name) for face in faces], dtype=torch.float64)
        assert torch.corrcoef(torch.stack([value, held[:, i]]))[0, 1] > 0.9999, name
    column = held.shape[1] - sum(map(len, CHOICES.values()))
    for name, odds in CHOICES.items():
        found = held[:, column : column + len(odds)].argmax(1)
        assert found.tolist() == [list(odds).index(getattr(face, name)) for face in faces], name
        column += len(odds)
    w = wanted_w(z, 128)
    assert w.shape == (200, 128)
    torch.testing.assert_close(w.norm(dim=1).double(), held.norm(dim=1), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="at least"):
        wanted_w(z, 16)


def test_small_parts_weigh_more_and_the_mean_is_one():
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    labels[:, :8, :8] = PARTS.index("eyes")
    weights = part_weights(labels, 64)
    assert weights.shape == (1, 1, 64, 64)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[0, 0, 0, 0] / weights[0, 0, -1, -1]).item() == pytest.approx(6)


def test_regression_loss_is_zero_for_the_picture_itself_and_sees_blur():
    torch.manual_seed(0)
    wanted, ones = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    assert regression_loss(wanted, wanted, ones) == 0
    blurred = torch.nn.functional.avg_pool2d(wanted, 3, 1, 1)
    flat = (wanted - blurred).abs().mean()
    assert regression_loss(blurred, wanted, ones) > 2 * flat


def test_penalties_are_what_their_equations_say():
    """Of a linear critic the gradient is its weight; of a linear generator J^T y is known."""

    class Linear(torch.nn.Module):
        def forward(self, images):
            return 3 * images.sum((1, 2, 3))

    images = torch.randn(2, 3, 4, 4)
    assert r1_penalty(Linear(), images).item() == pytest.approx(9 * 48)

    class Straight:
        def w_plus(self, w):
            return w[:, None].repeat(1, 2, 1)

        def synthesis(self, w_plus):
            return w_plus.sum(1).view(-1, 1, 2, 2)

    y = torch.randn(3, 1, 2, 2)
    lengths = path_lengths(Straight(), torch.randn(3, 4, requires_grad=True), y)
    torch.testing.assert_close(lengths, y.flatten(1).norm(dim=1) / 2)


def test_a_discriminator_learns_to_tell_two_kinds_apart():
    torch.manual_seed(0)
    critic = Discriminator((16, 16, 16))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.0, 0.99))
    kinds = torch.stack([torch.full((3, 16, 16), -0.3), torch.full((3, 16, 16), 0.3)])
    for _ in range(40):
        noisy = kinds.repeat(4, 1, 1, 1) + 0.3 * torch.randn(8, 3, 16, 16)
        said = critic(noisy).view(4, 2)
        loss = torch.nn.functional.softplus(torch.stack([said[:, 0], -said[:, 1]])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said = critic(kinds.repeat(2, 1, 1, 1)).detach().numpy()
    np.testing.assert_array_equal(np.sign(said), [-1, 1, -1, 1])
