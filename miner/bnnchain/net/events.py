"""New heads and transactions, told to everyone in this process who asked: relays, watchers, the miner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

from bnnchain.consensus.errors import Unavailable

if TYPE_CHECKING:
    from bnnchain.net.messages import Event

MAX_WAITING_EVENTS = 4_096
"""A subscriber that is this far behind is cut off rather than told half of the story."""


@final
class Subscription:
    """An asynchronous iterator over events; it ends when the hub or the subscription is closed.

    Raises :class:`Unavailable` where the reader fell more than ``MAX_WAITING_EVENTS`` behind.  For ``async with``.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        # One more place than events may wait: the end always fits.
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_WAITING_EVENTS + 1)
        self._is_overrun = False
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Give the subscriber an event, or cut it off where it is too far behind."""
        if self._is_closed:
            return
        if self._queue.qsize() >= MAX_WAITING_EVENTS:
            self._is_overrun = True
            self.close()
            return
        self._queue.put_nowait(event)

    def close(self) -> None:
        """End the iteration after what waits already."""
        if not self._is_closed:
            self._is_closed = True
            self._events.discard(self)
            self._queue.put_nowait(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        if self._is_closed and self._queue.empty():
            raise StopAsyncIteration
        event = await self._queue.get()
        if event is not None:
            return event
        if self._is_overrun:
            raise Unavailable("too slow: the events were no longer kept")
        raise StopAsyncIteration

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Events:
    """The hub; used from the event loop only."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """Return a subscription to everything published from now on."""
        subscription = Subscription(self)
        if self._is_closed:
            subscription.close()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Tell every subscriber."""
        for subscription in tuple(self._subscriptions):
            subscription.put(event)

    def discard(self, subscription: Subscription) -> None:
        """Forget a subscription; it may have been forgotten already."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every subscription, and any made later at once."""
        self._is_closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()
