import json

import pytest
import torch
from torch.nn import functional as F

from pipelines.benchmarks import retrieval
from pipelines.models.retrieval_index import VectorIndex


def clustered(count, dim=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(40, dim, generator=generator), dim=1)
    near = centres[torch.randint(40, (count,), generator=generator)]
    return F.normalize(near + 0.1 * torch.randn(count, dim, generator=generator), dim=1)


def recall(found, exact):
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return sum(len(set(a) & set(b)) for a, b in pairs) / exact.numel()


def test_exact_is_sorting_by_inner_product(tmp_path):
    vectors, queries = clustered(300), 2 * clustered(20, seed=1)
    index = VectorIndex.exact(vectors)
    scores, rows = index.search(queries, 7)
    expected = (queries @ vectors.T).topk(7)
    assert torch.equal(rows, expected.indices)
    torch.testing.assert_close(scores, expected.values)
    index.save(tmp_path)
    again = VectorIndex.load(tmp_path)
    assert (len(again), again.dim, again.kind) == (300, 32, "exact")
    assert torch.equal(again.search(queries, 7)[1], rows)


def test_compressed_finds_nearly_the_same_from_a_quarter_of_the_bytes(tmp_path):
    vectors, queries = clustered(6000), clustered(50, seed=1)
    index = VectorIndex.compressed(vectors, len(vectors))
    for part in vectors.split(1000):
        index.add(part)
    exact = (queries @ vectors.T).topk(10).indices
    rows = index.search(queries, 10)[1]
    assert recall(rows, exact) > 0.9
    index.save(tmp_path)
    assert (tmp_path / "vectors.faiss").stat().st_size < 0.4 * vectors.numel() * 4
    mapped = VectorIndex.load(tmp_path)
    assert torch.equal(mapped.search(queries, 10)[1], rows)


def test_the_benchmark_measures_recall_and_time(tmp_path, capsys):
    threads = torch.get_num_threads()
    path = tmp_path / "records.jsonl"
    try:
        retrieval.main(["--only", "index", "--n", "20", "--vectors", "4000", "--json", str(path)])
    finally:
        torch.set_num_threads(threads)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    values = {(r["metric"], r["method"]): r["value"] for r in records if "metric" in r}
    assert 0.3 < values["recall_at_10", "compressed"] <= 1
    assert values["size_mib", "compressed"] < 4000 * 128 * 4 / 2**20
    assert ("query_ms", "exact") in values


@pytest.mark.parametrize("count", [50, 500])
def test_a_small_sample_makes_a_small_index(count):
    vectors = clustered(count)
    index = VectorIndex.compressed(vectors, 1_000_000)
    index.add(vectors)
    assert index.search(vectors, 1)[1].flatten().tolist().count(-1) == 0
