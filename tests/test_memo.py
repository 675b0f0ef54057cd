import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.errors import Cancelled
from pipelines.memo import Memo


def keep(memo: Memo, name: str, nbytes: int = 10) -> str:
    return memo.get((name,), lambda: f"value of {name}", lambda _: nbytes)


def fail() -> str:
    raise AssertionError("computed again")


def test_second_get_computes_nothing():
    memo = Memo(100)
    assert keep(memo, "a") == "value of a"
    assert memo.get(("a",), fail, len) == "value of a"
    stats = memo.stats()
    assert (stats.entries, stats.nbytes, stats.hits, stats.misses) == (1, 10, 1, 1)


def test_least_recently_used_goes_first():
    memo = Memo(30)
    for name in "abc":
        keep(memo, name)
    keep(memo, "a")  # now b is the oldest
    keep(memo, "d")
    for name in "acd":
        memo.get((name,), fail, len)
    with pytest.raises(AssertionError, match="computed again"):
        memo.get(("b",), fail, len)
    assert memo.stats().evictions == 1
    assert memo.stats().nbytes == 30


def test_one_large_value_pushes_out_several():
    memo = Memo(30)
    for name in "abc":
        keep(memo, name)
    keep(memo, "large", nbytes=25)
    assert (memo.stats().entries, memo.stats().nbytes) == (1, 25)


def test_a_value_above_the_budget_is_returned_and_evicts_nothing():
    memo = Memo(30)
    keep(memo, "a")
    assert keep(memo, "huge", nbytes=31) == "value of huge"
    assert (memo.stats().entries, memo.stats().nbytes) == (1, 10)


def test_a_value_that_does_not_serve_is_replaced():
    memo, lengths = Memo(100), []
    for length in (3, 5, 4):
        value = memo.get(
            ("trajectory",), lambda n=length: "x" * n, len, accept=lambda v, n=length: len(v) >= n
        )
        lengths.append(len(value))
    assert lengths == [3, 5, 5]
    assert (memo.stats().misses, memo.stats().hits, memo.stats().nbytes) == (2, 1, 5)


def test_keys_do_not_mix():
    memo = Memo(100)
    for seed in range(3):
        for ratio in (0.5, 0.7):
            assert memo.get((seed, ratio), lambda s=seed, r=ratio: (s, r), lambda _: 1) == (
                seed,
                ratio,
            )
    assert memo.stats().misses == 6


def test_compute_may_ask_for_other_keys():
    memo = Memo(100)
    outer = memo.get(("outer",), lambda: keep(memo, "inner") + "!", len)
    assert outer == "value of inner!"
    assert memo.stats().entries == 2


def test_threads_share_one_computation():
    memo, count = Memo(100), 8
    started, calls = threading.Barrier(count), []

    def ask() -> object:
        started.wait()
        return memo.get(("a",), lambda: calls.append(1) or object(), lambda _: 1)

    with ThreadPoolExecutor(count) as pool:
        values = [job.result() for job in [pool.submit(ask) for _ in range(count)]]
    assert len(calls) == 1
    assert all(value is values[0] for value in values)
    assert memo.stats().hits == count - 1


def test_a_cancelled_computation_fails_its_own_thread_only():
    memo, inside, go_on = Memo(100), threading.Event(), threading.Event()

    def cancelled() -> str:
        inside.set()
        go_on.wait()
        raise Cancelled

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memo.get, ("a",), cancelled, len)
        inside.wait()
        second = pool.submit(keep, memo, "a")
        go_on.set()
        assert second.result() == "value of a"
        with pytest.raises(Cancelled):
            first.result()
    assert memo.stats().entries == 1


def test_failures_leave_nothing_behind():
    memo = Memo(100)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            memo.get(("a",), lambda: 1 // 0, lambda _: 1)
    with pytest.raises(TypeError):
        memo.get(("a",), lambda: 5, len)
    assert memo.stats().entries == 0
    assert keep(memo, "a") == "value of a"
