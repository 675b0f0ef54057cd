import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from safetensors.torch import save_file
from tiny_pack import write_clip
from torch import nn

from pipelines.data.spec import CLASSES
from pipelines.devices import Device
from pipelines.diffusion.attention import AttentionStore
from pipelines.models.adaptation_heads import AdaptationHeads, load_heads
from pipelines.models.dual_encoder import DualEncoder
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.models.perceptual import Perceptual
from pipelines.models.segmenter import SceneSegmenter
from pipelines.training import (
    adaptation_heads,
    scene_autoencoder,
    scene_clip,
    scene_diffusion,
    scene_judge,
    scene_segmenter,
)
from pipelines.training import perceptual as perceptual_training
from pipelines.training.common import Average, Progress, parser, rate, train
from pipelines.training.grounding import grounding_loss, noun_masks
from pipelines.training.muon import Muon, orthogonal
from pipelines.training.scene_data import SceneSet, render_chunk
from pipelines.training.word_tokenizer import build, merges_for, pieces_of

CPU = Device("cpu", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "scenes").mkdir()
    for first in (0, 6):
        render_chunk(folder / "scenes", first, 6)
    return folder


def options(work, out, steps, *more):
    return [
        "--work", str(work), "--out", str(out), "--steps", str(steps), "--batch", "2",
        "--device", "cpu", *more,
    ]  # fmt: skip


def test_scenes_come_back_as_rendered(work):
    scenes = SceneSet(work / "scenes")
    assert len(scenes) == 12
    plain, mirrored = scenes.batch([7, 7], [False, True])
    assert torch.equal(mirrored, plain.flip(-1))
    assert plain.shape == (3, 128, 128)
    assert plain.abs().max() <= 1
    first, second = scenes.captions()[0], scenes.captions()[0]
    assert first == second


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(ValueError, match="scene_data"):
        SceneSet(tmp_path)


def test_scene_model_trains_two_steps_resumes_and_opens(work, tmp_path):
    out = tmp_path / "scenes"
    scene_autoencoder.main(options(work, out / "vae", 2))
    sizes = ["--widths", "32", "32", "32", "--heads", "2", "2", "2"]
    scene_diffusion.main(options(work, out, 2, *sizes))
    model = LatentDiffusion.from_folder(out, CPU)
    assert all(p.isfinite().all() for p in model.unet.parameters())
    before = torch.load(work / "scene_diffusion.pt", weights_only=True)
    assert before["progress"]["step"] == 2
    scene_diffusion.main(options(work, out, 4, *sizes))
    after = torch.load(work / "scene_diffusion.pt", weights_only=True)
    assert after["progress"]["step"] == 4
    assert LatentDiffusion.from_folder(out, CPU).fingerprint != model.fingerprint
    pipeline = StableDiffusionPipeline.from_pretrained(out)
    assert type(pipeline.vae).__name__ == "AutoencoderTiny"
    assert json.loads((out / "training_log.json").read_text()) == []


def test_scene_model_goes_on_from_the_pack_where_no_checkpoint_is(work, tmp_path):
    out = tmp_path / "scenes"
    scene_autoencoder.main(options(work, out / "vae", 2))
    sizes = ["--widths", "32", "32", "32", "--heads", "2", "2", "2"]
    scene_diffusion.main(options(work, out, 2, *sizes, "--fresh"))
    shipped = LatentDiffusion.from_folder(out, CPU)
    line = {"step": 7, "samples": 14, "minutes": 1.0, "rate": 1.0}
    (out / "training_log.json").write_text(json.dumps([line]))
    (work / "scene_diffusion.pt").unlink()
    scene_diffusion.main(options(work, out, 7, *sizes, "--from-pack"))  # no step more
    state = torch.load(work / "scene_diffusion.pt", weights_only=True)
    assert state["progress"]["samples"] == 14
    assert LatentDiffusion.from_folder(out, CPU).fingerprint == shipped.fingerprint
    scene_diffusion.main(options(work, out, 8, *sizes, "--from-pack", "--rewarm"))
    state = torch.load(work / "scene_diffusion.pt", weights_only=True)
    assert state["progress"]["step"] == 8  # the checkpoint, not the pack again
    assert LatentDiffusion.from_folder(out, CPU).fingerprint != shipped.fingerprint


