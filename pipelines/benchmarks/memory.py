"""Peak memory of a benchmark's own process, or of the GPU that it uses."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from pipelines.devices import Device


def peak_mib(device: Device) -> float:
    """Return the peak memory since it was last asked: of the GPU, or of the process on a CPU."""
    if device.name == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return peak
    told = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert told is not None
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak
    return int(told[1]) / 2**10
