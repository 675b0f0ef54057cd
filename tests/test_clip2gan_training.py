import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from face_models import pictures, seeded, tiny_generator
from tiny_pack import CPU, write_clip, write_perceptual
from torch import nn
from torch.nn import functional as F

from pipelines.data.faces import CHOICES, RANGES, hidden_by, sample_face
from pipelines.data.faces.captions import ANY_HAT, facts, parse
from pipelines.data.people import IDENTITY, picture_of
from pipelines.models.caption_mapper import CaptionMapper
from pipelines.models.face_identity import FaceIdentity
from pipelines.models.face_judge import FaceJudge
from pipelines.models.inversion import InversionEncoder
from pipelines.models.latent_mapper import LatentMapper
from pipelines.models.stylegan2 import Discriminator, StyleGAN2
from pipelines.training import caption_mapper, face_identity, face_judge, inversion, latent_mapper
from pipelines.training.common import write_json
from pipelines.training.face_data import render_chunk
from pipelines.training.rendered import write_chunk
from pipelines.training.scene_judge import IGNORED


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    for name in ("faces", "people"):
        (folder / name).mkdir()
    render_chunk(folder / "faces", 0, 4)
    write_chunk(folder / "people", 0, 8, records="people", render=face_identity._render_seed)
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Options that name folders of tiny frozen networks."""
    folder = tmp_path_factory.mktemp("networks")
    tiny_generator().save(folder / "generator")
    write_perceptual("squeeze", folder / "lpips")
    seeded(FaceIdentity, width=8, hidden=16, dim=8).save(folder / "identity")
    write_clip("resnet", folder / "clip", "faces")
    return [
        "--generator", str(folder / "generator"), "--perceptual", str(folder / "lpips"),
        "--identity", str(folder / "identity"),
    ]  # fmt: skip


def options(work, out, steps, *more):
    return [
        "--work", str(work), "--out", str(out), "--steps", str(steps), "--batch", "2",
        "--device", "cpu", *more,
    ]  # fmt: skip


def state(work, name):
    return torch.load(work / f"{name}.pt", weights_only=True)


# ---------------------------------------------------------------- CLIP2GAN


def test_diversity_loss_is_equation_9_and_falls_as_results_differ_more():
    f, images = torch.randn(4, 8), pictures(4)
    noise, change = torch.randn(4, 8), torch.randn(4, 3, 128, 128)
    losses = [
        latent_mapper.diversity_loss(f, f + noise, images, images + much * change).item()
        for much in (0.1, 0.2, 0.4)
    ]
    wanted = noise.abs().mean() / (0.1 * change.abs().mean())
    assert losses[0] == pytest.approx(wanted.item(), rel=1e-3)
    assert losses[0] == pytest.approx(2 * losses[1], rel=1e-2)
    assert losses[0] > losses[1] > losses[2]
    assert latent_mapper.diversity_loss(f, f + noise, images, images).isfinite()


def test_adversarial_losses_are_equations_6_and_7():
    critic = seeded(Discriminator, (8, 8, 8), group=1)
    real, made = pictures(2)[..., :16, :16], pictures(2, seed=1)[..., :16, :16]
    says_real, says_made = critic(real).sigmoid(), critic(made).sigmoid()
    made.requires_grad_()
    norms = [
        torch.autograd.grad(critic(made[i : i + 1]).sum(), made)[0][i].norm() for i in range(2)
    ]
    penalty = sum((norm - 1) ** 2 for norm in norms) / 2
    wanted = -(says_real.log().mean() + (1 - says_made).log().mean()) + penalty
    torch.testing.assert_close(
        latent_mapper.discriminator_loss(critic, real, made), wanted, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        latent_mapper.generator_loss(critic(made)), (1 - says_made).log().mean()
    )


def test_mapper_trains_two_steps_resumes_and_opens(work, networks, tmp_path):
    clip = Path(networks[1]).parent / "clip"
    more = [*networks, "--clip", str(clip), "--depth", "4", "--width", "32"]
    latent_mapper.main(options(work, tmp_path, 2, *more))
    first = LatentMapper.from_folder(tmp_path, CPU)
    latent_mapper.main(options(work, tmp_path, 3, *more))
    mapper, checkpoint = LatentMapper.from_folder(tmp_path, CPU), state(work, "latent_mapper")
    assert checkpoint["progress"]["step"] == 3
    assert (mapper.depth, mapper.clip) == (4, "clip")
    assert not torch.equal(first.layers[0].weight, mapper.layers[0].weight)
    assert all(p.isfinite().all() for p in mapper.parameters())
    fresh = Discriminator(tiny_generator().config.channels).state_dict()
    assert checkpoint["discriminator"].keys() == fresh.keys()
    told = json.loads((tmp_path / "training.json").read_text())
    assert (told["depth"], told["adversarial"], told["samples"]) == (4, True, 6)
    assert (tmp_path / "samples.webp").stat().st_size > 100


def test_ablations_leave_out_their_loss(work, networks, tmp_path):
    clip = Path(networks[1]).parent / "clip"
    command = options(
        work, tmp_path, 2, *networks, "--clip", str(clip), "--depth", "4", "--width", "32"
    )
    command += ["--no-adversarial", "--no-diversity"]
    trainer = latent_mapper.Trainer(latent_mapper.options().parse_args(command))
    before = [p.clone() for p in trainer.discriminator.parameters()]
    numbers = trainer.step(None)
    assert set(numbers) == {"rec", "lpips", "id"}
    after = trainer.discriminator.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# ---------------------------------------------------------------- the mapper that reads captions


def test_an_edit_makes_its_text_true_and_leaves_the_rest():
    for seed in range(300):
        face, model = sample_face(seed), sample_face(1000 + seed)
        text = caption_mapper.text_of(model, np.random.default_rng(seed))
        end = caption_mapper.edited(face, model, text)
        said, true = parse(text).facts, facts(end)
        assert said
        for name, value in said.items():
            assert true[name] == value or (value == ANY_HAT and end.hat != "none")
        changed = {n for n in (*RANGES, *CHOICES) if getattr(face, n) != getattr(end, n)}
        assert changed <= {*said, "hat", "glasses", "hair"}
        assert end.seed == face.seed
    assert caption_mapper.draw(7) == caption_mapper.draw(7)


def test_texts_are_shortened_as_visitors_write_them():
    short = {
        "a person wearing a red hat": "wearing a red hat",
        "a smiling old person": "smiling old",
        "an old person": "old",
        "we see an old person": "we see an old person",
        "a picture of an old person": "a picture of an old person",
        "an old person with red lips": "an old person with red lips",
    }
    assert {text: caption_mapper.shortened(text) for text in short} == short


def test_a_red_hat_needs_a_hat_and_any_hat_will_do():
    bare = next(f for f in map(sample_face, range(99)) if f.hat == "none")
    model = next(f for f in map(sample_face, range(999)) if (f.hat, f.hat_colour) == ("cap", "red"))
    worn = caption_mapper.edited(bare, model, "a person wearing a red hat")
    assert (worn.hat, worn.hat_colour) == ("cap", "red")
    beanie = replace(bare, hat="beanie")
    assert caption_mapper.edited(beanie, model, "a person wearing a red hat").hat == "beanie"
    assert caption_mapper.edited(beanie, model, "a person wearing a cap").hat == "cap"


def test_a_mapper_reads_small_differences_like_large_ones_saved_or_not(tmp_path):
    drawn = torch.Generator().manual_seed(0)
    spreads = torch.tensor([0.3, 0.03, 0.01, 0.001])
    mixed = torch.linalg.qr(torch.randn(4, 4, generator=drawn))[0]
    embeds = 0.4 + (torch.randn(5000, 4, generator=drawn) * spreads) @ mixed
    mapper = seeded(CaptionMapper, 4, 3, depth=2, width=8)
    mapper.read_along(embeds)
    read = (embeds - mapper.centre) @ mapper.axes
    widths = read.std(0).sort().values
    torch.testing.assert_close(widths[1:], torch.ones(3), atol=0.01, rtol=0)
    assert 0.4 < widths[0] < 0.6  # half of NARROWEST: no rounding is blown up
    nn.init.normal_(mapper.layers[-1].weight)
    for layer in mapper.layers:
        layer.half().float()
    mapper.save(tmp_path)
    again = CaptionMapper.from_folder(tmp_path, CPU)
    assert torch.equal(again(embeds[:9], torch.ones(9, 3)), mapper(embeds[:9], torch.ones(9, 3)))


def test_the_mapper_of_captions_starts_still_learns_and_resumes(work, networks, tmp_path):
    clip = Path(networks[1]).parent / "clip"
    big = seeded(StyleGAN2, replace(tiny_generator().config, z_dim=64, w_dim=128))
    big.save(tmp_path / "generator")
    command = ["--clip", str(clip), "--generator", str(tmp_path / "generator"), "--edits", "6"]
    command = options(work, tmp_path / "out", 2, *command, "--width", "16")
    with pytest.raises(ValueError, match="no warm start"):
        caption_mapper.main(command)
    write_json(tmp_path / "generator" / "training.json", {"warm_start": True})
    caption_mapper.main(command)
    mapper = CaptionMapper.from_folder(tmp_path / "out", CPU)
    assert (mapper.clip, mapper.w_dim) == ("clip", 128)
    embeds, w = F.normalize(torch.randn(2, mapper.clip_dim), dim=1), torch.randn(2, 128)
    assert mapper(embeds, w).abs().max() > 0
    fresh = CaptionMapper(mapper.clip_dim, 128, width=16)
    assert fresh(embeds, w).abs().max() == 0
    assert state(work, "caption_mapper")["progress"]["step"] == 2
    assert json.loads((tmp_path / "out" / "training.json").read_text())["edits"] == 6
    assert (tmp_path / "out" / "samples.webp").stat().st_size > 100


# ---------------------------------------------------------------- inversion


def test_stages_open_from_the_first_layer_to_the_last():
    assert inversion.stage_at(0.0, 12) == inversion.stage_at(0.2, 12) == 0
    assert inversion.stage_at(0.2 + 0.5 / 11 + 1e-6, 12) == 1
    assert inversion.stage_at(0.7, 12) == inversion.stage_at(1.0, 12) == 11
    stages = [inversion.stage_at(i / 100, 12) for i in range(100)]
    assert stages == sorted(stages)


def test_offset_loss_sums_the_norms_of_the_offsets():
    codes = torch.randn(2, 5, 3)
    norms = [(codes[b, i] - codes[b, 0]).norm() for b in range(2) for i in range(1, 5)]
    torch.testing.assert_close(inversion.offset_loss(codes), sum(norms) / 2)


def test_code_discriminator_penalises_its_gradient_at_real_codes():
    line = nn.Linear(3, 1)
    real, made = torch.randn(4, 3), torch.randn(4, 3)
    plain = inversion.code_discriminator_loss(line, real, made, 0.0)
    wanted = F.softplus(-line(real)).mean() + F.softplus(line(made)).mean()
    torch.testing.assert_close(plain, wanted)
    penalised = inversion.code_discriminator_loss(line, real, made, 6.0)
    torch.testing.assert_close(penalised, wanted + 3 * line.weight.square().sum())


def test_inversion_trains_two_steps_and_opens(work, networks, tmp_path):
    inversion.main(options(work, tmp_path, 2, *networks, "--width", "16"))
    encoder = InversionEncoder.from_folder(tmp_path, CPU)
    codes = encoder(pictures(2))
    assert codes.shape == (2, encoder.w_layers, encoder.w_dim)
    assert codes.isfinite().all()
    assert encoder.w_avg.abs().max() > 0
    assert state(work, "inversion")["progress"]["step"] == 2


# ---------------------------------------------------------------- identity and judge


def test_pictures_of_a_person_share_identity_and_nothing_else():
    faces = [picture_of(7, view) for view in range(40)]
    for name in IDENTITY:
        assert {getattr(face, name) for face in faces} == {getattr(sample_face(7), name)}
    for name in (*RANGES, *CHOICES, "seed"):
        if name not in IDENTITY:
            assert len({getattr(face, name) for face in faces}) > 2
    assert picture_of(7, 3) == faces[3]
    assert picture_of(8, 3) != faces[3]


def test_pairs_are_two_pictures_of_one_person():
    first, second = face_identity.pairs(10, 6, np.random.default_rng(0))
    assert (first // face_identity.VIEWS == second // face_identity.VIEWS).all()
    assert (first != second).all()
    assert len(set(first // face_identity.VIEWS)) == 6


def test_identity_trains_two_steps_and_opens(work, tmp_path):
    face_identity.main(options(work, tmp_path, 2, "--width", "8"))
    network = FaceIdentity.from_folder(tmp_path, CPU)
    embeds = network(pictures(3))
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(network(pictures(3)[2:]), embeds[2:], rtol=1e-4, atol=1e-5)
    assert network.nbytes > 0


def test_judge_targets_leave_out_what_is_hidden():
    faces = [sample_face(seed) for seed in range(60)]
    numbers, indices = face_judge.targets(faces)
    for row, face in enumerate(faces):
        for i, (name, (low, high)) in enumerate(RANGES.items()):
            if hidden_by(face, name):
                assert numbers[row, i].isnan()
            else:
                assert low + numbers[row, i].item() * (high - low) == pytest.approx(
                    getattr(face, name), abs=1e-5
                )
        for i, (name, values) in enumerate(CHOICES.items()):
            shown = IGNORED if hidden_by(face, name) else list(values).index(getattr(face, name))
            assert indices[row, i] == shown
    assert numbers.isnan().any()
    assert (indices == IGNORED).any()


def test_a_mirror_turns_yaw_and_light_only():
    numbers = torch.rand(2, len(RANGES))
    turned = face_judge.mirrored(numbers, torch.tensor([True, False]))
    assert torch.equal(turned[1], numbers[1])
    changed = {n for i, n in enumerate(RANGES) if turned[0, i] != numbers[0, i]}
    assert changed == {"yaw", "light"}
    assert turned[0, list(RANGES).index("yaw")] == 1 - numbers[0, list(RANGES).index("yaw")]


def test_judge_loss_is_zero_for_the_truth_and_ignores_what_is_hidden():
    numbers, indices = face_judge.targets([sample_face(seed) for seed in range(20)])
    certain = [
        F.one_hot(indices[:, i].clamp(min=0), len(v)) * 50.0 for i, v in enumerate(CHOICES.values())
    ]
    truth = (numbers.nan_to_num(nan=7.0), certain)
    assert face_judge.judge_loss(truth, numbers, indices) < 1e-6
    wrong = (truth[0] + 0.1, certain)
    assert face_judge.judge_loss(wrong, numbers, indices).item() == pytest.approx(0.12, rel=1e-4)
    unsure = (truth[0], [torch.zeros_like(scores) for scores in certain])
    assert face_judge.judge_loss(unsure, numbers, indices) > 0.5


def test_judge_trains_two_steps_and_opens(work, tmp_path):
    face_judge.main(options(work, tmp_path, 2, "--width", "8"))
    judge = FaceJudge.from_folder(tmp_path, CPU)
    verdict = judge(pictures(3))
    assert list(verdict.numbers) == list(RANGES)
    assert all(numbers.shape == (3,) for numbers in verdict.numbers.values())
    assert {n: v.shape[1] for n, v in verdict.choices.items()} == {
        n: len(v) for n, v in CHOICES.items()
    }
    assert judge.describe(pictures(2)).shape == (2, judge.width)
    fractions, _ = judge.fractions(pictures(3))
    low, high = RANGES["yaw"]
    at = list(RANGES).index("yaw")
    torch.testing.assert_close(verdict.numbers["yaw"], low + fractions[:, at] * (high - low))


def test_an_empty_set_of_people_names_the_command(tmp_path):
    with pytest.raises(ValueError, match="face_identity --render"):
        face_identity.PeopleSet(tmp_path)
