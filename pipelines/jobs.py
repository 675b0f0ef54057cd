"""One heavy job at a time, first come first served, stoppable, with previews on the way.

Whoever shows results iterates over `Gate.run`. Leaving the loop early (a closed page, a cancelled
request) stops the job, one with a place only if nobody comes back to it; `Gate.stop` stops it from
another thread. A stopped job ends at its next `on_step`, and only then does the next one start.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipelines.errors import Cancelled, InputError
from pipelines.hub import DOWNLOADING
from pipelines.results import OnStep, Step

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

GRACE_S = 10.0  # for which a job waits for a page that is loaded again
HEARTBEAT_S = 0.2  # how often a waiting visitor hears something, and a closed page is noticed
PREVIEW_EVERY_S = 0.4  # a preview costs a decoder pass
PREVIEW_PX = 256


@dataclass(frozen=True)
class Update:
    """What can be told about a job that is not over.

    Attributes:
        ahead: jobs that are served before this one; 0 = it runs.
        step: the latest network evaluation; None before the first.
        preview: the latest picture, at most PREVIEW_PX wide and high; None if there is no new one.
    """

    ahead: int
    step: Step | None = None
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Done(Generic[T]):
    """The last thing a job says: what `work` returned."""

    value: T


@dataclass(eq=False)
class _Ticket:
    owner: str
    place: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    news: Queue[tuple[Step | None, Image.Image | None]] = field(default_factory=lambda: Queue(2))
    latest: Step | None = None
    outcome: Future[object] = field(default_factory=Future)
    reader: object = None  # the latest one


class Gate:
    """Lets one job through at a time.

    Args:
        deadline_s: time after a job's first step at which it is stopped; waiting for one's turn,
            for a download or for a model to load does not count.
        max_jobs: jobs that may run and wait together.
        grace_s: time for which a job with a place goes on when its reader has left.
    """

    def __init__(
        self, *, deadline_s: float = 180.0, max_jobs: int = 16, grace_s: float = GRACE_S
    ) -> None:
        self.max_jobs = max_jobs
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._line: deque[_Ticket] = deque()  # its head is the job that runs
        self._changed = threading.Condition()

    def run(
        self, owner: str, work: Callable[[OnStep], T], place: str = ""
    ) -> Iterator[Update | Done[T]]:
        """Yield updates while `work(on_step)` waits and runs in a thread, then its result.

        `place` is where the owner sees the result; a job that has one stops any earlier one of the
        same, and can be rejoined.

        Raises:
            InputError: too many jobs wait, the deadline passed, or `work` raised it.
            Cancelled: somebody stopped it.
        """
        if place:
            self.stop(owner, place)
        ticket = self._enter(owner, place)
        serve = copy_context().run  # ZeroGPU reads there whose quota a job takes from
        threading.Thread(target=serve, args=(self._serve, ticket, work), daemon=True).start()
        yield from self._read(ticket)

    def rejoin(self, owner: str, place: str) -> Iterator[Update | Done[Any]] | None:
        """Return what `run` would go on to yield of the owner's job there; None if none is left."""
        tickets = self._tickets(owner, place)
        return self._read(tickets[-1]) if tickets else None

    def _read(self, ticket: _Ticket) -> Iterator[Update | Done[Any]]:
        ticket.reader = me = object()
        try:
            while not ticket.outcome.done():
                yield self._next_update(ticket)
            yield Done(ticket.outcome.result())
        finally:
            if ticket.place and not ticket.outcome.done():
                threading.Timer(self._grace_s, self._give_up, (ticket, me)).start()
            else:
                self._stop(ticket)

    def _give_up(self, ticket: _Ticket, reader: object) -> None:
        """Stop a job that nobody took over from its reader."""
        if ticket.reader is reader:
            self._stop(ticket)

    def stop(self, owner: str, place: str | None = None) -> int:
        """Stop every job of an owner, waiting ones too; return how many there were."""
        tickets = self._tickets(owner, place)
        for ticket in tickets:
            self._stop(ticket)
        return len(tickets)

    def is_busy(self, owner: str, place: str) -> bool:
        """Return whether a job of an owner for that place waits or runs."""
        return bool(self._tickets(owner, place))

    def _tickets(self, owner: str, place: str | None) -> list[_Ticket]:
        with self._changed:
            mine = [ticket for ticket in self._line if ticket.owner == owner]
        return [ticket for ticket in mine if place is None or ticket.place == place]

    def _enter(self, owner: str, place: str) -> _Ticket:
        with self._changed:
            if len(self._line) >= self.max_jobs:
                raise InputError("Too many visitors are waiting. Please try again in a minute.")
            ticket = _Ticket(owner, place)
            self._line.append(ticket)
            return ticket

    def _stop(self, ticket: _Ticket) -> None:
        ticket.stop.set()
        with self._changed:
            self._changed.notify_all()

    def _serve(self, ticket: _Ticket, work: Callable[[OnStep], T]) -> None:
        """Wait for the ticket's turn, work, and let the next one in; never raises."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.stop.is_set() or self._line[0] is ticket)
        try:
            if ticket.stop.is_set():
                raise Cancelled
            value = work(self._on_step(ticket))
        except BaseException as error:  # it belongs to the thread that iterates
            self._leave(ticket)
            ticket.outcome.set_exception(error)
        else:
            self._leave(ticket)
            ticket.outcome.set_result(value)
        _offer(ticket, None, None)

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            self._line.remove(ticket)
            self._changed.notify_all()

    def _on_step(self, ticket: _Ticket) -> OnStep:
        started_s: float | None = None
        previewed_s, shown = 0.0, b""

        def on_step(step: Step) -> None:
            nonlocal started_s, previewed_s, shown
            if ticket.stop.is_set():
                raise Cancelled
            now_s = time.monotonic()
            started_s = None if step.stage == DOWNLOADING else started_s or now_s
            if started_s is not None and now_s - started_s > self._deadline_s:
                raise InputError(
                    f"This took longer than {self._deadline_s:g} seconds and was stopped. Please "
                    "choose fewer methods or fewer steps."
                )
            preview = None
            if step.preview is not None and now_s - previewed_s > PREVIEW_EVERY_S:
                preview = step.preview()
                preview.thumbnail((PREVIEW_PX, PREVIEW_PX))
                previewed_s = time.monotonic()
                if preview.tobytes() == shown:  # Gradio would rewrite a file that is being read
                    preview = None
                else:
                    shown = preview.tobytes()
            _offer(ticket, step, preview)

        return on_step

    def _next_update(self, ticket: _Ticket) -> Update:
        try:
            step, preview = ticket.news.get(timeout=HEARTBEAT_S)
        except Empty:
            step = preview = None
        ticket.latest = step or ticket.latest
        with self._changed:
            ahead = self._line.index(ticket) if ticket in self._line else 0
        return Update(ahead, ticket.latest, preview)


def _offer(ticket: _Ticket, step: Step | None, preview: Image.Image | None) -> None:
    """Hand over news, unless the reader is behind: then only previews push older news out."""
    try:
        ticket.news.put_nowait((step, preview))
    except Full:
        if preview is not None:
            try:
                ticket.news.get_nowait()
                ticket.news.put_nowait((step, preview))
            except (Empty, Full):  # the reader was quicker
                pass
