import pytest
import torch
from face_models import pictures, tiny_encoder, tiny_generator, tiny_perceptual
from tiny_pack import CPU

from pipelines.errors import Cancelled
from pipelines.models.inversion import InversionEncoder, refine


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


@pytest.fixture(scope="module")
def perceptual(tmp_path_factory):
    return tiny_perceptual(tmp_path_factory.mktemp("lpips"))


def apart(perceptual, generator, images, codes):
    made = generator.synthesis(codes)
    return perceptual.distance(images, made) + (made - images).square().mean((1, 2, 3))


def test_offsets_open_one_layer_after_another(generator):
    encoder = tiny_encoder(generator)
    images, layers = pictures(2), generator.config.w_layers
    all_open = encoder(images)
    torch.testing.assert_close(encoder(images, layers - 1), all_open)
    for stage in (0, 3):
        codes = encoder(images, stage)
        torch.testing.assert_close(codes[:, : stage + 1], all_open[:, : stage + 1])
        closed = codes[:, stage + 1 :]
        torch.testing.assert_close(closed, codes[:, :1].expand_as(closed))
        assert (all_open[:, stage + 1 :] - closed).abs().amax((0, 2)).min() > 1e-3


def test_an_untrained_encoder_answers_in_w_near_the_average(generator):
    encoder = InversionEncoder(generator.config.w_layers, generator.config.w_dim, width=16).eval()
    encoder.w_avg.copy_(generator.w_avg)
    codes = encoder(pictures(2))
    assert torch.equal(codes, codes[:, :1].expand_as(codes))
    encoder.code.weight.data.zero_()
    encoder.code.bias.data.zero_()
    torch.testing.assert_close(encoder(pictures(1))[0, 0], generator.w_avg)


def test_encoder_survives_the_disk_and_batches_do_not_matter(generator, tmp_path):
    encoder = tiny_encoder(generator)
    encoder.save(tmp_path)
    again = InversionEncoder.from_folder(tmp_path, CPU)
    torch.testing.assert_close(again(pictures(2)), encoder(pictures(2)), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(again(pictures(2))[1:], again(pictures(2)[1:]), rtol=1e-4, atol=1e-5)
    assert again.nbytes == sum(4 * t.numel() for t in again.state_dict().values()) + 4 * sum(
        1 for name in again.state_dict() if name.endswith("num_batches_tracked")
    )


def test_refinement_comes_nearer_and_each_picture_alone(generator, perceptual):
    wanted = generator.synthesis(generator.w_plus(generator.mapping(torch.randn(2, 16))))
    start = generator.w_plus(generator.w_avg.expand(2, -1))
    before = {name: t.clone() for name, t in generator.state_dict().items()}
    refined = refine(generator, perceptual, wanted, start, steps=15, rate=0.1)
    nearer = apart(perceptual, generator, wanted, refined)
    assert (nearer < 0.9 * apart(perceptual, generator, wanted, start)).all()
    alone = refine(generator, perceptual, wanted[1:], start[1:], steps=15, rate=0.1)
    # Adam makes steps of rounding where a code hardly matters, so it is the pictures that agree
    made = generator.synthesis(refined[1:])
    assert (generator.synthesis(alone) - made).norm() < 0.05 * (wanted[1:] - made).norm()
    assert not refined.requires_grad
    assert all(torch.equal(before[n], t) for n, t in generator.state_dict().items())


def test_a_refinement_never_ends_worse(generator, perceptual):
    start = generator.w_plus(generator.mapping(torch.ones(1, 16)))
    exact = generator.synthesis(start)
    assert torch.equal(refine(generator, perceptual, exact, start, steps=3, rate=1.0), start)


def test_refinement_tells_its_steps_and_stops(generator, perceptual):
    start, seen = generator.w_plus(generator.w_avg[None]), []

    def stop_at_2(step):
        seen.append(step)
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        refine(generator, perceptual, pictures(1), start, steps=5, on_step=stop_at_2)
    assert [(s.stage, s.index, s.total) for s in seen] == [("refining", 1, 5), ("refining", 2, 5)]
    assert seen[0].preview().size == (128, 128)
