"""Is the compressed index good and quick enough, and does Retrieval answer a slider in time.

    python -m pipelines.benchmarks retrieval [--n 500] [--vectors 1000000] [--json FILE]

The vectors are synthetic: unit vectors around random centres, with the CLIPs' 128 dimensions, n of
them held out as queries. Recall at 10 is against exact search. Times are processor time of one
thread, which other programs on the machine do not change; `slider` is one move of the slider on the
shipped set, pictures decoded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import faiss
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.benchmarks.report import Report, parser
from pipelines.models.retrieval_index import TRAINED_ON, VectorIndex

DIM, K = 128, 10
CENTRES, SPREAD = 4000, 0.07
CHUNK = 50_000
RECALL, QUERY_MS, SLIDER_MS = 0.95, 5.0, 100.0
SCALES = tuple(i / 10 for i in range(1, 31))


def clustered(count: int, seed: int) -> Iterator[Tensor]:
    """Yield `count` unit vectors (N, DIM) in chunks; each lies near one of CENTRES points."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(CENTRES, DIM, generator=generator), dim=1)
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        near = centres[torch.randint(CENTRES, (size,), generator=generator)]
        yield F.normalize(near + SPREAD * torch.randn(size, DIM, generator=generator), dim=1)


def recall(found: Tensor, exact: Tensor) -> list[float]:
    """Return for every query the share of its exact neighbours (B, k) that were found."""
    both = zip(found.tolist(), exact.tolist(), strict=True)
    return [len(set(mine) & set(true)) / len(true) for mine, true in both]


def timed_ms(call: Callable[[], object]) -> float:
    """Return the milliseconds of processor time that a call takes."""
    started = time.process_time()
    call()
    return 1000 * (time.process_time() - started)


def measure_index(report: Report, n: int, vectors: int, seed: int) -> None:
    """Record build time, size, recall and time of both indices."""
    everything = torch.cat(list(clustered(vectors + n, seed)))
    database, queries = everything[:-n], everything[-n:]
    sample = database[: TRAINED_ON * 2048]
    made: list[VectorIndex] = []

    def build() -> None:
        made.append(VectorIndex.compressed(sample, vectors))
        for part in database.split(CHUNK):
            made[0].add(part)

    setting = f"{vectors} vectors, {DIM} dimensions"
    report.add("build_s", "compressed", timed_ms(build) / 1000, setting=setting)
    exact = VectorIndex.exact(database)
    rows = {"exact": exact.search(queries, K)[1]}
    with tempfile.TemporaryDirectory() as folder:
        made[0].save(Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        report.add("size_mib", "compressed", size / 2**20, setting=setting)
        mapped = VectorIndex.load(Path(folder))
        rows["compressed"] = mapped.search(queries, K)[1]
        scores = recall(rows["compressed"], rows["exact"])
        found = report.add("recall_at_10", "compressed", scores, setting=setting)
        spent = [timed_ms(lambda q=q: mapped.search(q[None], K)) for q in queries]
    query_ms = report.add("query_ms", "compressed", spent, setting=setting)
    some = [timed_ms(lambda q=q: exact.search(q[None], K)) for q in queries[:20]]
    report.add("query_ms", "exact", some, setting=setting)
    report.claim(
        f"the compressed index finds {RECALL:.0%} of the exact ten of a million in {QUERY_MS:g} ms",
        found >= RECALL and query_ms <= QUERY_MS,
        f"recall {found:.3f} in {query_ms:.2f} ms a query, {vectors} vectors",
    )


def measure_slider(report: Report) -> None:
    """Record how long an answer takes while the slider moves, once everything is loaded."""
    from pipelines import gallery, leases, packs
    from pipelines.jobs import Gate
    from pipelines.memo import Memo
    from pipelines.model_cache import ModelCache
    from pipelines.visits import Session
    from pipelines.workbench import Services

    pack = packs.find("toybox")
    cache = ModelCache(2**30, packs.LOADERS)
    services = Services(cache, Memo(2**26), Gate(), pack, lambda image, name: name)
    one, picture = gallery.examples(services)[0]
    session = Session()
    gallery.from_set(services, session, one.row)
    query = gallery.query_of(session, picture)
    role, words = leases.encoders(pack)[0], (one.value, one.target)

    def move(scale: float) -> None:
        gallery.look(services, query, words, {"scale": scale, "k": K}, role)

    move(1.0)
    spent = [timed_ms(lambda s=s: move(s)) for s in SCALES]
    report.add("slider_ms", "retrieval", spent, setting=f"shipped set, {K} results")
    worst, usual = max(spent), statistics.median(spent)
    report.claim(
        f"Retrieval answers a move of the slider in less than {SLIDER_MS:g} ms",
        worst < SLIDER_MS,
        f"median {usual:.1f} ms, worst {worst:.1f} ms of {len(spent)}",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the index, then the slider."""
    options = parser(__doc__, n=500)
    options.add_argument("--vectors", type=int, default=1_000_000)
    options.add_argument("--only", choices=("index", "slider"), help="one part alone")
    args = options.parse_args(argv)
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    report = Report("retrieval", seed=args.seed, path=args.json)
    if args.only != "slider":
        measure_index(report, args.n, args.vectors, args.seed)
    if args.only != "index":
        measure_slider(report)


if __name__ == "__main__":
    main()
