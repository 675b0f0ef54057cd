"""The one process-wide object: which models are loaded, who uses them, and what has to go."""

from __future__ import annotations

import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pipelines import devices
from pipelines.devices import Device
from pipelines.errors import Cancelled, OutOfMemory
from pipelines.packs import Component, Loader, Pack, find
from pipelines.results import OnStep

R = TypeVar("R")

_NO_MEMORY = (
    "This machine has too little free memory for that, even after unloading every idle model. "
    "Choose fewer methods, fewer maps or a smaller model pack, or try again when others are done."
)


@dataclass(frozen=True)
class CacheEntry:
    """One model as the app shows it.

    Attributes:
        name: "pack/role".
        state: "loading", "ready" (idle, may be evicted) or "leased".
        leases: jobs that use it, or wait for it, now.
        device: "cpu", "cuda" or "mps", and whether its networks take turns there; "" while loading.
        nbytes: memory of its weights; 0 while loading.
        load_s: seconds that loading took; 0 while loading.
    """

    name: str
    state: Literal["loading", "ready", "leased"]
    leases: int
    device: str
    nbytes: int
    load_s: float


@dataclass(eq=False)
class _Entry:
    name: str
    model: Future[Any] = field(default_factory=Future)
    leases: int = 0
    device: str = ""
    nbytes: int = 0
    load_s: float = 0.0

    def snapshot(self) -> CacheEntry:
        held: Literal["ready", "leased"] = "leased" if self.leases else "ready"
        state = held if self.model.done() else "loading"
        return CacheEntry(
            self.name, state, self.leases, self.device, self.nbytes, round(self.load_s, 3)
        )


class ModelCache:
    """Models loaded on demand, shared between threads, evicted by bytes; thread-safe.

    Single flight: however many threads ask for a model that is not there, one loads it and all
    get that one, or the same error; a failed load leaves nothing behind, so it can be tried again.
    A leased model is never evicted. Idle models beyond the budget go, least recently used first;
    the only model there stays even above the budget, or every job would load it anew.

    Args:
        budget_bytes: memory that weights may take, leased ones included.
        loaders: one for each component kind (`packs.LOADERS`).
        device: where models are loaded; None = `devices.pick()` at the first load.
        packs: where components come from; None = `packs.PACKS`.
    """

    def __init__(
        self,
        budget_bytes: int,
        loaders: Mapping[str, Loader],
        *,
        device: Device | None = None,
        packs: Mapping[str, Pack] | None = None,
    ) -> None:
        if budget_bytes <= 0:
            raise ValueError(f"budget_bytes must be positive, got {budget_bytes}")
        self._budget_bytes = budget_bytes
        self._loaders = dict(loaders)
        self._device = device
        self._packs = packs
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, pack_name: str, role: str, on_step: OnStep | None = None) -> Iterator[Any]:
        """Hold the model with that role in a pack for the length of a `with` block.

        Loads it first if need be; `on_step` is told about its download and may stop it. Change
        nothing on it: others use the same object.

        Raises:
            InputError: no such pack or role, or the files cannot be had.
            Cancelled: `on_step` stopped the download.
            OutOfMemory: it does not fit, even with every idle model evicted.
        """
        component = find(pack_name, self._packs).component(role)
        entry = self._pinned(f"{pack_name}/{role}", component, on_step)
        try:
            yield entry.model.result()
        finally:
            self._unpin(entry)

    def state(self) -> tuple[CacheEntry, ...]:
        """Return what is loaded or loading, most recently used last."""
        with self._lock:
            return tuple(entry.snapshot() for entry in self._entries.values())

    @property
    def device(self) -> Device | None:
        """Where models are loaded; None before the first one where it was not given."""
        return self._device

    def evict_idle(self) -> int:
        """Let every idle model go; return how many went."""
        with self._lock:
            idle = [name for name, entry in self._entries.items() if not entry.leases]
            for name in idle:
                del self._entries[name]
        devices.release_memory()
        return len(idle)

    def retry_on_out_of_memory(self, function: Callable[[], R]) -> R:
        """Return `function()`; if memory runs out, evict every idle model and call it once more.

        Raises:
            OutOfMemory: it ran out again.
        """
        try:
            return function()
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled it
        self.evict_idle()
        try:
            return function()
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            raise OutOfMemory(_NO_MEMORY) from error

    def _pinned(self, name: str, component: Component, on_step: OnStep | None) -> _Entry:
        """Return the entry, leased and loaded, or failed with an error that is the caller's own."""
        while True:
            entry, is_first = self._pin(name)
            if is_first:
                self._load(entry, component, on_step)
            if is_first or not isinstance(entry.model.exception(), Cancelled):
                return entry
            self._unpin(entry)  # another visitor stopped the download; this one did not

    def _pin(self, name: str) -> tuple[_Entry, bool]:
        """Count one more lease; tell whether the caller is the one who must load."""
        with self._lock:
            is_first = name not in self._entries
            if is_first:
                self._entries[name] = _Entry(name)
            entry = self._entries[name]
            self._entries.move_to_end(name)
            entry.leases += 1
            return entry, is_first

    def _unpin(self, entry: _Entry) -> None:
        with self._lock:
            entry.leases -= 1
            if self._entries.get(entry.name) is entry:
                self._entries.move_to_end(entry.name)
        self._keep_to_budget()

    def _load(self, entry: _Entry, component: Component, on_step: OnStep | None) -> None:
        """Fill the entry's future with the model or with the error, for all who wait on it."""
        started_s = time.monotonic()
        try:
            loader = self._loaders[component.kind]
            device = self._device or devices.pick()
            model = self.retry_on_out_of_memory(lambda: component.load(loader, device, on_step))
            nbytes = int(model.nbytes)
        except BaseException as error:  # an interrupt too, or the waiting threads wait for ever
            with self._lock:
                del self._entries[entry.name]
            entry.model.set_exception(error)
            return
        with self._lock:
            self._device = device
            turns = ", one network at a time" if getattr(model, "is_offloaded", False) else ""
            entry.device, entry.nbytes = device.name + turns, nbytes
            entry.load_s = time.monotonic() - started_s
            entry.model.set_result(model)
        self._keep_to_budget()

    def _keep_to_budget(self) -> None:
        with self._lock:
            surplus = self._surplus()
            for name in surplus:
                del self._entries[name]
        if surplus:
            devices.release_memory()

    def _surplus(self) -> list[str]:
        """Return the idle models to evict, oldest first, so that the rest fits or one is left."""
        used_bytes = sum(entry.nbytes for entry in self._entries.values())
        surplus: list[str] = []
        for name, entry in self._entries.items():
            fits = used_bytes <= self._budget_bytes
            if fits or len(self._entries) - len(surplus) == 1:
                break
            if not entry.leases:
                used_bytes -= entry.nbytes
                surplus.append(name)
        return surplus
