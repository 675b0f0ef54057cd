"""Distance to the input and CLIP score of edits, and the curves that sweeps draw of them."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import app
from pipelines import images, workbench
from pipelines.edit_numbers import CURVES_KEPT, TradeOff
from pipelines.images import Window
from pipelines.jobs import Gate
from pipelines.memo import Memo
from pipelines.packs import PACKS
from pipelines.workbench import Order, Services, carry_out, sweep_tasks, task

QUICK = {"num_steps": 5, "strength": 0.6}
TARGET = "a zebra on the grass"


@pytest.fixture(scope="module")
def services(watched_cache, untrained_pack):
    return Services(watched_cache, Memo(2**20), Gate(), untrained_pack, app.file_picture)


def order(*tasks, source="a horse", target=TARGET, is_sweep=False, seed=1, **options):
    noise = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    pair = Image.fromarray(noise), source
    return Order(*pair, target, seed, tasks, is_sweep=is_sweep, **options)


def carried_out(services, *tasks, **options):
    return carry_out(services, order(*tasks, **options), lambda step: None)


def test_distance_and_score_are_of_the_square_that_was_worked_on(services):
    corner = Window(1.0, 0.0, 0.5)
    done = carried_out(services, task("sdedit", QUICK), window=corner)
    (one,) = done.results
    with Image.open(one.after) as edited:
        pair = [images.fit(p.convert("RGB"), 128, corner)[0] for p in (done.picture, edited)]
    before, after = images.to_tensor(pair, 128).split(1)
    lease = services.cache.lease
    with lease("toybox", "lpips_eval") as perceptual, lease("toybox", "clip_vit") as clip:
        with torch.no_grad():
            distance = perceptual.network(before, after).item()
            image = clip.network.encode_image(clip.preprocess(after))
            text = clip.network.encode_text(clip.tokenizer([TARGET]))
    assert one.numbers["lpips"] == pytest.approx(distance, rel=1e-4) and distance > 0
    score = 2.5 * max(0.0, F.cosine_similarity(image, text).item())
    assert one.numbers["clip"] == pytest.approx(score, abs=1e-4)


def test_what_has_no_mask_is_measured_outside_the_first_one(services):
    diffedit, p2p = (task(name, {"num_steps": 5}) for name in ("diffedit", "prompt_to_prompt"))
    sdedit = task("sdedit", QUICK)
    done = carried_out(services, diffedit, sdedit, p2p, sdedit)
    between, after = (one.numbers["l1"] for one in done.results if one.title == "SDEdit")
    assert between == after and between > 0


def test_a_source_text_is_inferred_only_where_it_is_read(services):
    strange = {"target": "a flamingo", "source": ""}
    done = carried_out(services, task("copy", {}), task("sdedit", QUICK), **strange)
    assert done.inferred == done.source_text == "" and not any("inferred" in n for n in done.notes)
    values = {"num_steps": 5, "num_maps": 1}
    done = carried_out(services, task("diffedit", values), **strange)
    assert done.source_text == "" and any("could not be inferred" in note for note in done.notes)
    done = carried_out(services, task("diffedit", values), source="")
    assert done.source_text == done.inferred != ""
    assert done.seconds > sum(one.numbers["seconds"] for one in done.results)


def test_a_copy_has_no_distance(services):
    (one,) = carried_out(services, task("copy", {})).results
    assert one.numbers["lpips"] == pytest.approx(0, abs=1e-6)


def test_flexit_is_said_to_be_led_by_the_clip_that_scores_it(services):
    values = {"num_steps": 1, "augmentations": 0, "snapshot_every": 0}
    led = "FlexIT is led by the CLIP that scores it."
    assert led in carried_out(services, task("flexit", values)).notes
    other = {**values, "networks": "clip_resnet"}
    assert led not in carried_out(services, task("flexit", other)).notes


@pytest.mark.parametrize("absent", ["published", "unknown"])
def test_nothing_is_fetched_for_a_number(services, absent, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    published = PACKS["sd15"].components["lpips_loss"]
    parts = {k: c for k, c in services.pack.components.items() if k != "lpips_eval"}
    parts |= {"lpips_eval": published} if absent == "published" else {}
    poor = dataclasses.replace(services, pack=dataclasses.replace(services.pack, components=parts))
    done = carried_out(poor, task("copy", {}))
    numbers = done.results[0].numbers
    assert numbers["lpips"] is None and numbers["clip"] is None
    assert "LPIPS and CLIP score: their networks are not on this machine." in done.notes


def test_a_sweep_is_a_curve_and_names_what_sets_it_apart(services):
    trade_off = TradeOff()

    def swept(values, **options):
        one = task("sdedit", {"num_steps": 5, **values})
        done = carried_out(services, *sweep_tasks(one), is_sweep=True, **options)
        trade_off.follow(done)
        return list(dict.fromkeys(name for *_, name in trade_off.points()))

    assert swept({}) == ["SDEdit"]
    first = trade_off.points()
    assert [strength for *_, strength, _ in first] == sorted(strength for *_, strength, _ in first)
    assert len(first) == workbench.SWEEP and all(score > 0 for _, score, *_ in first)
    assert swept({}) == ["SDEdit"]  # the same once more is the same curve
    assert trade_off.points() == first
    other = swept({"guidance_scale": 6.0})
    assert other == ["SDEdit, guidance scale 3", "SDEdit, guidance scale 6"]
    trade_off.follow(carried_out(services, task("copy", {})))  # a run in between changes nothing
    assert len(trade_off.points()) == 2 * len(first)
    assert swept({}, target="a cow on the grass") == ["SDEdit"]  # scores of another text
    for seed in range(CURVES_KEPT + 1):
        names = swept({}, target="a cow on the grass", seed=seed)
    assert names == [f"SDEdit, seed {seed}" for seed in range(1, CURVES_KEPT + 1)]
