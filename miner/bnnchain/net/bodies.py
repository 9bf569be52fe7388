"""Places for blocks that are coming in: few at a time, one a connection, and none for long while others wait.

Who sends slowly is let be as long as nobody else needs the place.  So a handful of peers that never finish what they
send cannot keep the blocks of all others out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bnnchain.consensus.errors import Unavailable
from bnnchain.net import limits
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Place:
    task: asyncio.Task[Any]
    since_s: float
    is_given_up: bool = False


class Bodies:
    """``limits.MAX_BODIES`` places; lives in one event loop."""

    def __init__(self) -> None:
        self._senders: set[str] = set()
        """Connections that have a place or wait for one."""
        self._places: list[_Place] = []
        """Oldest first."""
        self._turn = asyncio.Lock()

    async def read(self, connection: str, read: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return what ``read()`` returns once it has had a place.

        Raises :class:`Unavailable` where the connection sends a block already, or where it had its place for
        ``BODY_GRACE_S`` and another needed it.
        """
        if connection in self._senders:
            raise Unavailable("one unproven block at a time")
        self._senders.add(connection)
        try:
            async with self._turn:
                await self._make_room()
                place = _Place(asyncio.create_task(read()), asyncio.get_running_loop().time())
                self._places.append(place)
            try:
                await asyncio.wait({place.task})
            finally:
                await cancel_and_wait([place.task])
            if place.is_given_up:
                raise Unavailable("the block was sent too slowly while others waited")
            return place.task.result()  # type: ignore[no-any-return]
        finally:
            self._senders.discard(connection)

    async def _make_room(self) -> None:
        while True:
            self._places = [place for place in self._places if not place.task.done()]
            if len(self._places) < limits.MAX_BODIES:
                return
            oldest = self._places[0]
            left_s = oldest.since_s + limits.BODY_GRACE_S - asyncio.get_running_loop().time()
            tasks = {place.task for place in self._places}
            done, _ = await asyncio.wait(tasks, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            if not done:
                oldest.is_given_up = True
                await cancel_and_wait([oldest.task])
