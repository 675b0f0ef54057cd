"""Packs over HTTP: listed, asked for by name, and opened from a folder of the visitor's own."""

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from test_app import edit, refused
from tiny_sd import write_sd

from pipelines.packs import PACKS


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def test_packs_are_listed_with_licence_size_and_what_is_here(client):
    listed = client.predict(api_name="/packs")
    assert list(listed) == list(PACKS)
    assert {part["state"] for part in listed["toybox"]["components"]} == {"present"}
    xl = {part["role"]: part for part in listed["sdxl"]["components"]}
    assert listed["sdxl"]["resolution_px"] == 1024
    assert xl["latent_diffusion"]["size_bytes"] > 6e9
    assert "Open RAIL++-M" in xl["latent_diffusion"]["licence"]
    assert xl["latent_diffusion/vae"]["licence"] == "MIT"


def test_another_pack_is_asked_for_by_name(client, watched_cache, monkeypatch, tmp_path):
    known = {**PACKS, **watched_cache._packs}
    monkeypatch.setattr(watched_cache, "_packs", known)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "Please choose one of the model packs: toybox, sd15" in refused(client, pack="sd99")
    small = {"method": "sdedit", "pack": "sd15", "parameters": {"num_steps": 5}}
    with pytest.raises(AppError, match="stable-diffusion-v1-5.*MB.*OpenRAIL-M"):
        edit(client, **small)
    write_sd(tmp_path / "own" / "sd15")
    monkeypatch.setenv("SEMEDIT_MODELS", str(tmp_path / "own"))
    recipe = edit(client, **small)[2]["recipe"]
    assert (recipe["pack"], recipe["weights"]) == ("sd15", "sd15")
    assert recipe["parameters"]["guidance_scale"] == 7.5  # the pack's own default
    watched_cache.evict_idle()
