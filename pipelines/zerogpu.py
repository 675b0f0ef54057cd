"""Jobs on ZeroGPU: the GPUs that Hugging Face lends to Spaces, a minute at a time.

There the package `spaces` forks a process with a GPU for a decorated function. Arguments and
results travel as pickles; the next call may find the same process or a fresh fork; the app's own
process never has a GPU. So models follow a policy of their own:

- What edits, masks and paintings take is loaded before the first fork, once and for good, on the
  device "cuda", whence `spaces` moves it to every fork's GPU. Nothing is fetched or loaded while a
  visitor's quota runs.
- What is light (sliders of faces, retrieval) stays in the app's own cache, on its CPU.
- Only the app's own pack is offered, the one that SEMEDIT_PACK names.

A job works on copies of its arguments, so only what it returns comes back. The cache, the memo, the
gate and the meter that its arguments name are not copied: each side has its own.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

from pipelines import packs
from pipelines.devices import Device
from pipelines.estimates import Meter
from pipelines.jobs import Done, Gate, Update
from pipelines.memo import Memo
from pipelines.model_cache import ModelCache
from pipelines.results import OnStep
from pipelines.workbench import Services

logger = logging.getLogger(__name__)

T = TypeVar("T")
Gpu = Callable[..., Any]

SECONDS = 60  # asked of the GPU: ZeroGPU's own default; longer loans are granted later
DEADLINE_S = 50.0  # of a job there, so that it ends with a sentence before it is ended
WEIGHTS_BYTES, MEMO_BYTES = 2**40, 256 * 2**20  # no model that forks inherit may ever go
LIGHT = {*packs.FACES, "retrieval"}
"""Roles of the models that are not used on the GPU."""


def lender(environ: Mapping[str, str] | None = None) -> Gpu | None:
    """Return `spaces.GPU` on a ZeroGPU Space; None anywhere else, where nothing is imported."""
    told = (os.environ if environ is None else environ).get("SPACES_ZERO_GPU", "")
    if told.lower() not in ("1", "t", "true"):
        return None
    try:
        import spaces
    except ImportError:
        logger.warning("no GPU is lent: this Space has no package “spaces”; computing on the CPU")
        return None
    gpu: Gpu = spaces.GPU
    return gpu


class Loan:
    """Carries jobs out in the process that has the GPU.

    Make it in the main thread, where `spaces` watches what is put on "cuda", and before the app is
    launched, when `spaces` packs that up.

    Attributes:
        cache: the models there, all of them loaded.
    """

    def __init__(self, gpu: Gpu, services: Services, *, device: Device | None = None) -> None:
        """Decorate with `gpu` and load the pack's heavy models on `device`, None for the best."""
        pack = services.pack
        self.cache = ModelCache(
            WEIGHTS_BYTES, packs.LOADERS, device=device, packs={pack.name: pack}
        )
        self._here = services.cache, services.memo, services.gate, services.meter
        self._there = self.cache, Memo(MEMO_BYTES), Gate(deadline_s=DEADLINE_S), Meter()
        self._call = gpu(duration=SECONDS)(self._answer)
        for role in pack.components:
            if role not in LIGHT:
                with self.cache.lease(pack.name, role):
                    logger.info("%s/%s is ready for the GPU", pack.name, role)

    def carry_out(self, work: Callable[[OnStep], T], on_step: OnStep) -> T:
        """Return what `work(on_step)` returns there.

        Raises:
            Exception: what `work` raised, or `on_step`, which ends the job there.
        """
        with closing(self._call(_pickled(work, self._here))) as answers:
            for answer in answers:
                told = _unpickled(answer, self._here)
                if isinstance(told, Exception):
                    raise told
                if isinstance(told, Done):
                    value: T = told.value
                    return value
                if told.step is not None:
                    on_step(replace(told.step, preview=told.preview and (lambda t=told: t.preview)))
        raise RuntimeError("the GPU's process ended without an answer")

    def _answer(self, job: bytes) -> Iterator[bytes]:
        """Yield updates, then the result or the error; runs where the GPU is."""
        gate = self._there[2]
        try:
            for told in gate.run("", _unpickled(job, self._there)):
                if isinstance(told, Update) and told.step is not None:
                    told = replace(told, step=replace(told.step, preview=None))
                yield _pickled(told, self._there)
        except Exception as error:  # it belongs to the process that asked
            yield _pickled(error, self._there)


class _Pickler(pickle.Pickler):
    """Names what each side has its own of by number, and brings tensors home from the GPU."""

    def __init__(self, file: io.BytesIO, own: Sequence[object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._own = own

    def persistent_id(self, thing: object) -> int | None:
        return next((i for i, one in enumerate(self._own) if one is thing), None)

    def reducer_override(self, thing: Any) -> Any:
        torch = sys.modules.get("torch")
        is_far = torch and isinstance(thing, torch.Tensor) and thing.device.type != "cpu"
        return thing.cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL) if is_far else NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, own: Sequence[object]) -> None:
        super().__init__(file)
        self._own = own

    def persistent_load(self, number: int) -> object:
        return self._own[number]


def _pickled(value: object, own: Sequence[object]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, own).dump(value)
    return file.getvalue()


def _unpickled(content: bytes, own: Sequence[object]) -> Any:
    return _Unpickler(io.BytesIO(content), own).load()
