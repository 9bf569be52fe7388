"""A peer on a chain that the operator's checkpoints contradict: not followed, and not blamed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from net.running import Nodes, eventually

from bnnchain.chain.checkpoints import Checkpoints
from bnnchain.consensus.types import BlockId
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Outcome

if TYPE_CHECKING:
    import pytest


async def test_it_is_not_followed_and_nobody_is_banned(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    other = await nodes.start(blocks=5)
    strict = nodes.make(dial=[other])
    strict.chain._checkpoints = Checkpoints({3: BlockId(b"\1" * 32)}, strict.chain.store)
    await nodes.start(strict)
    await eventually(lambda: "other-checkpoint" in caplog.text)
    await asyncio.sleep(0.1)
    assert strict.height == 2, "up to there nothing contradicts"
    assert not strict.network._peers._conduct.is_banned(other.address)
    raw = other.chain.store.block(other.chain.store.active_id(3) or BlockId(b""))
    assert raw is not None
    async with NodeClient(strict.address) as client:
        for _ in range(20):
            verdict = await client.announce_block(raw)
            assert (verdict.outcome, verdict.code) == (Outcome.INVALID, "other-checkpoint")
