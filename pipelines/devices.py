"""Which device and number format to compute in, and what running out of memory looks like.

Decisions are pure functions of facts, so that they can be tested for machines that are not here.
torch is imported when a function needs it, never with this module.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import InputError

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
_CPU_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_FOR_ACTIVATIONS = 0.25  # of a GPU: Stable Diffusion XL holds 2 GB beside 7 GB of weights
_OUT_OF_MEMORY = (  # RuntimeErrors without a class of their own
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory",  # the same allocator on Windows
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class Device:
    """Where models live. `dtype` is the format of weights and activations in networks."""

    name: str
    torch_device: torch.device
    dtype: torch.dtype


def pick(environ: Mapping[str, str] | None = None) -> Device:
    """Return the best device here; SEMEDIT_DEVICE and SEMEDIT_DTYPE override it.

    Raises:
        InputError: an override names a device or format that does not exist here.
    """
    import torch

    environ = os.environ if environ is None else environ
    name = choose_device(
        environ.get("SEMEDIT_DEVICE", ""),
        cuda=torch.cuda.is_available(),
        mps=torch.backends.mps.is_available(),
    )
    dtype = environ.get("SEMEDIT_DTYPE", "") or choose_dtype(
        name,
        cuda_capability=torch.cuda.get_device_capability() if name == "cuda" else None,
        cpu_flags=this_cpu_flags(),
    )
    if dtype not in DTYPES:
        raise InputError(f"SEMEDIT_DTYPE must be one of: {', '.join(DTYPES)}.")
    return Device(name, torch.device(name), getattr(torch, dtype))


def choose_device(requested: str, *, cuda: bool, mps: bool) -> str:
    """Return the device to use given what is asked for ("" = the best) and what is there.

    Raises:
        InputError: the requested device is unknown or absent.
    """
    present = {"cuda": cuda, "mps": mps, "cpu": True}
    if not requested:
        return next(name for name, there in present.items() if there)
    if not present.get(requested, False):
        there = ", ".join(name for name in DEVICES if present[name])
        raise InputError(f"SEMEDIT_DEVICE must be a device of this machine: {there}.")
    return requested


def choose_dtype(
    device_type: str, cuda_capability: tuple[int, int] | None, cpu_flags: frozenset[str]
) -> str:
    """Return the name of the fastest harmless format.

    bfloat16 needs instructions of its own: without them a CPU emulates it and is slower than in
    float32, and GPUs before capability 8.0 report support that they emulate.
    """
    if device_type == "cuda":
        return "bfloat16" if cuda_capability and cuda_capability >= (8, 0) else "float16"
    if device_type == "cpu" and cpu_flags & _CPU_BF16:
        return "bfloat16"
    return "float32"


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the instruction sets in the text of Linux's /proc/cpuinfo; empty if it has none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception, of Python or of any torch backend, means too little memory."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def must_offload(
    name: str, weights_bytes: int, free_bytes: int, environ: Mapping[str, str] | None = None
) -> bool:
    """Return whether networks have to take turns on a GPU: together they would fill it.

    SEMEDIT_OFFLOAD, "on" or "off", overrides; on other devices there is nothing to gain.

    Raises:
        InputError: the override is neither.
    """
    wish = (os.environ if environ is None else environ).get("SEMEDIT_OFFLOAD", "")
    if wish not in ("", "on", "off"):
        raise InputError("SEMEDIT_OFFLOAD must be on or off.")
    if name != "cuda" or wish:
        return name == "cuda" and wish == "on"
    return weights_bytes > (1 - _FOR_ACTIVATIONS) * free_bytes


def free_bytes(device: Device | None) -> int:
    """Return the memory that is free where models are loaded; 0 where nobody tells.

    Before a device is known, and on a CPU or MPS, that of the machine (Linux's MemAvailable).
    """
    if device is not None and device.name == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device.torch_device)[0])
    meminfo = Path("/proc/meminfo")
    return parse_available(meminfo.read_text()) if meminfo.is_file() else 0


def parse_available(meminfo: str) -> int:
    """Return MemAvailable in bytes from the text of Linux's /proc/meminfo; 0 if it has none."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.M)
    return int(found[1]) * 1024 if found else 0


def release_memory() -> None:
    """Give unreferenced memory back, that which torch keeps for later use included."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def this_cpu_flags() -> frozenset[str]:
    """Return the instruction sets of this machine's CPU; empty where Linux does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    return parse_cpu_flags(cpuinfo.read_text()) if cpuinfo.is_file() else frozenset()
