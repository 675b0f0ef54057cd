"""Set before anything is imported: no test reaches for the network or reports home."""

import dataclasses
import json
import os
import threading
from contextlib import contextmanager

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest

from pipelines import packs
from pipelines.model_cache import ModelCache


class WatchedCache(ModelCache):
    """The real cache; also counts how many jobs hold the diffusion model at once."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.held = self.peak = self.jobs = 0
        self.changed = threading.Condition()

    @contextmanager
    def lease(self, pack_name, role, on_step=None):
        with super().lease(pack_name, role, on_step) as model:
            counts = role == "latent_diffusion"
            self.count(counts)
            try:
                yield model
            finally:
                self.count(-counts)

    def count(self, change):
        with self.changed:
            self.held += change
            self.jobs += change > 0
            self.peak = max(self.peak, self.held)
            self.changed.notify_all()

    def wait_until(self, condition, timeout_s=60):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout_s)


@pytest.fixture(scope="session")
def untrained_pack(tmp_path_factory):
    """The toybox's pack entry over small untrained networks: a second to write, fast to run."""
    from face_models import write_faces
    from safetensors.torch import save_file
    from tiny_pack import (
        VISION,
        write_clip,
        write_perceptual,
        write_retrieval_set,
        write_scene_model,
    )

    from pipelines.data.spec import CLASSES, COLOURS, PLACES
    from pipelines.models.judge import SceneJudge
    from pipelines.training import scene_segmenter

    folder = tmp_path_factory.mktemp("untrained")
    write_scene_model(folder / "scenes")
    known = {"classes": list(CLASSES), "colours": list(COLOURS), "places": list(PLACES)}
    (folder / "scene_judge").mkdir()
    (folder / "scene_judge" / "config.json").write_text(json.dumps(known))
    save_file(SceneJudge(**known).state_dict(), folder / "scene_judge" / "model.safetensors")
    scene_segmenter.build().network.save_pretrained(folder / "scene_segmenter")
    for size in VISION:
        write_clip(size, folder / f"clip_{size}")
    for role, net in {"lpips_loss": "squeeze", "lpips_eval": "alex"}.items():
        write_perceptual(net, folder / role)
    write_retrieval_set(folder / "retrieval", [folder / f"clip_{size}" for size in VISION])
    write_faces(folder)
    toybox = packs.find("toybox")
    components = {
        role: dataclasses.replace(part, source=str(folder / part.source.rpartition("/")[2]))
        for role, part in {**toybox.components, **packs.FACES}.items()
    }
    return dataclasses.replace(toybox, components=components)


@pytest.fixture(scope="session")
def watched_cache(untrained_pack):
    return WatchedCache(2**30, packs.LOADERS, packs={untrained_pack.name: untrained_pack})


@pytest.fixture(scope="module")
def untrained_judge(watched_cache, untrained_pack):
    with watched_cache.lease(untrained_pack.name, "scene_judge") as judge:
        yield judge


@pytest.fixture(scope="session")
def served(watched_cache, untrained_pack):
    """The app with the untrained pack on a port of its own: (demo, address)."""
    import app

    demo = app.build(cache=watched_cache, pack=untrained_pack)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_settings())
    yield demo, address.rstrip("/")
    demo.close()
