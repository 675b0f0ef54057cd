"""The shipped retrieval set keeps its promises."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import packs, weights
from pipelines.data.scenes import render, sample_scene
from pipelines.data.simat_scenes import CANDIDATES, FIRST_SEED, OBJECTS_KEPT
from pipelines.devices import Device
from pipelines.models.retrieval_set import THUMBNAIL_PX, THUMBNAILS, RetrievalSet
from pipelines.training import simat_set
from pipelines.training.scene_data import HELD_OUT

TOYBOX = packs.find("toybox")
MIB = 2**20


@pytest.fixture(scope="module")
def folder():
    return TOYBOX.component("retrieval").locate()


@pytest.fixture(scope="module")
def known(folder):
    return RetrievalSet.from_folder(folder, Device("cpu", torch.device("cpu"), torch.float32))


def test_it_is_as_large_as_promised_and_built_as_simat_is(known, folder):
    assert len(known) >= 6000
    assert len(known.simat.queries) >= 15_000
    counts = Counter(known.simat.triplets)
    assert min(counts.values()) >= 2
    assert max(Counter((one.subj, one.rel) for one in counts).values()) <= OBJECTS_KEPT
    fields = Counter(query.field for query in known.simat.queries)
    assert min(fields.values()) > 300
    assert (folder / THUMBNAILS).stat().st_size <= 8.5 * MIB


def test_it_shares_no_seed_with_training():
    assert HELD_OUT < FIRST_SEED < FIRST_SEED + CANDIDATES < 2**31


def test_thumbnails_show_their_scenes(known):
    for row in (0, len(known) // 2, len(known) - 1):
        drawn = Image.fromarray(render(known.scenes[row]).image)
        small = drawn.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
        apart = np.subtract(np.asarray(known.thumbnail(row), float), np.asarray(small))
        assert np.sqrt((apart**2).mean()) < 12


def test_what_clips_made_of_it_is_theirs(known):
    roles = [role for role, part in TOYBOX.components.items() if part.kind == "dual_encoder"]
    assert set(known.encoded) <= set(roles)
    for role, encoded in known.encoded.items():
        folder = packs.ASSETS / TOYBOX.components[role].source
        assert encoded.fingerprint == weights.fingerprint(folder), (
            f"{role} was trained again: run pipelines.training.simat_set and adaptation_heads"
        )
        assert len(encoded.images) == len(known)
        assert len(encoded.captions) == len(known.simat.captions)


def test_renders_go_on_where_they_stopped(tmp_path, monkeypatch):
    scenes = [sample_scene(seed) for seed in range(4)]
    drawn = []

    def stopping(scene, size_px):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(scene)
        return render(scene, size_px)

    monkeypatch.setattr(simat_set, "render", stopping)
    with pytest.raises(KeyboardInterrupt):
        simat_set.renders(scenes, tmp_path)
    assert drawn == scenes[:2]
    monkeypatch.setattr(simat_set, "render", lambda scene, px: drawn.append(scene) or render(scene))
    images = simat_set.renders(scenes, tmp_path)
    assert drawn == scenes
    assert np.array_equal(images[1], render(scenes[1]).image)
