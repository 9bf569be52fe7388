"""Announce and fetch: a body crosses a link once, whoever announces it, and nobody can hold it up for long."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from builders import transfer
from net.running import Nodes, Running, eventually

from bnnchain.consensus.codec import HEADER_BYTES, decode_block, encode_block, encode_transaction
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockId
from bnnchain.net import limits
from bnnchain.net.arrivals import MAX_ARRIVALS, Arrivals
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Traffic:
    """Bodies of blocks and transactions by link, whichever way they cross it: (one node id, the other's)."""

    blocks: Counter[tuple[frozenset[bytes], bytes]] = field(default_factory=Counter)
    transactions: Counter[tuple[frozenset[bytes], bytes]] = field(default_factory=Counter)
    bytes_by_link: Counter[frozenset[bytes]] = field(default_factory=Counter)

    def watch(self, monkeypatch: pytest.MonkeyPatch, nodes: Sequence[Running]) -> None:
        """Count what the sessions of these nodes send and are sent."""
        by_address = {node.address: node.network.node_id for node in nodes}
        traffic = self

        def link(client: NodeClient) -> frozenset[bytes]:
            [mine] = {node.network.node_id for node in nodes if client in node.network._peers.nodes} or {b"unknown"}
            return frozenset({mine, by_address[client.address]})

        announce, block, blocks = NodeClient.announce_block, NodeClient.block, NodeClient.blocks
        tell = NodeClient.announce_transaction

        async def count_announce(client: NodeClient, raw: bytes) -> Any:
            traffic.count(link(client), raw)
            return await announce(client, raw)

        async def count_block(client: NodeClient, identity: BlockId) -> bytes:
            raw = await block(client, identity)
            traffic.count(link(client), raw)
            return raw

        async def count_blocks(client: NodeClient, *arguments: Any, **options: Any) -> list[bytes]:
            raws = await blocks(client, *arguments, **options)
            for raw in raws:
                traffic.count(link(client), raw)
            return raws

        async def count_transaction(client: NodeClient, raw: bytes) -> Any:
            traffic.transactions[link(client), raw] += 1
            return await tell(client, raw)

        monkeypatch.setattr(NodeClient, "announce_block", count_announce)
        monkeypatch.setattr(NodeClient, "block", count_block)
        monkeypatch.setattr(NodeClient, "blocks", count_blocks)
        monkeypatch.setattr(NodeClient, "announce_transaction", count_transaction)

    def count(self, link: frozenset[bytes], raw: bytes) -> None:
        self.blocks[link, block_id(decode_block(raw).header)] += 1
        self.bytes_by_link[link] += len(raw)


async def connect(nodes: Nodes, shape: str, count: int) -> list[Running]:
    """Start a ring, each with its neighbour, or a mesh, each with all before it; wait until all are connected."""
    started: list[Running] = []
    for number in range(count):
        dial = started[-1:] if shape == "ring" else started
        if shape == "ring" and number == count - 1:
            dial = [started[0], started[-1]]
        started.append(await nodes.start(dial=dial))
    degree = 2 if shape == "ring" else count - 1
    await eventually(lambda: all(node.network.peer_count == degree for node in started), "all are connected")
    return started


@pytest.mark.parametrize(("shape", "count"), [("ring", 6), ("mesh", 5)])
async def test_a_body_reaches_each_node_once_and_crosses_a_link_once(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, shape: str, count: int
) -> None:
    running = await connect(nodes, shape, count)
    traffic = Traffic()
    traffic.watch(monkeypatch, running)
    for height, miner in enumerate(running, 1):
        raw = encode_block(miner.builder.next() if height == 1 else miner.builder.idle())
        await miner.network.submit_block(raw)
        await eventually(lambda height=height: all(node.height == height for node in running), "all have the block")  # type: ignore[misc]
    await asyncio.sleep(0.3)
    assert max(traffic.blocks.values()) == 1, "no link carried a body twice"
    per_block = Counter(identity for _, identity in traffic.blocks.elements())
    assert set(per_block.values()) == {count - 1}, "each of the others was sent it once, by one of its peers"
    assert len(per_block) == count


async def test_a_transaction_is_not_told_back_to_its_sender(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = await nodes.start()
    dialler = await nodes.start(dial=[listener])
    await eventually(lambda: dialler.network.peer_count == 1)
    seen: list[bytes] = []
    take = dialler.mempool.add
    monkeypatch.setattr(dialler.mempool, "add", lambda each: (seen.append(transaction_id(each)), take(each))[1])
    payment = transfer()
    identity = await dialler.network.submit_transaction(encode_transaction(payment))
    await eventually(lambda: listener.mempool.get(identity), "it was told")
    async with NodeClient(listener.address) as other:
        back = await listener.network.submit_transaction(encode_transaction(transfer(nonce=1)))
        await eventually(lambda: dialler.mempool.get(back), "what comes later on the same watch has come")
        assert (await other.status()).mempool_count == 2
    assert seen.count(identity) == 1


async def test_offers_are_answered_by_what_the_node_has(nodes: Nodes) -> None:
    node = await nodes.start(blocks=2)
    known = next(raw for _, raw in node.chain.store.active_blocks(2, 1))
    fresh = encode_block(node.builder.idle())
    orphan = nodes.make().idle(5, seed=7)[-1]
    async with NodeClient(node.address) as client:
        assert (await client.offer_block(known[:HEADER_BYTES])).outcome == Outcome.KNOWN
        wanted = await client.offer_block(fresh[:HEADER_BYTES])
        assert (wanted.outcome, wanted.item_id) == (Outcome.WANTED, block_id(decode_block(fresh).header))
        missing = await client.offer_block(orphan[:HEADER_BYTES])
        assert missing.outcome == Outcome.UNAVAILABLE
        assert list(missing.locator) == node.chain.locator()
        assert (await client.announce_block(fresh)).outcome == Outcome.ACCEPTED
        assert (await client.offer_block(fresh[:HEADER_BYTES])).outcome == Outcome.KNOWN
        for raw, code in ((fresh[: HEADER_BYTES - 1], "bad-message"), (b"\xff" * HEADER_BYTES, "bad-kind")):
            assert (await client.offer_block(raw)).code == code


async def test_who_offers_second_waits_for_the_first_and_hears_that_it_is_known(nodes: Nodes) -> None:
    node = await nodes.start()
    raw = encode_block(node.builder.idle())
    async with NodeClient(node.address) as first, NodeClient(node.address) as second:
        assert (await first.offer_block(raw[:HEADER_BYTES])).outcome == Outcome.WANTED
        offering = asyncio.create_task(second.offer_block(raw[:HEADER_BYTES]))
        await asyncio.sleep(0.1)
        assert not offering.done()
        await first.announce_block(raw)
        assert (await offering).outcome == Outcome.KNOWN


async def test_broken_promises_hold_a_block_up_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARRIVAL_TIMEOUT_S", 0.4)
    node = await nodes.start()
    raw = encode_block(node.builder.idle())
    clients = [NodeClient(node.address) for _ in range(6)]
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(client.offer_block(raw[:HEADER_BYTES]) for client in clients))
    took_s = asyncio.get_running_loop().time() - started
    assert [answer.outcome for answer in answers] == [Outcome.WANTED] * 6
    assert 0.4 <= took_s < 0.8, "one wait in all, not one for each liar"
    assert (await clients[-1].announce_block(raw)).outcome == Outcome.ACCEPTED
    for client in clients:
        await client.close()


async def test_a_body_that_breaks_a_rule_makes_room_at_once(nodes: Nodes) -> None:
    node = await nodes.start()
    raw = encode_block(node.builder.next())
    spoilt = raw[:-1] + bytes([raw[-1] ^ 1])
    async with NodeClient(node.address) as liar, NodeClient(node.address) as honest:
        assert (await liar.offer_block(raw[:HEADER_BYTES])).outcome == Outcome.WANTED
        assert (await liar.announce_block(spoilt)).outcome == Outcome.INVALID
        started = asyncio.get_running_loop().time()
        assert (await honest.offer_block(raw[:HEADER_BYTES])).outcome == Outcome.WANTED
        assert asyncio.get_running_loop().time() - started < 1
        assert (await honest.announce_block(raw)).outcome == Outcome.ACCEPTED


async def test_an_own_block_that_arrives_second_is_told_of(nodes: Nodes) -> None:
    first = await nodes.start()
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.network.peer_count == 1)
    ours, rival, other = (first.builder.idle(nonce=nonce) for nonce in (0, 5, 6))
    await first.network.submit_block(encode_block(ours))
    await eventually(lambda: second.height == 1)
    for winner, loser, block in ((first, second, rival), (second, first, other)):
        imported = await loser.network.submit_block(encode_block(block))
        assert imported.is_new
        assert not imported.is_head
        identity = imported.block_id
        await eventually(lambda node=winner, wanted=identity: node.chain.store.has_block(wanted), "the other has it")  # type: ignore[misc]
        assert winner.chain.head.head == loser.chain.head.head != identity


# Arrivals.


async def test_arrivals_are_bounded_and_let_everybody_go_on() -> None:
    arrivals = Arrivals()
    first = BlockId(bytes(32))
    assert arrivals.promise(first)
    assert not arrivals.promise(first)
    waiting = asyncio.create_task(arrivals.wait(first))
    for number in range(1, MAX_ARRIVALS + 1):
        arrivals.promise(BlockId(number.to_bytes(32, "big")))
    assert len(arrivals) == MAX_ARRIVALS
    await asyncio.wait_for(waiting, 1)  # forgotten, so nobody waits for it
    await asyncio.wait_for(arrivals.wait(BlockId(b"n" * 32)), 1)
    arrivals.finish(BlockId(b"n" * 32))
