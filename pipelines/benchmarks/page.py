"""Start the app in a process of its own: seconds until it answers, memory idle and after edits.

    python -m pipelines.benchmarks page [--n 3] [--json FILE]

Each of the n starts waits for HTTP 200, reads the resident memory, makes one DiffEdit of an example
through the API, and reads it again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from gradio_client import Client, handle_file

from pipelines.benchmarks.report import Report, parser
from pipelines.examples import FOLDER

APP = Path(__file__).parents[2] / "app.py"
PATIENCE_S = 300.0
MIB = 2**20


@contextmanager
def served() -> Iterator[tuple[psutil.Process, str, float]]:
    """Yield the app's process, its address, and the seconds from start to HTTP 200."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(APP)],
        env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        while not _answers(address):
            if process.poll() is not None or time.perf_counter() - started > PATIENCE_S:
                raise RuntimeError(f"{APP} does not start: run it by hand to see why")
            time.sleep(0.02)
        yield psutil.Process(process.pid), address, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def main(argv: Sequence[str] | None = None) -> None:
    """Record seconds to HTTP 200 and resident memory, with the bounds they must keep."""
    args = parser(__doc__, n=3).parse_args(argv)
    report = Report("page", seed=args.seed, path=args.json)
    rows = []
    for seed in range(args.seed, args.seed + args.n):
        with served() as (process, address, seconds):
            idle = process.memory_info().rss / MIB
            Client(address, verbose=False).predict(
                image=handle_file(FOLDER / "horse-to-zebra.png"),
                source_text="a horse on the grass",
                target_text="a zebra on the grass",
                method="diffedit",
                seed=seed,
                parameters={},
                api_name="/edit",
            )
            rows.append((seconds, idle, process.memory_info().rss / MIB))
    names = ("seconds_to_http_200", "idle_mib", "after_edit_mib")
    claims = ("answers within {:g} s of its start", "idles below {:g} MiB", "stays below {:g} MiB")
    for name, claim, bound, values in zip(
        names, claims, (10.0, 400.0, 1536.0), zip(*rows, strict=True), strict=True
    ):
        report.add(name, "app", values)
        worst = max(values)
        report.claim(f"the app {claim.format(bound)}", worst <= bound, f"worst {worst:.1f}")