def test_a_better_decoder_leaves_the_latents_as_they_were(work, tmp_path):
    scene_autoencoder.main(options(work, tmp_path, 1))
    before = AutoencoderTiny.from_pretrained(tmp_path)
    scene_autoencoder.main(options(work, tmp_path, 1, "--decoder-only"))
    after = AutoencoderTiny.from_pretrained(tmp_path)
    images = torch.rand(1, 3, 128, 128)
    latents = before.encode(images).latents
    assert torch.equal(after.encode(images).latents, latents)
    assert not torch.equal(after.decode(latents).sample, before.decode(latents).sample)


def test_judge_trains_two_steps_and_opens(work, tmp_path):
    scene_judge.main(options(work, tmp_path, 2))
    judge = SceneJudge.from_folder(Path(tmp_path), CPU)
    verdict = judge(torch.zeros(3, 3, 128, 128))
    assert verdict.presence.shape == (3, len(judge.classes))
    assert verdict.colour.shape == (3, len(judge.classes), len(judge.colours) + 1)
    assert verdict.place.shape == (3, len(judge.places))
    assert verdict.maps.shape == (3, len(judge.classes), 16, 16)


def test_segmenter_trains_two_steps_and_opens(work, tmp_path):
    scene_segmenter.main(options(work, tmp_path, 2))
    segmenter = SceneSegmenter.from_folder(Path(tmp_path), CPU)
    assert segmenter.classes == list(CLASSES)
    assert segmenter(torch.zeros(2, 3, 128, 128)).shape == (2, 1 + len(CLASSES), 128, 128)


def test_clip_trains_two_steps_and_opens(work, tmp_path):
    scene_clip.main(options(work, tmp_path, 2, "--size", "resnet"))
    encoder = DualEncoder.from_folder(tmp_path, CPU)
    assert encoder.embed_texts(["a red horse"]).isfinite().all()
    assert encoder.embed_images(torch.zeros(1, 3, 128, 128)).isfinite().all()


def test_adaptation_heads_train_two_steps_resume_and_open(work, tmp_path):
    clip = write_clip("resnet", tmp_path / "clip_tiny")
    out = tmp_path / "heads"
    adaptation_heads.main(options(work, out, 2, "--clip", str(clip)))
    heads, facts = load_heads(out)
    encoder = DualEncoder.from_folder(clip, CPU)
    assert facts["clip"] == encoder.fingerprint
    assert list(heads) == list(adaptation_heads.TEMPERATURES)
    fresh = AdaptationHeads.near_identity(encoder.dim, torch.Generator().manual_seed(0))
    for pair in heads.values():
        for name, value in pair.state_dict().items():
            assert value.isfinite().all()
            assert not torch.equal(value, fresh.state_dict()[name].half().float())
    kept = next(work.glob("embeddings_*")).stat().st_mtime_ns
    adaptation_heads.main(options(work, out, 3, "--clip", str(clip)))
    assert next(work.glob("embeddings_*")).stat().st_mtime_ns == kept


def test_adaptation_heads_learn_what_turns_pictures_into_texts(tmp_path):
    """Captions are pictures turned by one rotation: each head must see its own side to undo it."""
    clip = write_clip("resnet", tmp_path / "clip_tiny")
    encoder = DualEncoder.from_folder(clip, CPU)
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(900, encoder.dim, generator=generator)
    pictures = torch.nn.functional.normalize(pictures, dim=1)
    rotation = torch.linalg.qr(torch.randn(encoder.dim, encoder.dim, generator=generator))[0]
    captions = (pictures @ rotation).unsqueeze(1).repeat(1, 4, 1)
    save_file(
        {"images": pictures, "captions": captions.contiguous()},
        tmp_path / f"embeddings_{encoder.fingerprint}.safetensors",
    )
    named = ["--clip", str(clip), "--work", str(tmp_path), "--out", str(tmp_path / "out")]
    adaptation_heads.main([*named, "--steps", "200", "--batch", "128", "--device", "cpu"])
    _, facts = load_heads(tmp_path / "out")
    recall = facts["recall_at_1_of_256"]
    assert recall["raw"] < 0.05
    assert min(recall[tau] for tau in ("0.01", "0.03", "0.1")) > 0.5


