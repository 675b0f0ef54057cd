import json

import pytest

from pipelines.benchmarks import tables
from pipelines.benchmarks.report import Report


@pytest.mark.parametrize(("file", "name", "table"), tables.TABLES)
def test_written_tables_are_those_of_the_records(file, name, table):
    text = (tables.ROOT / file).read_text()
    assert tables.filled(text, name, table()) == text, "run: python -m pipelines.benchmarks tables"


def test_report_gives_mean_and_standard_error(tmp_path, capsys):
    report = Report("demo", seed=3, path=tmp_path / "demo.jsonl")
    assert report.add("success", "ours", [1.0, 0.0, 1.0, 0.0]) == 0.5
    report.claim("ours is best", False, "0.5 against 0.6")
    first, second = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert (first["value"], first["n"], first["seed"]) == (0.5, 4, 3)
    assert first["spread"] == pytest.approx((1 / 3) ** 0.5 / 2, abs=1e-4)
    assert second["holds"] is False
    records = tables.read("demo", tmp_path)
    assert "0.500 ± 0.289" in tables.measurements(records)
    assert "**no**" in tables.claims(records)


def test_a_missing_place_is_named():
    with pytest.raises(ValueError, match="numbers"):
        tables.filled("no place here", "numbers", "table")
