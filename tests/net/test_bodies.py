"""Blocks that come in slowly, or never to their end, keep nobody else's out."""

from __future__ import annotations

import asyncio

import pytest

from bnnchain.consensus.errors import Unavailable
from bnnchain.net import limits
from bnnchain.net.bodies import Bodies


@pytest.fixture(autouse=True)
def _few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES", 2)
    monkeypatch.setattr(limits, "BODY_GRACE_S", 0.05)


async def never() -> bytes:
    await asyncio.sleep(3_600)
    return b""


async def soon() -> bytes:
    await asyncio.sleep(0)
    return b"block"


async def test_the_slowest_make_room_for_who_waits() -> None:
    bodies = Bodies()
    slow = [asyncio.create_task(bodies.read(f"slow{number}", never)) for number in range(6)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(bodies.read("honest", soon), 5) == b"block"
    ended = [task for task in slow if task.done()]
    assert 4 <= len(ended) <= 6
    for task in ended:
        with pytest.raises(Unavailable, match="too slowly"):
            task.result()
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert not bodies._senders


async def test_nobody_has_to_hurry_while_there_is_room() -> None:
    bodies = Bodies()

    async def slowly() -> bytes:
        await asyncio.sleep(4 * limits.BODY_GRACE_S)
        return b"slow"

    assert await asyncio.gather(*(bodies.read(name, slowly) for name in "ab")) == [b"slow", b"slow"]


async def test_one_block_at_a_time_of_a_connection() -> None:
    bodies = Bodies()
    first = asyncio.create_task(bodies.read("a", never))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="one unproven block at a time"):
        await bodies.read("a", soon)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await bodies.read("a", soon) == b"block"


async def test_an_error_while_reading_frees_the_place() -> None:
    bodies = Bodies()

    async def fail() -> bytes:
        raise Unavailable("the message was sent too slowly")

    for _ in range(5):
        with pytest.raises(Unavailable, match="sent too slowly"):
            await bodies.read("a", fail)
    assert await bodies.read("a", soon) == b"block"
