import threading
import time
from contextvars import ContextVar

import pytest
from PIL import Image

from pipelines.errors import Cancelled, InputError
from pipelines.jobs import PREVIEW_PX, Done, Gate, Update
from pipelines.results import Step

PATIENCE_S = 30


def result(run):
    *_, last = run
    assert isinstance(last, Done)
    return last.value


def start(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Working:
    """A job that steps until it is told to finish, and says when it has begun and ended."""

    def __init__(self):
        self.begun, self.finish, self.ended = (threading.Event() for _ in range(3))

    def __call__(self, on_step):
        self.begun.set()
        try:
            while not self.finish.wait(0.01):
                on_step(Step("decoding", 1, 2))
            return "finished"
        finally:
            self.ended.set()


def test_a_job_gives_updates_then_its_result():
    def work(on_step):
        on_step(Step("mask", 1, 1))
        return 42

    seen = list(Gate().run("me", work))
    assert seen[-1] == Done(42)
    assert all(isinstance(update, Update) and update.ahead == 0 for update in seen[:-1])


def test_one_job_at_a_time_in_the_order_of_arrival():
    gate, order, inside = Gate(), [], []

    def job(name):
        def work(on_step):
            inside.append(name)
            assert inside == [name]
            order.append(name)
            on_step(Step("mask", 1, 1))
            inside.remove(name)
            return name

        return work

    first = Working()
    runs = [gate.run("a", first)]
    next(runs[0])
    assert first.begun.wait(PATIENCE_S)
    for name in "bcd":
        runs.append(gate.run(name, job(name)))
        assert next(runs[-1]).ahead == len(runs) - 1
    first.finish.set()
    assert [result(run) for run in runs] == ["finished", "b", "c", "d"]
    assert order == ["b", "c", "d"]


def test_stop_ends_a_running_job_at_its_next_step_and_lets_the_next_one_in():
    gate, job = Gate(), Working()
    run = gate.run("a", job)
    next(run)
    assert job.begun.wait(PATIENCE_S)
    assert gate.stop("somebody else") == 0
    assert gate.stop("a") == 1
    with pytest.raises(Cancelled):
        list(run)
    assert job.ended.wait(PATIENCE_S)
    assert result(gate.run("b", lambda on_step: 1)) == 1


def test_stop_takes_a_waiting_job_out_of_the_line():
    gate, first = Gate(), Working()
    running, waiting = gate.run("a", first), gate.run("b", lambda on_step: pytest.fail("ran"))
    next(running)
    assert next(waiting).ahead == 1
    gate.stop("b")
    with pytest.raises(Cancelled):
        list(waiting)
    first.finish.set()
    assert result(running) == "finished"


def test_a_job_with_a_place_goes_on_for_a_reader_who_comes_back():
    gate, job = Gate(), Working()
    run = gate.run("me", job, "edit")
    next(run)
    run.close()
    assert gate.is_busy("me", "edit")
    again = gate.rejoin("me", "edit")
    assert next(again) and not job.ended.is_set()
    job.finish.set()
    assert result(again) == "finished"
    assert gate.rejoin("me", "edit") is None
    assert gate.rejoin("you", "edit") is None


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_job_nobody_comes_back_to_is_stopped(comes_back):
    gate, job = Gate(grace_s=0.05), Working()
    run = gate.run("me", job, "edit")
    next(run)
    run.close()
    if comes_back:
        again = gate.rejoin("me", "edit")
        next(again)
        again.close()
    assert job.ended.wait(PATIENCE_S)
    assert result(gate.run("you", lambda on_step: 7)) == 7


def test_a_job_without_a_place_ends_with_its_reader():
    gate, job = Gate(grace_s=PATIENCE_S), Working()
    run = gate.run("me", job)
    next(run)
    assert gate.rejoin("me", "edit") is None
    run.close()
    assert job.ended.wait(PATIENCE_S)


def test_a_job_takes_the_place_of_an_earlier_one_of_the_same_owner():
    gate, jobs = Gate(), [Working() for _ in range(3)]
    first, elsewhere, other = (
        gate.run(who, job, place)
        for job, who, place in zip(jobs, "aab", ("edit", "paint", "edit"), strict=True)
    )
    for run in (first, elsewhere, other):
        next(run)
    assert jobs[0].begun.wait(PATIENCE_S)
    again = gate.run("a", lambda on_step: "again", "edit")
    next(again)
    with pytest.raises(Cancelled):
        list(first)
    assert gate.is_busy("a", "edit") and gate.is_busy("b", "edit")
    for job in jobs[1:]:
        job.finish.set()
    assert [result(run) for run in (elsewhere, other, again)] == ["finished", "finished", "again"]
    assert not gate.is_busy("a", "edit")


def test_leaving_the_loop_stops_the_job():
    gate, job = Gate(), Working()
    run = gate.run("a", job)
    next(run)
    assert job.begun.wait(PATIENCE_S)
    run.close()
    assert job.ended.wait(PATIENCE_S)


def test_an_error_of_the_job_reaches_its_own_reader_only():
    gate = Gate()

    def bad(on_step):
        raise InputError("Please do something else.")

    with pytest.raises(InputError, match="something else"):
        list(gate.run("a", bad))
    assert result(gate.run("b", lambda on_step: "fine")) == "fine"


def test_a_job_past_its_deadline_is_refused_with_a_sentence():
    def endless(on_step):
        while True:
            on_step(Step("decoding", 1, 1))

    with pytest.raises(InputError, match="longer than 0.05 seconds"):
        list(Gate(deadline_s=0.05).run("a", endless))


def test_a_full_line_is_refused():
    gate, first = Gate(max_jobs=1), Working()
    run = gate.run("a", first)
    next(run)
    with pytest.raises(InputError, match="try again"):
        next(gate.run("b", lambda on_step: 1))
    first.finish.set()
    assert result(run) == "finished"


def test_previews_are_few_and_small():
    drawn = []

    def draw():
        drawn.append(1)
        return Image.new("RGB", (600, 300))

    def work(on_step):
        started = time.monotonic()
        while time.monotonic() - started < 1:
            on_step(Step("decoding", 1, 1, draw))

    previews = [u.preview for u in Gate().run("a", work) if isinstance(u, Update) and u.preview]
    assert len(previews) == 1  # the same picture is told once
    assert all(preview.size == (PREVIEW_PX, PREVIEW_PX // 2) for preview in previews)
    assert len(drawn) <= 3


def test_a_download_does_not_count_towards_the_deadline():
    def work(on_step):
        for done in range(20):
            time.sleep(0.01)
            on_step(Step("downloading", done, 20))
        on_step(Step("mask", 1, 1))
        return "edited"

    assert result(Gate(deadline_s=0.05).run("a", work)) == "edited"


def test_a_job_sees_the_context_of_who_asked_for_it():
    visitor = ContextVar("visitor", default="nobody")
    visitor.set("me")
    assert result(Gate().run("a", lambda on_step: visitor.get())) == "me"
