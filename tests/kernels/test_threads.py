"""The shared pool: every share is worked on once, errors arrive, no call waits for a thread that has not begun."""

from __future__ import annotations

import threading

import pytest

from bnnchain_kernels import threads
from bnnchain_kernels.threads import MAX_THREADS, run_shares


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
def test_every_share_is_worked_on_once(size: int, count: int) -> None:
    seen = [0] * size

    def work(first: int, last: int) -> None:
        for index in range(first, last):
            seen[index] += 1

    run_shares(size, count, work)
    assert seen == [1] * size


def test_an_error_in_any_share_is_raised() -> None:
    def work(first: int, last: int) -> None:
        if first <= 5 < last:
            raise ArithmeticError(first)

    for _ in range(20):
        with pytest.raises(ArithmeticError):
            run_shares(16, 2, work)


def test_nobody_waits_for_a_thread_that_has_not_begun() -> None:
    """With every thread of the pool held up, the caller does all the work and returns."""
    release, done = threading.Event(), []
    held = [threads._shared_pool().submit(release.wait, 60) for _ in range(MAX_THREADS)]
    try:
        caller = threading.Thread(
            target=lambda: run_shares(100, 2, lambda first, last: done.extend(range(first, last)))
        )
        caller.start()
        caller.join(30)
        assert not caller.is_alive()
        assert sorted(done) == list(range(100))
    finally:
        release.set()
        for future in held:
            future.result(60)
