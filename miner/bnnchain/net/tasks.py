"""Tasks that live and end together, and work that outlives its caller; nothing is left pending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

CANCEL_AGAIN_S = 0.2

Result = TypeVar("Result")


class Completions:
    """Work that goes on to its end though whoever waits for it is cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def complete(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what ``work`` returns or raise what it raises; cancelling this call does not cancel the work."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for what is under way, then cancel it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await cancel_and_wait(tuple(self._tasks))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the caller may have gone away


async def run_until_first_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines side by side until the first one ends; end the others; raise what it raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(tasks)
    for task in tasks:
        if task in done:
            task.result()


async def within(timeout_s: float, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what ``work`` returns; raise ``asyncio.TimeoutError`` and cancel it where it takes longer.

    Unlike ``wait_for`` it leaves no exception unseen where the work answers its cancellation with another one (gRPC).
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        await cancel_and_wait([task])
    if not done:
        raise asyncio.TimeoutError
    return task.result()


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended, even where the waiting is itself cancelled; drop what they raise."""
    pending = {task for task in tasks if not task.done()}
    is_cancelled = False
    while pending:
        for task in pending:
            task.cancel()
        try:
            # Before Python 3.12 a wait_for may swallow a cancellation: ask again.
            await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        except asyncio.CancelledError:
            is_cancelled = True
        pending = {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if is_cancelled:
        raise asyncio.CancelledError
