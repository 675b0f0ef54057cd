"""What the page says of photo packs, and that a missing one costs nobody the toybox."""

import dataclasses
import threading

import pytest
from PIL import Image

from pipelines import hub, packs, sentences, workbench
from pipelines.errors import InputError
from pipelines.jobs import Gate, Update
from pipelines.memo import Memo
from pipelines.packs import PACKS
from pipelines.results import Step
from pipelines.workbench import Order, Services


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Offline, with an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "licence", "px"), [("sd15", "OpenRAIL-M", 512), ("sdxl", "Open RAIL++-M", 1024)]
)
def test_licence_size_and_pixels_are_said(machine, name, licence, px):
    said = sentences.pack(PACKS[name])
    size = hub.megabytes(PACKS[name].component("latent_diffusion").total_bytes())
    for part in (PACKS[name].title, licence, f"{px} × {px} pixels", f"fetches about {size} MB"):
        assert part in said
    size = sum(part.total_bytes() for part in PACKS["toybox"].components.values())
    assert f"{hub.megabytes(size)} MB on this machine" in sentences.pack(PACKS["toybox"])


def test_an_own_folder_that_is_not_complete_is_said(machine):
    (machine / "own" / "sd15").mkdir(parents=True)
    assert "sd15 has no model_index.json" in sentences.pack(PACKS["sd15"])


def test_a_download_is_counted_on_the_status_line():
    update = Update(0, Step(hub.DOWNLOADING, 120, 2133))
    said = sentences.progress(update, "DiffEdit", loading=True)
    assert "Fetching the model (MB)" in said and "120 of 2133" in said


def order():
    one = workbench.task("sdedit", {"num_steps": 5, "strength": 0.4})
    picture = Image.effect_noise((128, 128), 60).convert("RGB")
    return Order(picture, "a horse", "a zebra", 3, [one])


def test_a_missing_pack_says_what_to_do_and_the_toybox_goes_on(
    machine, watched_cache, untrained_pack, tmp_path, monkeypatch
):
    def file(image, name):
        image.save(tmp_path / "picture.png")
        return str(tmp_path / "picture.png")

    both = {untrained_pack.name: untrained_pack, "sd15": PACKS["sd15"]}
    monkeypatch.setattr(watched_cache, "_packs", both)
    toybox = Services(watched_cache, Memo(2**20), Gate(), untrained_pack, file)
    photo = dataclasses.replace(toybox, pack=PACKS["sd15"])
    asked = order()
    with pytest.raises(InputError, match=r"stable-diffusion-v1-5.*MB.*OpenRAIL-M.*hf download"):
        workbench.carry_out(photo, asked, lambda step: None)
    assert asked.results == []
    done = workbench.carry_out(toybox, order(), lambda step: None)
    assert done.results[0].recipe["weights"] == "scenes"


def test_nothing_is_fetched_before_somebody_asks(machine, watched_cache, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "download", lambda *args: asked.append(args))
    services = Services(
        type(watched_cache)(2**20, packs.LOADERS), Memo(1), Gate(), PACKS["sd15"], lambda *args: ""
    )
    before = set(threading.enumerate())
    workbench.warm_up(services)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert asked == []
    assert services.cache.state() == ()
