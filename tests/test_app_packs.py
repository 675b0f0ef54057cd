"""Packs over HTTP: listed, asked for by name, and opened from a folder of the visitor's own."""

import dataclasses

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from test_app import HORSE, Listener, edit, refused, upload
from test_app_retrieval import retrieve
from tiny_pack import write_clip
from tiny_sd import write_sd

from pipelines.packs import PACKS, Component


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


@pytest.fixture
def offline(watched_cache, monkeypatch, tmp_path):
    """All packs in the cache, nothing of the photo packs on the machine."""
    known = {**PACKS, **watched_cache._packs}
    monkeypatch.setattr(watched_cache, "_packs", known)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return known


def test_retrieval_on_a_photo_pack_searches_the_pictures_that_are_sent(
    client, offline, monkeypatch, tmp_path
):
    asked = {"pack": "sd15", "clip": "clip_vit_b_32"}
    with pytest.raises(AppError, match="no pictures of its own to search in. Please index"):
        retrieve(client, **asked)
    files = [handle_file(HORSE)]
    with pytest.raises(AppError, match="vit_base_patch32_clip_224.openai.*MIT.*hf download"):
        retrieve(client, pictures=files, **asked)
    clip = Component("dual_encoder", str(write_clip("vit", tmp_path / "clip")))
    parts = {**PACKS["sd15"].components, asked["clip"]: clip}
    here = dataclasses.replace(PACKS["sd15"], components=parts)
    monkeypatch.setitem(PACKS, "sd15", here)
    monkeypatch.setitem(offline, "sd15", here)
    alone, report = retrieve(client, pictures=files, **asked)
    assert alone is None and report["results"] == []  # a picture is no answer to itself
    other, _ = client.predict(seed=5, api_name="/new_scene")
    found, report = retrieve(
        client, pictures=[*files, handle_file(other)], source="penguin", target="ostrich", **asked
    )
    assert found and len(report["results"]) == 1
    assert {word for word, _, _ in report["words"]} == {"penguin", "ostrich"}


def test_the_page_offers_what_a_photo_pack_has_and_says_what_is_missing(served, offline):
    with Listener(served, "choose_pack", ["sd15"]) as job:
        shown = str(job.completed()["output"]["data"])
    assert "clip_vit_b_32" in shown and "Index your pictures" in shown
    assert "The toy set" not in shown
    files = [upload(served, HORSE)]
    with Listener(served, "index", [files, "clip_rn50", "sd15"], session=job.session) as job:
        message = job.completed()
    assert not message["success"]
    assert "timm/resnet50_clip.openai (about 408 MB, MIT)" in message["output"]["error"]


def test_faces_are_asked_of_a_pack_by_name(client, offline):
    def face(pack):
        return client.predict(None, "", 3, [], [], {}, pack, api_name="/face")

    assert face("toybox")[1]["recipe"]["pack"] == "toybox"
    with pytest.raises(AppError, match="FFHQ|HairFastGAN.*NVIDIA Source Code License"):
        face("ffhq")
    with pytest.raises(AppError, match="Stable Diffusion 1.5.*Choose another pack"):
        face("sd15")
