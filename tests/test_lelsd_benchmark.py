"""The script and the benchmark of LELSD on tiny untrained networks."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_pack import CPU

from pipelines import directions
from pipelines import lelsd as method
from pipelines.benchmarks import lelsd as benchmark
from pipelines.directions import calibrated, load, lpips_strengths
from pipelines.models.direction_set import DirectionSet
from pipelines.models.perceptual import stored, untrained
from pipelines.models.stylegan2 import StyleGAN2, StyleGAN2Config
from pipelines.training import lelsd_directions, segmentation


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        StyleGAN2(StyleGAN2Config((6, 6, 6, 4), z_dim=5, w_dim=6, mapping_layers=2)).save(
            folder / "generator"
        )
        (folder / "generator" / "training.json").write_text('{"warm_start": true}')
        network = segmentation.untrained(("hair", "lips"), stride=4)
        # hair everywhere, lips nowhere
        head = network.decode_head.classifier
        head.weight.data.zero_()
        head.bias.data.copy_(torch.tensor([0.0, 1.0, 0.5]))
        network.save_pretrained(folder / "parser")
        perceptual = untrained("squeeze")
        for lin in perceptual.lins:
            torch.nn.init.constant_(lin.model[-1].weight, 0.2)
        (folder / "lpips").mkdir()
        (folder / "lpips" / "config.json").write_text(json.dumps({"net": "squeeze"}))
        save_file(stored(perceptual), folder / "lpips" / "model.safetensors")
    return folder


def arguments(folders, *more):
    networks = [(f"--{name}", str(folders / name)) for name in ("generator", "parser", "lpips")]
    return [word for pair in networks for word in pair] + ["--device", "cpu", *more]


def test_directions_are_trained_resumed_and_scaled(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(method, "BATCHES", 3)
    out = tmp_path / "lelsd"
    lelsd_directions.main(arguments(folders, "--out", str(out), "--directions", "2"))
    assert {file.name for file in out.iterdir()} == {
        "hair_0.safetensors", "hair_1.safetensors", "training.json",
    }  # fmt: skip
    assert "left out: No picture showed the part “lips”" in capsys.readouterr().out
    told = json.loads((out / "training.json").read_text())
    assert told["warm_start"] is True
    assert told["seconds"]["hair"] > 0
    direction = load(out / "hair_0.safetensors")
    assert direction.generator == told["generator"]
    before = (out / "hair_1.safetensors").stat().st_mtime_ns
    (out / "hair_0.safetensors").write_text("damaged")
    lelsd_directions.main(arguments(folders, "--out", str(out), "--parts", "hair"))
    again = load(out / "hair_0.safetensors")
    assert (out / "hair_1.safetensors").stat().st_mtime_ns == before
    assert not torch.equal(again.vectors[0], direction.vectors[0])  # alone, not one of two
    stamp = (out / "hair_0.safetensors").stat().st_mtime_ns
    lelsd_directions.main(arguments(folders, "--out", str(out), "--parts", "hair"))
    assert (out / "hair_0.safetensors").stat().st_mtime_ns == stamp


def test_baselines_stand_beside_the_directions_of_the_same_parts(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "BATCHES", 3)
    out = tmp_path / "lelsd"
    lelsd_directions.main(arguments(folders, "--out", str(out)))
    given = arguments(folders, "--out", str(out), "--baselines", "--pictures", "1")
    lelsd_directions.main(given)
    found = DirectionSet.from_folder(out, CPU)
    assert set(found) == {f"hair_{name}" for name in ("0", *benchmark.BASELINES)}
    assert {one.method for one in found.values()} == {"lelsd", *benchmark.BASELINES}
    assert found.nbytes == sum(v.nbytes for one in found.values() for v in one.vectors)
    stamp = (out / "hair_random.safetensors").stat().st_mtime_ns
    lelsd_directions.main(given)
    assert (out / "hair_random.safetensors").stat().st_mtime_ns == stamp


def test_a_strength_of_1_is_the_unit_distance(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "BATCHES", 3)
    monkeypatch.setattr(directions, "UNIT_LPIPS", 1e-3)
    given = arguments(folders, "--directions", str(tmp_path))
    options = benchmark.options(None).parse_args(given)
    models = lelsd_directions.open_models(options)
    raw = benchmark.found_by(options, models, ["hair"], "lelsd")["hair"]
    direction = calibrated(raw, models.generator, models.perceptual, seed=0)
    codes = models.generator.draw("w+", range(8))
    signs = torch.tensor([1.0, -1.0] * 4)
    strengths = lpips_strengths(direction, models.generator, models.perceptual, codes, 1e-3, signs)
    assert strengths.abs().median().item() == pytest.approx(1, rel=0.5)
    assert (strengths.sign() == signs).all()


def test_the_benchmark_compares_all_methods(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "BATCHES", 3)
    monkeypatch.setattr(benchmark, "TARGETS", (1e-3, 2e-3))
    monkeypatch.setattr(benchmark, "PATIENCE", 2)
    out = tmp_path / "lelsd.jsonl"
    benchmark.main(
        arguments(
            folders,
            "--n",
            "2",
            "--pictures",
            "2",
            "--json",
            str(out),
            "--directions",
            str(tmp_path),
        )
    )
    records = [json.loads(line) for line in out.read_text().splitlines()]
    values = [r for r in records if "metric" in r]
    methods = {"lelsd", "stylespace", "first_order", "random"}
    for metric in ("localization_score", "leakage"):
        seen = [
            r for r in values if r["metric"] == metric and r["setting"].startswith("hair, LPIPS")
        ]
        assert {r["method"] for r in seen} == methods
        assert all(0 <= r["value"] <= 1 for r in seen)
    # the mask is the whole picture: all of the change is inside
    assert all(r["value"] < 1e-4 for r in values if r["metric"] == "leakage")
    assert {"reached", "seconds", "similarity"} <= {r["metric"] for r in values}
    assert all("warm-started" in r["generator"] for r in records)
    assert {r["claim"].split()[0] for r in records if "claim" in r} >= {"LELSD", "A", "Two"}
