"""What a run will take, said before it: memory and time on this machine.

Time is work (see `costs`) times the seconds that one unit of it took here, in this process; before
anything has run there is no such number, and none is made up.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import devices, hub, leases, params, weights
from pipelines.costs import Cost
from pipelines.devices import Device
from pipelines.model_cache import ModelCache
from pipelines.packs import Component, Pack
from pipelines.registry import Method

FORWARD, BACKWARD = 8_400, 165_000
"""Numbers held at once for each cell of the latents and sample of a UNet call, without gradient and
with; `benchmarks activations` counts 8,335 and 97,653 (SD 1.5), 5,050 and 163,590 (XL)."""
DECODER, DECODER_BACKWARD = 770, 5_900
"""The same for each pixel of one picture in the autoencoder (counted: 768 and 5,819)."""
HEADS, FINEST = 8, 96
"""Attention heads, and the side up to which the latents' own grid has self-attention."""
_ANY_UNET = ""


@dataclass(frozen=True)
class Estimate:
    """What one click on Run will take, at the most.

    Attributes:
        evaluations, descents: see `costs.Cost`, over all methods.
        seconds: None where nothing like it was measured yet.
        weights_bytes: of all models in use, in the number format of the device once it is known,
            as stored before.
        activations_bytes: what the most demanding method holds beside them.
        free_bytes: what the device has free now, loaded models not counted; 0 if nobody tells.
    """

    evaluations: int
    descents: int
    seconds: float | None
    weights_bytes: int
    activations_bytes: int
    free_bytes: int


class Meter:
    """Seconds for one unit of work, by pack and method, as last seen here; thread-safe."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def note(
        self,
        pack_name: str,
        method: Method,
        values: Mapping[str, object],
        evaluations: int,
        seconds: float,
    ) -> None:
        """Remember what a run with these parameters took; `evaluations` is what it counted."""
        planned = method.cost_of(params.build(method.load_params(), values), False, 1)
        work = evaluations or planned.descents
        if work:
            names = (method.name, _ANY_UNET) if evaluations else (method.name,)
            with self._lock:
                self._rates |= {(pack_name, name): seconds / work for name in names}

    def seconds(self, pack_name: str, method: Method, cost: Cost) -> float | None:
        """Return how long a method will take; None where nothing like it ran yet.

        A method that has not run goes by the rate of the last one that called the same UNet.
        """
        with self._lock:
            rate = self._rates.get((pack_name, method.name))
            if rate is None and cost.evaluations:
                rate = self._rates.get((pack_name, _ANY_UNET))
        if not cost.work:
            return 0.0
        return None if rate is None else rate * cost.work


def estimate(
    cache: ModelCache,
    pack: Pack,
    meter: Meter,
    chosen: Sequence[tuple[Method, Mapping[str, object]]],
    *,
    is_masked: bool = False,
    regions: int = 1,
) -> Estimate:
    """Return what the chosen methods with their parameters will take, one after the other.

    Raises:
        InputError: a parameter cannot be used, or a model's files are damaged.
    """
    costs = [
        (method, method.cost_of(params.build(method.load_params(), values), is_masked, regions))
        for method, values in chosen
    ]
    times = [meter.seconds(pack.name, method, cost) for method, cost in costs]
    used = (role for method, values in chosen for role in leases.roles_of(pack, method, values))
    roles = dict.fromkeys(used)
    known = cache.device
    loaded = {e.name: e.nbytes for e in cache.state() if e.nbytes}
    sizes = {role: weights_bytes(pack.component(role), known) for role in roles}
    here = sum(loaded.get(f"{pack.name}/{role}", 0) for role in roles)
    return Estimate(
        evaluations=sum(cost.evaluations for _, cost in costs),
        descents=sum(cost.descents for _, cost in costs),
        seconds=None if None in times else math.fsum(one for one in times if one is not None),
        weights_bytes=sum(loaded.get(f"{pack.name}/{role}", size) for role, size in sizes.items()),
        activations_bytes=max((activations(pack, cost, known) for _, cost in costs), default=0),
        free_bytes=devices.free_bytes(known) + here,
    )


def activations(pack: Pack, cost: Cost, device: Device | None) -> int:
    """Return about how much a method holds beside the weights, in bytes."""
    side = pack.resolution_px // pack.cell_px
    calls = min(cost.batch, max(3, 65_536 // side**2))  # as `LatentDiffusion.max_batch`
    held = [calls * side**2 * FORWARD * (cost.evaluations > 0)]
    held.append(BACKWARD * side**2 if cost.gradients else 0)
    if cost.keeps_attention:
        pixels = (side if side <= FINEST else side // 2) ** 2
        held.append(2 * cost.batch * HEADS * pixels**2)
    held.append(pack.resolution_px**2 * (DECODER_BACKWARD if cost.through_decoder else DECODER))
    together = held[1] + held[-1] if cost.through_decoder else 0  # one graph through both
    return max(*held, together) * item_bytes(device)


def item_bytes(device: Device | None) -> int:
    """Return the bytes of one number in networks; float32 before the device is known."""
    return 4 if device is None else device.dtype.itemsize


def weights_bytes(component: Component, device: Device | None) -> int:
    """Return the memory of a model's weights; about, where its files are not here.

    Raises:
        InputError: a file is damaged.
    """
    parts = sum(weights_bytes(part, device) for part in component.parts.values())
    repository = component.repository
    if repository is None:
        files = list(component.locate().rglob("*.safetensors"))
    else:
        folder = hub.here(repository, component.source)
        if folder is None:
            stored = 2 if any(".fp16." in name for name in repository.files) else 4
            scale = 1.0 if device is None else device.dtype.itemsize / stored
            return round(repository.size_bytes * scale) + parts
        files = hub.weights_files(folder, repository)
    return sum(_file_bytes(path, device) for path in files) + parts


def _file_bytes(path: Path, device: Device | None) -> int:
    size_bytes = path.stat().st_size
    if device is None:
        return size_bytes
    if path.suffix != ".safetensors":  # published checkpoints are float32
        return size_bytes * device.dtype.itemsize // 4
    return _numbers(path, path.stat().st_mtime_ns) * device.dtype.itemsize


@functools.lru_cache(maxsize=256)
def _numbers(path: Path, changed_ns: int) -> int:
    """Return how many numbers a safetensors file of that age holds."""
    header = weights.check_safetensors(path)
    return sum(math.prod(entry["shape"]) for entry in header.values())
