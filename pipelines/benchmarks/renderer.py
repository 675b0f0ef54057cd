"""Images a second of the renderers on one core, at 128 px with antialiasing.

    python -m pipelines.benchmarks renderer [--n 200] [--seed 0] [--json FILE]

They run on the calling thread alone and are timed in seconds of that thread on a core, so that
other work on the machine does not count. Compiling (once a machine, then cached on disk) is left
out; sampling, which for a scene includes checks of what can be seen, is measured apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from pipelines.benchmarks.report import Report, parser
from pipelines.data.faces import render_face, sample_face
from pipelines.data.scenes import outlines, render, sample_scene

SIZE_PX = 128
TARGET_IMAGES_S = 40.0
WORLDS: dict[str, tuple[Callable[[int], Any], Callable[[Any, int], Any]]] = {
    "scene": (sample_scene, render),
    "face": (sample_face, render_face),
}


def main(argv: list[str]) -> None:
    """Print and record images/s, and milliseconds a picture: median, p90, sampling."""
    options = parser(__doc__, n=200).parse_args(argv)
    report = Report("renderer", seed=options.seed, path=options.json)
    for world in WORLDS:
        measure(report, world, options.seed, options.n)
    scene = sample_scene(options.seed)
    start = time.thread_time()
    outlines(scene)
    outlines_s = time.thread_time() - start
    report.add("outlines_ms", "ours", 1e3 * outlines_s, setting="48 px, labels only")


def measure(report: Report, world: str, seed: int, n: int) -> None:
    """Record the speed of one world over n pictures from `seed` on."""
    sample, draw = WORLDS[world]
    draw(sample(seed), SIZE_PX)  # compile
    sampling_s, render_s = [], []
    for s in range(seed, seed + n):
        start = time.thread_time()
        sampled = sample(s)
        middle = time.thread_time()
        draw(sampled, SIZE_PX)
        sampling_s.append(middle - start)
        render_s.append(time.thread_time() - middle)
    setting = f"{world}s, {SIZE_PX} px, one core"
    images_s = n / sum(render_s)
    report.add("images_per_second", "ours", images_s, setting=setting, n=n)
    ordered = sorted(1e3 * seconds for seconds in render_s)
    median, p90 = statistics.median(ordered), ordered[int(0.9 * (n - 1))]
    report.add("render_ms_median", "ours", median, setting=setting, n=n)
    report.add("render_ms_p90", "ours", p90, setting=setting, n=n)
    report.add(f"sample_{world}_ms", "ours", [1e3 * s for s in sampling_s], setting=setting)
    report.claim(
        f"at least {TARGET_IMAGES_S:.0f} {world}s a second on one core",
        images_s >= TARGET_IMAGES_S,
        f"{images_s:.1f} images/s, n = {n}",
    )
