"""The protocol on a space where the right scores are known, and on files laid out as published."""

import csv
import itertools
import json

import pytest
import torch
from PIL import Image
from tiny_pack import write_clip
from torch.nn import functional as F

from pipelines.benchmarks import simat
from pipelines.benchmarks.report import Report
from pipelines.benchmarks.simat_published import ORACLE
from pipelines.data.simat_scenes import Triplet, build
from pipelines.errors import InputError
from pipelines.models.adaptation_heads import AdaptationHeads

PARTS = ("cat", "dog", "bear"), ("on", "under"), ("car", "bus", "tree")
NAMES = tuple(name for names in PARTS for name in names)


@pytest.fixture
def lab():
    """Pictures and captions are sums of the basis vectors of their parts, two pictures each."""
    basis = dict(zip(NAMES, torch.eye(len(NAMES)), strict=True))
    shown = [Triplet(*parts) for parts in itertools.product(*PARTS)] * 2
    toys = build(shown)

    def embed(one):
        return F.normalize(basis[one.subj] + basis[one.rel] + basis[one.obj], dim=0)

    return simat.Lab(
        name="sums",
        simat=toys,
        images=torch.stack([embed(one) for one in shown]),
        captions=torch.stack([embed(one) for one in toys.captions]),
        words=basis,
        heads={"0.1": AdaptationHeads(len(NAMES)), "1": AdaptationHeads(len(NAMES))},
        holds=torch.tensor([[one == other for other in shown] for one in toys.captions]),
    )


def scores(report, **wanted):
    return {
        record["setting"]: record["value"]
        for record in report.records
        if all(record.get(key) == value for key, value in wanted.items())
    }


def test_scores_are_those_of_the_space(lab, tmp_path, capsys):
    report = Report("simat", seed=0, path=tmp_path / "records.jsonl")
    found = simat.measure(report, lab, 1000, 0)
    raw = scores(report, method="raw")
    assert raw["sums, words, lambda 0, dev"] == 0
    assert raw["sums, words, lambda 1, dev"] == 1
    assert raw["sums, words, lambda 1, test, n=1"] == 1
    assert raw["sums, words, lambda 0.5, test, n=1, only rel"] == 1
    heads = scores(report, method="heads")
    assert heads["sums, tau 0.1, words, lambda 0.5, test, n=1, only dog"] == 1
    assert set(scores(report, method="text_to_image").values()) == {1}
    assert set(scores(report, method="image_to_text_to_image").values()) == {1}
    alone = scores(report, method="image_only")
    assert alone["sums, test, n=1"] == 0  # its twin is closest
    assert alone["sums, test, n=5"] > 0
    assert found.best_scale["0.1", "words"] == 0.5
    simat.claims(report, [found])
    verdicts = {r["claim"]: r["holds"] for r in report.records if "claim" in r}
    assert not verdicts["adapted heads beat raw embeddings, each at its best lambda"]  # they tie
    assert verdicts["text to image is an upper bound"]
    assert not verdicts["temperature 0.1 with lambda 1 is the best pair (dev half)"]
    assert all(json.loads(line) for line in report.path.read_text().splitlines())


def test_weights_are_counted_over_both_halves(lab, capsys):
    queries = lab.simat.queries
    dev = [query for query in queries if not query.is_test]
    scorer = simat.Scorer(Report("simat", seed=0), queries, dev)
    total = sum(query.value == dev[0].value for query in queries)
    assert scorer.weights[0] == pytest.approx(total**-0.5)


@pytest.fixture
def published(tmp_path):
    """Four pictures and the queries between them, in the files and folders of the release."""
    folder = tmp_path / "simat_db"
    shown = [(s, "riding", o) for s in ("man", "dog") for o in ("horse", "bike")]
    captions = [f"A {s} is {r} a {o}." for s, r, o in shown]
    (folder / "images").mkdir(parents=True)
    (folder / "captions.txt").write_text("\n".join(captions) + "\n")
    rows = [[100 + i, *one, 3 - i] for i, one in enumerate(shown)]
    write(folder / "triplets.csv", ["region_id", "subj", "rel", "obj", "dataset_id"], rows)
    queries = []
    for i, (s, r, o) in enumerate(shown):
        other_s, other_o = ("dog", "man")[s == "dog"], ("bike", "horse")[o == "bike"]
        half = i % 2 == 0
        for kind, before, after, wanted in (
            ("subj", s, other_s, (other_s, r, o)), ("obj", o, other_o, (s, r, other_o)),
        ):  # fmt: skip
            row = [len(queries), len(queries), 100 + i, kind, before, after, 2, i]
            queries.append([*row, shown.index(wanted), 3 - i, 2, half])
        target = folder / "images" / f"A {s} {r} {o}"
        target.mkdir()
        Image.effect_noise((90, 70), 40 + 10 * i).convert("RGB").save(target / f"{100 + i}.jpg")
    names = ["", "transfo_id", "region_id", "field", "value", "target", "norm", "query_ids"]
    write(
        folder / "transfos.csv", [*names, "target_ids", "dataset_id", "norm2", "is_test"], queries
    )
    return folder


def write(path, head, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_the_published_set_is_measured_from_its_folder(published, tmp_path, capsys):
    clip = write_clip("resnet", tmp_path / "clip_tiny")
    out = tmp_path / "records.jsonl"
    named = ["--simat-db", str(published), "--clip-folder", str(clip), "--json", str(out)]
    lab = simat_lab(published, clip)
    assert torch.equal(lab.holds, torch.eye(4, dtype=torch.bool))  # annotations, in their order
    # OSCAR's matrix has pictures by dataset_id, here backwards, and captions by line
    doubts = torch.full((4, 4), 0.1)
    doubts[3 - 1, 2] = 0.9
    torch.save(doubts, published / ORACLE)
    assert simat_lab(published, clip).holds.nonzero().tolist() == [[2, 1]]
    simat.main(named)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert {r["method"] for r in records if "method" in r} >= {"raw", "text_to_image"}


def simat_lab(folder, clip):
    from pipelines.benchmarks.simat_published import published_lab

    with torch.no_grad():
        return published_lab(folder, clip, None)


def test_missing_pictures_are_named(published, tmp_path):
    next((published / "images").rglob("102.jpg")).unlink()
    clip = write_clip("resnet", tmp_path / "clip_tiny")
    with pytest.raises(InputError, match=r"102\.jpg is missing"):
        simat_lab(published, clip)