@pytest.mark.parametrize("net", ["squeeze", "alex"])
def test_perceptual_network_trains_two_steps_of_both_stages_and_opens(net, work, tmp_path):
    perceptual_training.main(options(work, tmp_path, 2, "--net", net))
    distance = Perceptual.from_folder(Path(tmp_path), CPU)
    scenes = SceneSet(work / "scenes")
    forwards, backwards = (
        scenes.batch(rows, [False] * 12) for rows in (range(12), range(11, -1, -1))
    )
    apart = distance.distance(forwards, backwards)
    assert apart.mean().item() == pytest.approx(perceptual_training.UNRELATED, rel=0.02)
    assert all(lin.model[-1].weight.min() >= 0 for lin in distance.network.lins)
    features, layers = (
        torch.load(work / f"perceptual_{net}_{stage}.pt", weights_only=True)
        for stage in ("features", "layers")
    )
    assert features["progress"]["step"] == layers["progress"]["step"] == 2
    assert all(w.std() > 0 for w in layers["lins"].values())  # no longer all worth the same


def test_label_maps_become_class_maps_and_masks():
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    labels[:, :, 8:] = 1
    labels[:, 12:, :8] = 2
    classes = torch.tensor([[5, 0, -1]])
    maps = scene_segmenter.class_maps(classes, labels)
    assert maps[0, 0, 15] == 6
    assert maps[0, 15, 0] == 1
    assert maps[0, 0, 0] == 0
    masks = scene_judge.class_masks(classes, labels)
    assert masks.shape == (1, len(CLASSES), 2, 2)
    assert masks[0, 5].tolist() == [[0, 1], [0, 1]]
    assert masks[0, 0].tolist() == [[0, 0], [0.5, 0]]
    assert masks.sum() == 2.5


def test_velocity_error_of_a_perfect_network_is_zero():
    """Of latents that are all zero the velocity is sqrt(alpha) * noise, and so known."""
    schedule = torch.linspace(0.999, 0.01, 1000)
    latents0 = torch.zeros(4, 4, 8, 8)

    def knows(noisy, timesteps, text, return_dict):
        alpha = schedule[timesteps].view(-1, 1, 1, 1)
        return (noisy * (alpha / (1 - alpha)).sqrt(),)

    def knows_nothing(noisy, timesteps, text, return_dict):
        return (torch.zeros_like(noisy),)

    text = torch.zeros(4, 1, 8)
    assert scene_diffusion.velocity_error(knows, text, latents0, schedule).max() < 1e-10
    errors = scene_diffusion.velocity_error(knows_nothing, text, latents0, schedule)
    assert errors.shape == (4, 8, 8)
    assert errors.mean() > 0.2


def test_things_weigh_more_than_their_place_and_pictures_the_same():
    labels = torch.zeros(2, 128, 128, dtype=torch.uint8)
    labels[0, :64, :32] = 1
    labels[0, 64:, :32] = 2
    weights = scene_diffusion.emphasis(labels, 32)
    torch.testing.assert_close(weights.mean((1, 2)), torch.ones(2))
    ratio = weights[0, 0, 0] / weights[0, 0, 31]
    torch.testing.assert_close(ratio, torch.tensor(scene_diffusion.THING_WEIGHT))
    assert weights[1].unique().tolist() == [1]


def test_nouns_are_grounded_in_their_pixels(tmp_path):
    tokenizer = build(("a", "horse", "cat"), tmp_path, max_length=8)
    ids = torch.tensor([tokenizer("a horse a cat", padding="max_length").input_ids])
    horse, cat = tokenizer.convert_tokens_to_ids(["horse</w>", "cat</w>"])
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    labels[:, :, :64] = 1  # the horse is the left half, the cat the lower right quarter
    labels[:, 64:, 64:] = 2
    nouns, masks = noun_masks(ids, torch.tensor([[horse, cat, -1]]), labels)
    assert ids[nouns].tolist() == [horse, cat]
    assert masks[nouns].mean((1, 2)).tolist() == [0.5, 0.25]

    store = AttentionStore()
    store.sizes["layer"] = (16, 16)
    perfect = masks.flatten(2).transpose(1, 2)[:, None]  # (1, 1 head, 256, L)
    store.maps["layer"] = perfect
    assert grounding_loss(store, nouns, masks).item() < 1e-3
    store.maps["layer"] = torch.full_like(perfect, 1 / 8)  # attention that looks nowhere
    nowhere = grounding_loss(store, nouns, masks).item()
    store.maps["layer"] = perfect.flip(2)  # attention that looks elsewhere
    assert grounding_loss(store, nouns, masks).item() > nowhere > 0.5


