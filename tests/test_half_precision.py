"""Every method in the number format that GPUs and newer CPUs pick: as in float32, but coarser."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_sd import CPU, write_sd, write_sdxl

from pipelines.layouts import Layout, Segment
from pipelines.models.latent_diffusion import LatentDiffusion
from pipelines.params import build, specs
from pipelines.registry import METHODS

HALF = dataclasses.replace(CPU, dtype=torch.bfloat16)
DIFFUSION = [
    name
    for name, method in METHODS.items()
    if method.tab in ("text_edit", "layouts") and not set(method.takes) - {"initial"}
]
CHOICES = {"num_steps": 2, "num_maps": 2, "guidance_scale": 2.0}


@pytest.fixture(scope="module", params=[write_sd, write_sdxl])
def models(request, tmp_path_factory):
    folder = request.param(tmp_path_factory.mktemp("models"))
    return [LatentDiffusion.from_folder(folder, device) for device in (CPU, HALF)]


def test_what_is_tried_here():
    assert {"diffedit", "prompt_to_prompt", "zestguide", "paint_with_words"} <= set(DIFFUSION)


@pytest.mark.parametrize("name", DIFFUSION)
def test_half_precision_is_single_precision_but_coarser(models, name):
    method = METHODS[name]
    known = {spec.name for spec in specs(method.load_params())}
    choices = {name: value for name, value in CHOICES.items() if name in known}
    params = dataclasses.replace(build(method.load_params(), {}), **choices)
    results = []
    for model in models:
        if method.tab == "layouts":
            labels = np.zeros((model.resolution, model.resolution), np.uint8)
            labels[32:96, 16:64] = 1
            given = [Layout("a lake", (Segment("a horse"),), labels)], params
        else:
            generator = torch.Generator().manual_seed(0)
            images = torch.rand(1, 3, model.resolution, model.resolution, generator=generator)
            given = images, ["a horse"], ["a zebra"], params
        results.append(method.load()(model, *given, seeds=[0]).images)
    single, half = results
    assert half.dtype == torch.float32
    assert torch.isfinite(half).all()
    assert torch.corrcoef(torch.stack([single.flatten(), half.flatten()]))[0, 1] > 0.9
