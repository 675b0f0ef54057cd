"""The benchmark of published sizes: its memory is measured anew for every method."""

import json

import numpy as np
import pytest
from tiny_pack import CPU

from pipelines.benchmarks import photo


def test_the_peak_is_forgotten_once_it_was_told():
    photo.peak_mib(CPU)
    before = photo.peak_mib(CPU)
    held = np.ones(2**25)  # 256 MiB
    assert photo.peak_mib(CPU) > before + 200
    del held
    photo.peak_mib(CPU)
    assert photo.peak_mib(CPU) < before + 100


@pytest.mark.slow
def test_every_method_runs_and_is_recorded(tmp_path):
    path = tmp_path / "photo.jsonl"
    given = ["--shape", "tiny", "--no-warm-up", "--steps", "2", "--json", str(path)]
    photo.main([*given, "--methods", *photo.EDITS, *photo.PAINTS])
    photo.main([*given, "--append", "--methods", "flexit", "--clips", "RN50-quickgelu"])
    records = [json.loads(line) for line in path.read_text().splitlines()]
    seen = {one["method"] for one in records if one.get("metric") == "peak_mib"}
    assert seen == set(photo.ALL)
    assert records[-1]["holds"] and "16 GiB" in records[-1]["claim"]
    assert "the most of 11" in records[-1]["evidence"]
    assert any("1 CLIPs" in one["setting"] for one in records if one.get("method") == "flexit")
    assert len([one for one in records if "claim" in one]) == 1
