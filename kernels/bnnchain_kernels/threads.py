"""One pool of threads for all evaluators; a compiled kernel releases the GIL, so they run side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHARES_PER_THREAD = 4
"""Work is cut finer than threads, so that one held up by the machine does not hold up the call."""
MAX_THREADS = 64


def default_threads() -> int:
    """Return the number of threads an evaluator uses unless told otherwise."""
    return min(os.cpu_count() or 1, MAX_THREADS)


@lru_cache(maxsize=1)
def _shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="bnnchain-kernel")


def run_shares(size: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` over all of ``range(size)`` in shares, on up to ``threads`` threads; wait for all.

    The caller's thread works too, and waits for no thread that the machine has not let begin.  An exception in any
    share is raised here.
    """
    threads = min(threads, size)
    if threads <= 1:
        work(0, size)
        return
    share = -(-size // (threads * SHARES_PER_THREAD))
    tickets = count(0, share)

    def take_shares() -> None:
        # next() on a count is one step under the GIL: no two threads draw the same share.
        while (first := next(tickets)) < size:
            work(first, min(first + share, size))

    others = [_shared_pool().submit(take_shares) for _ in range(threads - 1)]
    try:
        take_shares()
    finally:
        errors = [None if other.cancel() else other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error
