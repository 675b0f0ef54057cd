"""Records of a benchmark: printed as they come, written as JSON lines (DESIGN, section 6)."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = ("benchmark", "metric", "method", "setting", "claim")
"""What a record is known by: one of a later run takes its place."""


def parser(description: str | None, *, n: int) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark takes."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--n", type=int, default=n, help="fresh held-out queries")
    options.add_argument("--seed", type=int, default=0, help="draws the queries")
    options.add_argument("--json", type=Path, help="write the records here, one a line")
    return options


class Report:
    """Collects the records of one run; the file has all so far whenever it is cut short.

    With `append` it goes on with the records of the file: what is measured anew replaces its old
    value.
    """

    def __init__(
        self, benchmark: str, *, seed: int, path: Path | None = None, append: bool = False
    ) -> None:
        self.benchmark, self.seed, self.path = benchmark, seed, path
        known = path.read_text().splitlines() if append and path and path.exists() else []
        self.earlier: list[dict[str, Any]] = [json.loads(line) for line in known]
        self.records: list[dict[str, Any]] = []
        self.provenance: dict[str, Any] = {"commit": commit()}

    def value(self, metric: str, method: str, setting: str = "") -> float | None:
        """Return a value that was recorded; None where it was not."""
        names = {"metric": metric, "method": method, "setting": setting}
        known = [*self.earlier, *self.records]
        return next((r["value"] for r in known if names.items() <= r.items()), None)

    def add(
        self,
        metric: str,
        method: str,
        values: Sequence[float] | float,
        *,
        setting: str = "",
        n: int | None = None,
        spread: float | None = None,
    ) -> float:
        """Record the mean of `values` with its standard error, or one value; return it.

        `n` and `spread` must be given with a single value that sums up many.
        """
        if isinstance(values, int | float):
            value, n = float(values), n or 1
        else:
            value, n = statistics.fmean(values), len(values)
            spread = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
        self._keep(
            {
                "benchmark": self.benchmark,
                "metric": metric,
                "method": method,
                "setting": setting,
                "value": round(value, 5),
                "n": n,
                "seed": self.seed,
                "spread": None if spread is None else round(spread, 5),
            }
        )
        error = "" if spread is None else f" ± {spread:.3f}"
        print(f"{metric:24} {method:22} {setting:38} {value:9.4f}{error}  (n = {n})", flush=True)
        return value

    def claim(self, claim: str, holds: bool, evidence: str) -> None:
        """Record whether a paper's conclusion holds here, and the numbers that say so."""
        self._keep(
            {
                "benchmark": self.benchmark,
                "claim": claim,
                "holds": bool(holds),
                "evidence": evidence,
            }
        )
        print(f"{'HOLDS' if holds else 'DOES NOT HOLD'}: {claim} ({evidence})", flush=True)

    def _keep(self, record: dict[str, Any]) -> None:
        names = {key: record[key] for key in NAMES if key in record}
        self.earlier = [old for old in self.earlier if not names.items() <= old.items()]
        self.records.append(record)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            records = [*self.earlier, *({**one, **self.provenance} for one in self.records)]
            self.path.write_text("".join(json.dumps(one) + "\n" for one in records))


def commit() -> str:
    """Return the short hash of the checked-out commit, "unknown" outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
