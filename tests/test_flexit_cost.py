import pytest
from tiny_pack import CPU

from pipelines import packs
from pipelines.benchmarks import flexit_cost
from pipelines.benchmarks.diffedit import render_batches
from pipelines.benchmarks.report import Report
from pipelines.data.cluster_queries import cluster_queries
from pipelines.flexit import flexit
from pipelines.method_params import FlexITParams


@pytest.fixture(scope="module")
def lab(untrained_pack):
    """The pack's models for FlexIT and one query."""

    def load(role):
        part = untrained_pack.component(role)
        return packs.LOADERS[part.kind](part.locate(), CPU)

    clips = {role: load(role) for role in ("clip_vit", "clip_resnet", "clip_resnet_large")}
    further = {"clips": clips, "perceptual": load("lpips_loss")}
    return load("latent_diffusion"), further, render_batches(cluster_queries(1, 0, "test"))[0]


def test_the_releases_loop_computes_what_the_method_does(untrained_pack, lab):
    model, further, batch = lab
    plain = flexit_cost.plain_networks(untrained_pack, further["clips"])
    params = FlexITParams(num_steps=2, augmentations=3, snapshot_every=0)
    edit = batch.images, batch.source, batch.target, params
    ours = flexit(model, *edit, seeds=[7], **further).images
    theirs = model.decode_latents(flexit_cost.crop_by_crop(model, plain, further, *edit, 7))
    moved = (ours - batch.images).norm()
    assert (ours - theirs).norm() < 1e-2 * moved


def test_both_sides_are_timed_and_compared(untrained_pack, lab, tmp_path, monkeypatch):
    monkeypatch.setattr(flexit_cost, "TIMED", 1)
    monkeypatch.setattr(flexit_cost, "LIMITS", {1: 1e-6, 2: 1e6})
    report = Report("flexit", seed=0, path=tmp_path / "cost.jsonl")
    flexit_cost.measure_cost(report, untrained_pack, *lab, seed=0)
    rows = [row for row in report.records if "metric" in row]
    values = {(row["metric"], row["method"], row["setting"]): row["value"] for row in rows}
    for d in ("d = 1", "d = 8"):
        ours, theirs = (values["seconds_per_step", side, d] for side in ("flexit", "loop"))
        assert values["ratio_to_loop", "flexit", d] == pytest.approx(ours / theirs, rel=0.05)
    claims = {row["claim"]: row["holds"] for row in report.records if "claim" in row}
    assert list(claims.values())[1:] == [False, True]
