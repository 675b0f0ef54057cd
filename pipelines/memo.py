"""Results worth keeping, such as the inversion of a picture that is edited again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class MemoStats:
    """What a memo holds and how often it helped."""

    entries: int
    nbytes: int
    budget_bytes: int
    hits: int
    misses: int
    evictions: int


class Memo:
    """Least-recently-used store bounded by bytes; thread-safe.

    Threads that want the same key at once share one computation. If it fails or is cancelled, the
    error is its own thread's only: the next waiting thread computes for itself. A value above
    the whole budget is returned but not kept. Values are shared, so nobody may change them.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: OrderedDict[tuple[Hashable, ...], tuple[Any, int]] = OrderedDict()
        self._computing: set[tuple[Hashable, ...]] = set()
        self._changed = threading.Condition()
        self._nbytes = self._hits = self._misses = self._evictions = 0

    def get(
        self,
        key: tuple[Hashable, ...],
        compute: Callable[[], V],
        nbytes: Callable[[V], int],
        *,
        accept: Callable[[V], bool] = lambda value: True,
    ) -> V:
        """Return the value of `key`, computing it if it is not kept or not good enough.

        `compute` may ask this memo for other keys, never for its own: that would wait for itself.

        Args:
            nbytes: the memory that a value takes.
            accept: whether the kept value serves this caller (a trajectory may be too short);
                one that does not is computed anew and replaced.
        """
        with self._changed:
            self._changed.wait_for(lambda: key not in self._computing)
            if key in self._kept and accept(self._kept[key][0]):
                self._hits += 1
                self._kept.move_to_end(key)
                value: V = self._kept[key][0]
                return value
            self._misses += 1
            self._computing.add(key)
        try:
            value = compute()
            self._keep(key, value, nbytes(value))
            return value
        finally:
            with self._changed:
                self._computing.remove(key)
                self._changed.notify_all()

    def stats(self) -> MemoStats:
        """Return the counts since the start and the bytes held now."""
        with self._changed:
            return MemoStats(
                entries=len(self._kept),
                nbytes=self._nbytes,
                budget_bytes=self._budget_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
            )

    def _keep(self, key: tuple[Hashable, ...], value: object, nbytes: int) -> None:
        with self._changed:
            if nbytes > self._budget_bytes:
                return
            if key in self._kept:
                self._nbytes -= self._kept.pop(key)[1]
            self._kept[key] = (value, nbytes)
            self._nbytes += nbytes
            while self._nbytes > self._budget_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._nbytes -= freed
                self._evictions += 1
