"""The layouts' benchmark with the shipped models, at a size that proves nothing but itself."""

import json

import pytest
import torch

from pipelines.benchmarks import zestguide
from pipelines.benchmarks.report import Report
from pipelines.metrics.segmentation import MeanIoU

QUICK = ["--n", "2", "--steps", "5", "--settings", "eval-few"]


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(zestguide, "REAL", 40)
    monkeypatch.setattr(zestguide, "TIMED", 2)


def test_a_run_that_was_cut_goes_on_and_judges_when_it_has_all(tmp_path):
    path = tmp_path / "zestguide.jsonl"
    common = [*QUICK, "--parts", "headline", "--json", str(path), "--methods"]
    zestguide.main([*common, "plain_sampling"])
    first = records(path)
    assert {r["method"] for r in first} == {"render", "plain_sampling"}  # nothing to judge yet
    zestguide.main([*common, "zestguide", "--append"])
    both = records(path)
    assert [r for r in first if r["method"] == "plain_sampling"] == [
        r for r in both if r.get("method") == "plain_sampling"
    ]
    rows = {r["method"]: r for r in both if r.get("metric") == "miou"}
    assert list(rows) == ["plain_sampling", "render", "zestguide"]
    assert rows["render"]["value"] > 0.5  # the segmentation network knows the scenes
    assert all(r["n"] == 2 and r["steps"] == 5 for r in rows.values())
    claims = [r["claim"] for r in both if "claim" in r]
    assert len(claims) == 3
    assert all("plain sampling" in claim for claim in claims)


def test_costs_are_ratios_to_plain_sampling(tmp_path):
    path = tmp_path / "cost.jsonl"
    zestguide.main([*QUICK, "--parts", "cost", "--json", str(path)])
    costs = {r["method"]: r["value"] for r in records(path) if "metric" in r}
    assert costs["plain_sampling"] == 1.0
    assert all(value > 0 for value in costs.values())
    assert sum("claim" in r for r in records(path)) == 2


def test_every_ablation_changes_one_thing_of_what_is_shipped():
    seen = []
    zestguide.ablations(lambda *run: seen.append(run), 1, 0, {"eta": 0.3})
    changed = [tuple(values.items()) for name, values, *_ in seen if name == "zestguide"]
    assert len(set(changed)) == len(changed) == 17
    assert (("tau", 0.5),) not in changed
    assert (("eta", 0.3),) not in changed
    assert len({(name, setting) for name, *_, setting in seen}) == len(seen) == 20


def test_a_later_measurement_takes_the_place_of_an_earlier_one(tmp_path):
    path = tmp_path / "records.jsonl"
    first = Report("test", seed=0, path=path)
    first.add("miou", "a", 0.25, setting="x")
    first.add("miou", "b", 0.5, setting="x")
    later = Report("test", seed=0, path=path, append=True)
    later.add("miou", "a", 0.75, setting="x")
    assert later.value("miou", "a", "x") == 0.75
    assert later.value("miou", "b", "x") == 0.5
    assert later.value("miou", "a", "y") is None
    assert [(r["method"], r["value"]) for r in records(path)] == [("b", 0.5), ("a", 0.75)]
    Report("test", seed=0, path=path).add("miou", "c", 1.0)
    assert len(records(path)) == 1


def test_the_standard_error_is_that_of_pictures_drawn_again():
    score = MeanIoU(2)
    truth = torch.ones(1, 10, 10, dtype=torch.long)
    for share in torch.linspace(0, 1, 50):
        right = torch.zeros(100, dtype=torch.long)
        right[: int(share * 100)] = 1
        score.add(right.view(1, 10, 10), truth)
    assert score.value() == pytest.approx(0.5, abs=0.01)  # of one class: the mean over pictures
    expected = torch.linspace(0, 1, 50).std() / 50**0.5
    assert score.standard_error(0) == pytest.approx(float(expected), rel=0.15)
    assert score.standard_error(0) == score.standard_error(0)
