"""An event loop whose time is virtual: it jumps to the next timer, so hours pass in seconds and never by chance."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping


class StalledError(RuntimeError):
    """Everything waits and no timer is set: a simulated deadlock."""


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """A task that hashes by its number: sets of tasks are then walked in the same order in every run."""

    _numbers = itertools.count()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _JumpingSelector(selectors.BaseSelector):
    """Watches no files; where it should wait, it moves the loop's clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StalledError
        self.now_s += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class SimLoop(asyncio.SelectorEventLoop):
    """Runs everything in one thread; what asks for a thread of its own is done at once, in order."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        SimTask._numbers = itertools.count()
        super().__init__(self._jumping)
        self.set_task_factory(_make_task)
        self.complaints: list[dict[str, Any]] = []
        """What asyncio would only log: exceptions that nobody has looked at."""
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._jumping.now_s

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: object) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (whoever awaits it gets it)
            future.set_exception(error)
        return future


def _make_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> SimTask:
    return SimTask(work, loop=loop, **options)
