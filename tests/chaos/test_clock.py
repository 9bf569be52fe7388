"""A clock that jumps an hour either way: the node neither dies nor bans peers, and agrees again when it is right."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from builders import GENESIS_TIME, Builder, Clock, make_spec, open_chain

from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.types import BlockKind
from bnnchain.net.network import Network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bnnchain.chain.chain import Chain

HOUR_S = 3_600
PATIENCE_S = 60.0


@asynccontextmanager
async def joined(near: Chain, far: Chain) -> AsyncIterator[tuple[Network, Network]]:
    """Give two connected nodes over real gRPC; the second dials the first."""
    server = Network(near, Mempool(near), listen="127.0.0.1:0")
    await server.start()
    guest = Network(far, Mempool(far), listen="127.0.0.1:0", dial=[server.address])
    await guest.start()
    try:
        await until(lambda: server.peer_count == guest.peer_count == 1)
        yield server, guest
    finally:
        await guest.stop()
        await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "what was waited for did not come"
        await asyncio.sleep(0.05)


def next_block(chain: Chain, now: int) -> bytes:
    """Return the bytes of a block made at a time, or at its parent's where that is later."""
    builder = Builder(chain)
    return builder.tamper(builder.idle(), timestamp=max(now, chain.head.timestamp))


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_a_jump_of_an_hour_and_back(jump_s: int, tmp_path: Path) -> None:
    start = GENESIS_TIME + 10 * HOUR_S
    right, wrong = Clock(start), Clock(start)
    spec = make_spec(future_limit_s=120)
    near, far = open_chain(tmp_path / "near.db", spec, right), open_chain(tmp_path / "far.db", spec, wrong)
    async with joined(near, far) as (server, guest):
        await server.submit_block(next_block(near, right.now))
        await until(lambda: far.head.head == near.head.head)
        wrong.now += jump_s
        # Each makes a block by its own clock: to whose clock is behind, the other's comes from the future.
        await server.submit_block(next_block(near, right.now))
        late = far if jump_s > 0 else near
        if jump_s > 0:
            await until(lambda: far.head.head == near.head.head)
            await guest.submit_block(next_block(far, wrong.now))
        await asyncio.sleep(2)
        ahead, behind = (far, near) if jump_s > 0 else (near, far)
        assert ahead.head.height == behind.head.height + 1, "one of them must wait"
        assert server.peer_count == guest.peer_count == 1, "and nobody is banned for a clock"
        assert late.head.height > 0
        # The right time comes: what was from the future is not any more.
        wrong.now = right.now = start + 2 * HOUR_S
        await server.submit_block(next_block(near, right.now))
        await guest.submit_block(next_block(far, wrong.now))
        await until(lambda: far.head.weight == near.head.weight and far.head.height >= 3)
        assert server.peer_count == guest.peer_count == 1


@pytest.mark.parametrize(("wrong_s", "said"), [(121, "121 s ahead of"), (-121, "121 s behind"), (120, ""), (0, "")])
async def test_a_node_says_that_its_clock_differs(
    wrong_s: int, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec(future_limit_s=120)
    near = open_chain(tmp_path / "near.db", spec, Clock(GENESIS_TIME + HOUR_S))
    far = open_chain(tmp_path / "far.db", spec, Clock(GENESIS_TIME + HOUR_S + wrong_s))
    async with joined(near, far) as (server, _):
        pass
    warnings = [record.getMessage() for record in caplog.records if "the clock here is" in record.getMessage()]
    assert warnings == ([f"the clock here is {said} that of {server.address}: blocks will be refused"] if said else [])


async def test_a_clock_that_runs_backwards_goes_on_making_blocks(tmp_path: Path) -> None:
    clock = Clock(GENESIS_TIME + 10 * HOUR_S)
    chain = open_chain(tmp_path / "chain.db", make_spec(future_limit_s=120), clock)
    for _ in range(3):
        chain.import_block(next_block(chain, clock.now))
        clock.now -= 30
    assert chain.head.height == 3
    assert chain.head.timestamp == GENESIS_TIME + 10 * HOUR_S, "never before its parent"
    assert Builder(chain).extend(1, kind=BlockKind.IDLE)