def test_orthogonal_has_the_singular_vectors_and_no_spread_of_values():
    torch.manual_seed(0)
    for shape in ((6, 20), (20, 6), (8, 8)):
        matrix = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ orthogonal(matrix) @ v.T  # diagonal: the new singular values
        torch.testing.assert_close(inner, inner.diagonal().diag(), rtol=0, atol=1e-4)
        assert inner.diagonal().min() > 0.6
        assert inner.diagonal().max() < 1.3


def test_muon_fits_a_rotation_by_steps_of_the_set_size_and_resumes():
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(8, 8))[0]
    layer = nn.Conv2d(8, 8, 1, bias=False)
    optimizer = Muon(layer.parameters(), lr=0.05, weight_decay=0)

    def step():
        loss = (layer.weight.flatten(1) - rotation).square().sum()
        layer.weight.grad = None
        loss.backward()
        optimizer.step()
        return loss.item()

    before = layer.weight.detach().clone()
    first = step()
    moved = (layer.weight.detach() - before).square().mean().sqrt().item()
    assert moved == pytest.approx(0.05 * 0.2, rel=0.3)  # AdamW's usual step: 0.2 to 0.4 rates
    state, weight = copy.deepcopy(optimizer.state_dict()), layer.weight.detach().clone()
    losses = [step() for _ in range(100)]
    assert losses[-1] < 0.05 * first
    optimizer.load_state_dict(state)
    with torch.no_grad():
        layer.weight.copy_(weight)
    assert [step() for _ in range(3)] == losses[:3]


def test_rate_warms_up_stays_and_decays():
    assert rate(0.0, 0, warmup_steps=10) == pytest.approx(0.1)
    assert rate(0.5, 1000) == rate(0.7, 1000) == 1
    assert rate(0.85, 1000) == pytest.approx(0.5)
    assert rate(1.0, 1000) == 0


def test_a_longer_run_goes_on_from_the_end_of_the_stable_phase(tmp_path):
    rates = []

    def run(steps, *more):
        torch.manual_seed(0)
        weight = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(weight.parameters(), 0.1)

        def loss_of_step(progress):
            rates.append((progress.step, optimizer.param_groups[0]["lr"]))
            return weight(torch.ones(1, 1)).square().mean(), {}

        args = parser("").parse_args(["--work", str(tmp_path), "--steps", str(steps), *more])
        return train(
            args, name="line", parts={"weight": weight}, optimizers=[optimizer],
            loss_of_step=loss_of_step, log_every=1,
        )  # fmt: skip

    assert run(10).step == 10
    assert rates[-1][1] < max(rate for _, rate in rates)  # it ended in the decay
    rates.clear()
    assert run(20).step == 20
    assert rates[0][0] == 8  # decay began after the steps 0 to 7
    assert len(rates) == 12
    rates.clear()
    assert run(40, "--rewarm").step == 40
    assert [step for step, _ in rates] == list(range(20, 40))  # from the end, not the stable phase
    assert rates[0][1] < rates[1][1] < rates[2][1]  # and the rate warms up again


def test_average_of_a_constant_is_the_constant():
    module = nn.Linear(3, 3)
    average = Average(module, 0.9)
    for step in range(5):
        average.update(module, step)
    torch.testing.assert_close(average.module.weight, module.weight)
    with torch.no_grad():
        module.weight.add_(1.0)
    for step in range(200):
        average.update(module, step)
    torch.testing.assert_close(average.module.weight, module.weight, rtol=0, atol=1e-3)


def test_progress_is_plain_data():
    assert Progress(**json.loads(json.dumps(vars(Progress(step=3))))) == Progress(step=3)


def test_word_merges_do_not_break_each_other():
    words = ["and", "an", "orange", "on", "one", "grass", "green", "the", "there"]
    merges = merges_for(words)
    assert all(pieces_of(word, merges) == [word + "</w>"] for word in words)


def test_tokenizer_has_one_token_for_each_word(tmp_path):
    words = ["and", "an", "orange", "on", ",", "zebra"]
    tokenizer = build(words, tmp_path, max_length=8)
    ids = tokenizer("an orange, and").input_ids
    assert len(ids) == 6
    assert ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1
    assert np.unique(tokenizer("zebra").input_ids).size == 3
