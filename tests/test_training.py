import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from pipelines.devices import Device
from pipelines.models.judge import SceneJudge
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.training import scene_autoencoder, scene_diffusion, scene_judge
from pipelines.training.common import Average, Progress, parser, rate, train
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


def test_judge_trains_two_steps_and_opens(work, tmp_path):
    scene_judge.main(options(work, tmp_path, 2))
    judge = SceneJudge.from_folder(Path(tmp_path), CPU)
    verdict = judge(torch.zeros(3, 3, 128, 128))
    assert verdict.presence.shape == (3, len(judge.classes))
    assert verdict.colour.shape == (3, len(judge.classes), len(judge.colours) + 1)
    assert verdict.place.shape == (3, len(judge.places))


def test_epsilon_loss_of_a_perfect_network_is_zero():
    """A network that is told the noise: predicted = noise, whatever the level."""
    schedule = torch.linspace(0.999, 0.01, 1000)
    latents0 = torch.zeros(4, 4, 8, 8)

    class Text(nn.Module):
        def forward(self, token_ids):
            return type("Output", (), {"last_hidden_state": token_ids})

    def knows(noisy, timesteps, text, return_dict):
        return (noisy / (1 - schedule[timesteps]).sqrt().view(-1, 1, 1, 1),)

    tokens = torch.zeros(4, 1, dtype=torch.long)
    weighted, plain = scene_diffusion.epsilon_loss(knows, Text(), latents0, tokens, schedule)
    assert weighted.item() == pytest.approx(0, abs=1e-10)
    assert plain.item() == pytest.approx(0, abs=1e-10)


def test_min_snr_weight_by_hand():
    weights = scene_diffusion.min_snr_weight(torch.tensor([0.5, 10 / 11]))  # SNR 1 and 10
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5]))


def test_rate_warms_up_stays_and_decays():
    assert rate(0.0, 0, warmup_steps=10) == pytest.approx(0.1)
    assert rate(0.5, 1000) == rate(0.7, 1000) == 1
    assert rate(0.85, 1000) == pytest.approx(0.5)
    assert rate(1.0, 1000) == 0


def test_a_longer_run_goes_on_from_the_end_of_the_stable_phase(tmp_path):
    rates = []

    def run(steps):
        torch.manual_seed(0)
        weight = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(weight.parameters(), 1.0)

        def loss_of_step(progress):
            rates.append((progress.step, optimizer.param_groups[0]["lr"]))
            return weight(torch.ones(1, 1)).square().mean(), {}

        args = parser("").parse_args(["--work", str(tmp_path), "--steps", str(steps)])
        return train(
            args, name="line", parts={"weight": weight}, optimizer=optimizer,
            learning_rate=0.1, loss_of_step=loss_of_step, log_every=1,
        )  # fmt: skip

    assert run(10).step == 10
    assert rates[-1][1] < max(rate for _, rate in rates)  # it ended in the decay
    rates.clear()
    assert run(20).step == 20
    assert rates[0][0] == 8  # decay began after the steps 0 to 7
    assert len(rates) == 12


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
