"""What a node does beside serving: it reports miners who signed twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, CAROL, MINER, Builder, make_spec
from net.running import Nodes, eventually

from bnnchain.accuser import Accuser
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import Equivocation
from bnnchain.node import _write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    await made.close()


async def test_an_equivocation_seen_on_the_network_costs_the_miner_its_reward(nodes: Nodes) -> None:
    spec = make_spec(coinbase_maturity_blocks=20)
    honest, other = await nodes.start(spec=spec), await nodes.start(spec=spec)
    for nonce, node in enumerate((honest, other)):
        await node.network.submit_block(encode_block(Builder(node.chain, key=MINER).idle(nonce=nonce)))
    third = nodes.make(spec=spec, dial=[honest, other])
    accusing = asyncio.create_task(_write(third.network, [Accuser(third.chain, third.mempool, ALICE).accuse]))
    await nodes.start(third)
    await eventually(third.chain.equivocations, "the rival came, and gave its miner away")
    await honest.network.submit_block(encode_block(Builder(honest.chain, key=CAROL).idle()))
    await eventually(lambda: len(honest.mempool), "the report was made with a new head, and relayed")
    [report] = honest.mempool.waiting()
    assert isinstance(report.body, Equivocation)
    assert report.sender == public_key(ALICE)
    block = Builder(honest.chain, key=CAROL).idle(transactions=honest.mempool.select(9, 1 << 18))
    await honest.network.submit_block(encode_block(block))
    await eventually(lambda: third.height == 3)
    assert public_key(MINER) not in {coinbase.owner for coinbase in third.chain.head.coinbases}
    assert third.chain.equivocations() == []
    accusing.cancel()
