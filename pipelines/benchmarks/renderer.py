"""Images a second of the toy-scene renderer on one core, at 128 px with antialiasing.

    python -m pipelines.benchmarks renderer [--n 200] [--seed 0] [--json FILE]

The renderer runs on the calling thread alone and is timed in seconds of that thread on a core, so
that other work on the machine does not count. Compiling (once a machine, then cached on disk) is
left out; sampling a scene, with its checks of what can be seen, is measured apart.
"""

from __future__ import annotations

import statistics
import time

from pipelines.benchmarks.report import Report, parser
from pipelines.data.scenes import outlines, render, sample_scene

SIZE_PX = 128
TARGET_IMAGES_S = 40.0


def main(argv: list[str]) -> None:
    """Print and record images/s, and milliseconds a scene: median, p90, sampling."""
    options = parser(__doc__, n=200).parse_args(argv)
    report = Report("renderer", seed=options.seed, path=options.json)
    render(sample_scene(options.seed))  # compile
    sampling_s, render_s = [], []
    for seed in range(options.seed, options.seed + options.n):
        start = time.thread_time()
        scene = sample_scene(seed)
        sampled = time.thread_time()
        render(scene, SIZE_PX)
        sampling_s.append(sampled - start)
        render_s.append(time.thread_time() - sampled)
    start = time.thread_time()
    outlines(scene)
    outlines_s = time.thread_time() - start
    setting = f"{SIZE_PX} px, one core"
    images_s = len(render_s) / sum(render_s)
    report.add("images_per_second", "ours", images_s, setting=setting, n=options.n)
    ordered = sorted(1e3 * seconds for seconds in render_s)
    median, p90 = statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))]
    report.add("render_ms_median", "ours", median, setting=setting, n=options.n)
    report.add("render_ms_p90", "ours", p90, setting=setting, n=options.n)
    report.add("sample_scene_ms", "ours", [1e3 * s for s in sampling_s], setting=setting)
    report.add("outlines_ms", "ours", 1e3 * outlines_s, setting="48 px, labels only")
    report.claim(
        f"at least {TARGET_IMAGES_S:.0f} images/s on one core",
        images_s >= TARGET_IMAGES_S,
        f"{images_s:.1f} images/s, n = {options.n}",
    )
