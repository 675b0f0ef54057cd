import json

import pytest
from PIL import Image

from pipelines import packs
from pipelines.benchmarks import flexit, flexit_published
from pipelines.benchmarks.report import Report
from pipelines.errors import InputError
from pipelines.model_cache import ModelCache


@pytest.fixture(scope="module")
def lab(untrained_pack, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flexit, "REFERENCES", 1)
        # untrained networks move a picture by less than bfloat16, some CPUs' own format, can show
        patch.setenv("SEMEDIT_DTYPE", "float32")
        path = tmp_path_factory.mktemp("flexit") / "flexit.jsonl"
        yield flexit.prepared(untrained_pack, Report("flexit", seed=0, path=path), 2, 0, 2)


def measured(lab, part):
    """The records of one part: {(metric, method, setting): value}, and its claims."""
    lab.report.records.clear()
    base = lab.run("flexit", {}, "default")
    flexit.RUN[part](lab, base, 0)
    records = [json.loads(line) for line in lab.report.path.read_text().splitlines()]
    rows = [one for one in records if "metric" in one]
    values = {(one["metric"], one["method"], one["setting"]): one["value"] for one in rows}
    return values, [one for one in records if "claim" in one]


def test_every_regulariser_acts_alone_whatever_the_packs_defaults(lab):
    assert lab.pack.defaults["flexit"]["latent_weight"] == 0
    values, claims = measured(lab, "regularisers")
    settings = ["no regulariser", "all regularisers, as published"]
    settings += [f"{name} alone" for name in flexit.PUBLISHED]
    far = [values["lpips", "flexit", setting] for setting in settings]
    assert len(set(far)) == len(far)
    assert len(claims) == 1


def test_settings_leave_out_the_default_and_give_norms_a_weight(lab, monkeypatch):
    table = {"image_weight": (0.0, 0.1, 0.2), "loss": ("dot", "squared")}
    monkeypatch.setattr(flexit, "TABLE_A2", table)
    values, _ = measured(lab, "settings")
    tried = [setting for metric, _, setting in values if metric == "lpips"]
    norms = [f"latent_norm {norm}" for norm in ("l21", "l1", "l2")]
    expected = ["default", "image_weight 0.0", "image_weight 0.2", "loss squared", *norms]
    assert tried == expected
    assert len({values["lpips", "flexit", setting] for setting in norms}) == 3


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("space", {"pixels"}),
        ("augmentations", {"d = 0", "d = 8", "d = 32"}),
        (
            "networks",
            {"clip_resnet", "clip_vit", "clip_resnet_large", "clip_resnet + clip_vit",
             "clip_resnet + clip_resnet_large", "clip_vit + clip_resnet_large"},
        ),
    ],
)  # fmt: skip
def test_other_ablations_record_their_settings(lab, part, settings):
    values, claims = measured(lab, part)
    for metric in ("accuracy", "lpips", "csfid", "sfid"):
        assert {s for name, _, s in values if name == metric} == {"default", *settings}
    assert claims


def test_published_queries_are_edited_with_the_pack_that_is_named(untrained_pack, tmp_path):
    table = tmp_path / "queries.csv"
    lines = ["path,source,target,is_test", "a/1.JPEG,cat,dog,True", "a/2.JPEG,cat,dog,False"]
    table.write_text("\n".join(lines) + "\n")
    cache = ModelCache(2**30, packs.LOADERS, packs={untrained_pack.name: untrained_pack})
    report = Report("flexit", seed=0)
    given = report, cache, untrained_pack, table, tmp_path
    with pytest.raises(InputError, match=r"1\.JPEG is missing"):
        flexit_published.measure_published(*given, n=5, steps=1)
    (tmp_path / "a").mkdir()
    Image.effect_noise((200, 150), 90).convert("RGB").save(tmp_path / "a" / "1.JPEG", "JPEG")
    flexit_published.measure_published(*given, n=5, steps=1)
    rows = [(row["method"], row["n"], row["setting"]) for row in report.records]
    setting = "published queries, toybox, by another network"
    assert rows == [("encode", 1, setting), ("flexit", 1, setting)]
    assert report.records[0]["value"] != report.records[1]["value"]


def test_published_queries_need_their_files():
    with pytest.raises(SystemExit, match="needs --queries and --imagenet"):
        flexit.main(["--parts", "published"])
