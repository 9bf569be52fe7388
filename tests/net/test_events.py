from __future__ import annotations

import asyncio

import pytest

from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.types import TransactionId
from bnnchain.net import events as events_module
from bnnchain.net.events import Events, Subscription
from bnnchain.net.messages import TransactionAccepted
from bnnchain.net.session import Inventory
from bnnchain.net.tasks import cancel_and_wait, run_until_first_ends, within


def event(number: int) -> TransactionAccepted:
    return TransactionAccepted(TransactionId(bytes([number])), b"")


async def drain(subscription: Subscription) -> list[int]:
    return [one.raw[0] if one.raw else one.transaction_id[0] async for one in subscription]  # type: ignore[union-attr]


async def test_everyone_is_told_everything_from_then_on() -> None:
    hub = Events()
    early = hub.subscribe()
    hub.publish(event(1))
    late = hub.subscribe()
    hub.publish(event(2))
    hub.close()
    assert await drain(early) == [1, 2]
    assert await drain(late) == [2]
    assert await drain(early) == []  # over is over
    assert await drain(hub.subscribe()) == []
    assert len(hub) == 0


async def test_a_closed_subscription_is_told_nothing() -> None:
    hub = Events()
    async with hub.subscribe() as events:
        hub.publish(event(1))
        assert len(hub) == 1
    hub.publish(event(2))
    assert len(hub) == 0
    assert await drain(events) == [1]


async def test_who_is_too_slow_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MAX_WAITING_EVENTS", 3)
    hub = Events()
    slow, quick = hub.subscribe(), hub.subscribe()
    for number in range(5):
        hub.publish(event(number))
        assert (await anext(quick)) == event(number)
    with pytest.raises(Unavailable, match="too slow"):
        await drain(slow)
    assert len(hub) == 1


def test_inventory_forgets_the_oldest() -> None:
    inventory = Inventory(2)
    for identity in (b"a", b"b", b"a", b"c"):
        inventory.add(identity)
    assert (b"a" in inventory, b"b" in inventory, b"c" in inventory, len(inventory)) == (True, False, True, 2)


async def test_tasks_end_together() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("wait")

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        await run_until_first_ends(wait(), fail())
    assert ended == ["wait"]


async def test_within() -> None:
    assert await within(5, asyncio.sleep(0, "in time")) == "in time"
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, asyncio.sleep(60))


async def test_nothing_is_left_where_the_waiting_is_cancelled() -> None:
    async def slow_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)

    inner = asyncio.create_task(slow_end())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cancel_and_wait([inner]))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inner.done()


async def test_a_task_that_swallows_a_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnchain.net.tasks.CANCEL_AGAIN_S", 0.01)

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_and_wait([task])
    assert task.done()
