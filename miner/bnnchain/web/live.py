"""What is new, told to every open page by Server-Sent Events; a page that is slow misses steps, never the last one."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.net.messages import NewHead
from bnnchain.net.tasks import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from bnnchain.net.events import Subscription

MAX_STREAMS = 16
MIN_INTERVAL_S = 0.5
"""Between two messages to one page."""
HEARTBEAT_S = 15.0
"""A message at least so often: a page that has gone is noticed, and peers that came and went are shown."""
RETRY_MS = 3_000
KEPT_VERDICTS = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What judging one block took on this node."""

    height: int
    verdict_us: int
    """Decoding, rules, inference and commit."""
    size_bytes: int


class Live:
    """Follows the node's events; used from the event loop only, apart from :meth:`verdicts`."""

    def __init__(self) -> None:
        self._verdicts: deque[Verdict] = deque(maxlen=KEPT_VERDICTS)
        self._changed = asyncio.Event()
        self._is_closed = False
        self._height = 0
        self._stream_count = 0

    def verdicts(self) -> list[Verdict]:
        """Return what the last blocks took, oldest first."""
        return list(self._verdicts)

    async def follow(self, events: Subscription, height: int) -> None:
        """Take in what happens until the subscription ends; ``height``: of the head when it began."""
        self._height = height
        async with events:
            async for event in events:
                if isinstance(event, NewHead):
                    self._height = event.header.height
                    self._verdicts.append(Verdict(event.header.height, event.verdict_us, event.size_bytes))
                self._wake()

    def close(self) -> None:
        """End every stream."""
        self._is_closed = True
        self._wake()

    async def stream(self) -> AsyncIterator[str]:
        """Yield events for one page until it goes or the node stops: ``now`` with the height, as JSON."""
        yield f"retry: {RETRY_MS}\n\n"
        while not self._is_closed:
            changed = self._changed  # before the height is read: what comes meanwhile is told in the next round
            yield f"event: now\ndata: {json.dumps({'height': self._height})}\n\n"
            try:
                await within(HEARTBEAT_S, changed.wait())
            except asyncio.TimeoutError:
                continue
            if not self._is_closed:
                await asyncio.sleep(MIN_INTERVAL_S)

    @property
    def is_full(self) -> bool:
        """Whether no further page can be told."""
        return self._stream_count >= MAX_STREAMS

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a stream while it is open."""
        self._stream_count += 1
        try:
            yield
        finally:
            self._stream_count -= 1

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
