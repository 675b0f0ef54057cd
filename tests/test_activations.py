"""Counting what networks hold, on fake tensors: by hand for a chain, then on a small UNet."""

import json

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pipelines.benchmarks import activations
from pipelines.benchmarks.activations import held, unet_numbers


def chain(layers):
    return nn.Sequential(*(nn.Linear(100, 100) for _ in range(layers))).requires_grad_(False)


@pytest.mark.parametrize("layers", [2, 9])
def test_without_gradient_a_chain_holds_two_layers_at_a_time(layers):
    with FakeTensorMode():
        network = chain(layers)
        assert held(network, network, torch.zeros(7, 100), backward=False) == 2 * 700


def test_with_gradient_every_layer_is_held():
    with FakeTensorMode():
        network = nn.Sequential(*(nn.Tanh() for _ in range(9)))
        peak = held(network, network, torch.zeros(7, 100), backward=True)
    assert 9 * 700 <= peak <= 12 * 700


def test_weights_do_not_count_and_gradients_do():
    forward, backward = (unet_numbers("tiny", backward=way) for way in (False, True))
    assert 0 < forward < backward < 50 * forward


def test_the_command_records_numbers_and_a_claim(tmp_path):
    activations.main(["--shapes", "tiny", "--json", str(tmp_path / "found.jsonl")])
    records = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len([one for one in records if one.get("setting") == "tiny"]) == 4
    assert "unet backward" in records[-1]["evidence"]
