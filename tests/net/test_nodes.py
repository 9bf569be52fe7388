"""Whole nodes together: relay, catching up, reorganisations, lies and their consequences, clean ends."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import replace

import pytest
from builders import ALICE, BOB, CAROL, GENESIS_TIME, Builder, count, make_spec, tiny_dataset, transfer
from net.running import Nodes, Running, eventually

from bnnchain.consensus.codec import decode_block, encode_block, encode_transaction
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import DatasetId
from bnnchain.net import session as session_module
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import NewHead, Outcome, Role, TransactionAccepted
from bnnchain.rpc.v1 import node_pb2 as pb


def same_head(*nodes: Running) -> bool:
    return len({node.chain.head.head for node in nodes}) == 1


async def test_relay_across_three_nodes_both_ways(nodes: Nodes) -> None:
    first = await nodes.start()
    middle = await nodes.start(dial=[first])
    last = await nodes.start(dial=[middle])
    await eventually(lambda: middle.network.peer_count == 2, "the middle node has both peers")

    raw = encode_block(first.builder.next())  # 1. with the dial direction: listener -> dialler by watch and fetch
    assert (await first.network.submit_block(raw)).is_head
    await eventually(lambda: last.height == 1, "the block reaches the last node")
    assert same_head(first, middle, last)

    raw = encode_block(last.builder.next())  # 2. against it: dialler -> listener by announcement
    await last.network.submit_block(raw)
    await eventually(lambda: first.height == 2, "the block reaches the first node")
    assert same_head(first, middle, last)

    raw = encode_transaction(transfer())  # 3. transactions both ways
    identity = await last.network.submit_transaction(raw)
    await eventually(lambda: first.mempool.get(identity), "the transaction reaches the first node")
    raw = encode_transaction(transfer(BOB))
    identity = await first.network.submit_transaction(raw)
    await eventually(lambda: last.mempool.get(identity), "the transaction reaches the last node")


async def test_a_block_imported_elsewhere_is_announced(nodes: Nodes) -> None:
    first = await nodes.start()
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.network.peer_count == 1)
    [raw] = first.builder.extend()  # straight through chain.import_block
    await first.network.announce_block(raw)
    await eventually(lambda: second.height == 1)


async def test_late_node_catches_up_from_genesis_with_data_set(nodes: Nodes) -> None:
    miner = nodes.make()
    miner.builder.extend(5)
    miner.idle(300)  # more than one range
    await nodes.start(miner)
    late = nodes.make(dial=[miner], has_dataset=False)
    assert late.chain.missing_datasets()
    await nodes.start(late)
    await eventually(lambda: late.height == 305, "the late node has every block")
    assert not late.chain.missing_datasets()
    assert same_head(miner, late)
    family = late.chain.head.families[0]
    assert count(family.best.model) == family.best.correct  # it really counted: the models are there


async def test_listener_without_parent_is_sent_what_it_misses(nodes: Nodes) -> None:
    """The dialler is ahead and cannot be dialled: the listener's verdict carries its locator."""
    listener = await nodes.start()
    ahead = nodes.make(dial=[listener], listen=None, blocks=150)
    await nodes.start(ahead)
    await eventually(lambda: listener.height == 150, "the listener was sent everything")


async def test_listener_without_data_set_is_sent_its_chunks(nodes: Nodes) -> None:
    listener = await nodes.start(has_dataset=False)
    ahead = nodes.make(dial=[listener], listen=None, blocks=2)
    await nodes.start(ahead)
    await eventually(lambda: listener.height == 2, "the listener has data set and blocks")
    assert not listener.chain.missing_datasets()


async def test_reorg_across_two_nodes(nodes: Nodes) -> None:
    first = await nodes.start(blocks=3)
    second = nodes.make(dial=[first])
    second.idle(2, seed=7)  # another branch, lighter
    async with second.network.subscribe() as events:
        await nodes.start(second)
        async for event in events:
            if isinstance(event, NewHead) and event.header.height == 3:
                break
    assert event.reorg_depth == 2
    assert same_head(first, second)

    second_branch = second.builder  # and back: the second grows, the first follows it
    for _ in range(2):
        await second.network.submit_block(encode_block(second_branch.idle()))
    await eventually(lambda: first.height == 5)
    assert same_head(first, second)


async def test_deep_reorg_over_several_ranges(nodes: Nodes) -> None:
    first = await nodes.start(blocks=300)
    second = nodes.make(dial=[first])
    second.idle(290, seed=7)
    await nodes.start(second)
    await eventually(lambda: same_head(first, second), "the second follows the heavier chain")
    assert second.height == 300


async def test_equal_weights_keep_the_first_seen(nodes: Nodes) -> None:
    first = await nodes.start(blocks=2)
    second = nodes.make(dial=[first])
    second.idle(2, seed=7)
    own = second.chain.head.head
    await nodes.start(second)
    await eventually(lambda: second.network.peer_count == 1)
    await asyncio.sleep(0.2)
    assert second.chain.head.head == own
    assert first.chain.head.head != own


async def test_catching_up_goes_on_after_a_disconnect(nodes: Nodes) -> None:
    miner = nodes.make(blocks=40)
    answers = 0
    honest = miner.network._server._blocks

    async def cut(request: pb.Range) -> list[pb.RawBlock]:
        nonlocal answers
        answers += 1
        if answers == 2:
            raise Fault("cut off")
        request.count = 16
        return await honest(request)

    miner.network._server._blocks = cut  # type: ignore[method-assign]
    await nodes.start(miner)
    late = await nodes.start(dial=[miner])
    await eventually(lambda: late.height == 16, "the first range is there")
    late.network._peers._sessions[miner.address].catch_up()
    await eventually(lambda: late.height == 40, "the rest came later")
    assert answers >= 4


async def test_lying_chunk_is_refused_and_its_sender_banned(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    liar = nodes.make()
    honest = liar.network._server._dataset_chunks
    asked = 0

    async def lie(request: pb.ChunkRange) -> list[pb.RawChunk]:
        nonlocal asked
        asked += 1
        [chunk] = await honest(request)
        data = bytearray(chunk.raw)
        data[-1] ^= 1
        return [pb.RawChunk(raw=bytes(data))]

    liar.network._server._dataset_chunks = lie  # type: ignore[method-assign]
    liar.idle()
    await nodes.start(liar)
    victim = await nodes.start(has_dataset=False, dial=[liar])
    await eventually(lambda: "bad-chunk" in caplog.text, "the lie is noticed")
    await eventually(lambda: not victim.network.peer_count, "the liar is left alone")
    await asyncio.sleep(0.3)
    assert asked == 1
    assert victim.chain.missing_datasets()
    assert victim.height == 0


async def test_data_set_of_several_chunks_resumes_from_another_peer(nodes: Nodes) -> None:
    big = tiny_dataset(40_000)
    spec = replace(make_spec(), dataset=big.manifest)
    dataset_id = DatasetId(big.manifest.dataset_id)

    def holder() -> Running:
        node = nodes.make(spec=spec, has_dataset=False)
        node.chain.add_dataset(dataset_id, big.pool.images.tobytes() + big.pool.labels.tobytes())
        return node

    poor, rich = holder(), holder()
    honest = poor.network._server._dataset_chunks
    starts: list[int] = []

    async def stingy(request: pb.ChunkRange) -> list[pb.RawChunk]:
        if request.start:
            raise Unavailable("no more today")
        return (await honest(request))[:2]

    async def watched(request: pb.ChunkRange) -> list[pb.RawChunk]:
        starts.append(request.start)
        return await other(request)

    other = rich.network._server._dataset_chunks
    poor.network._server._dataset_chunks = stingy  # type: ignore[method-assign]
    rich.network._server._dataset_chunks = watched  # type: ignore[method-assign]
    await nodes.start(poor)
    await nodes.start(rich)
    late = nodes.make(spec=spec, has_dataset=False)
    async with NodeClient(poor.address, spec) as node:
        await late.network._sync.catch_up(node)
    assert late.chain.missing_datasets()
    async with NodeClient(rich.address, spec) as node:
        await late.network._sync.catch_up(node)
    assert not late.chain.missing_datasets()
    assert starts[0] == 2  # what the first peer gave was kept
    await late.network.stop()


@pytest.mark.parametrize("lie", ["unlinked", "foreign", "garbage", "more", "stale"])
async def test_junk_ranges_end_the_attempt(nodes: Nodes, lie: str) -> None:
    liar = nodes.make(blocks=20)
    raws = [raw for _, raw in liar.chain.store.active_blocks(1, 20)]
    junk = {
        "unlinked": [raws[0], raws[2]],
        "foreign": raws[5:],
        "garbage": [b"\xff" * 600],
        "more": raws * 20,
        "stale": raws[:1],
    }[lie]
    asked = 0

    async def answer(_request: pb.Range) -> list[pb.RawBlock]:
        nonlocal asked
        asked += 1
        return [pb.RawBlock(raw=raw) for raw in junk]

    liar.network._server._blocks = answer  # type: ignore[method-assign]
    await nodes.start(liar)
    victim = nodes.make()
    async with NodeClient(liar.address) as node:
        with pytest.raises(Invalid) as refusal:
            await victim.network._sync.catch_up(node)
    assert refusal.value.code in {"bad-range", "bad-kind"}
    assert asked <= 20
    assert victim.height <= 1
    await victim.network.stop()


async def test_invalid_block_of_a_dialled_peer_ends_in_a_ban(nodes: Nodes) -> None:
    liar = nodes.make()
    good = liar.builder.idle()
    bad = Builder(liar.chain).tamper(good, y=bytes(32))
    header = decode_block(bad).header

    async def false_block(_request: pb.BlockRequest, _connection: str) -> pb.RawBlock:
        return pb.RawBlock(raw=bad)

    liar.network._server._block = false_block  # type: ignore[method-assign]
    await nodes.start(liar)
    victim = await nodes.start(dial=[liar])
    await eventually(lambda: liar.network.peer_count == 1)
    liar.network._intake.events.publish(NewHead(block_id(header), header, 1, 0, 0, len(bad)))
    await eventually(lambda: not victim.network.peer_count, "a false y is enough")
    assert victim.network._peers._conduct.is_banned(liar.address)
    assert victim.height == 0


async def test_another_block_than_asked_for_ends_in_a_ban(nodes: Nodes) -> None:
    liar = await nodes.start()
    other = encode_block(liar.builder.idle(nonce=5))

    victim = await nodes.start(dial=[liar])
    await eventually(lambda: liar.network.peer_count == 1)
    honest = liar.chain.store.block
    liar.chain.store.block = lambda identity: other if honest(identity) else None  # type: ignore[method-assign]
    await liar.network.submit_block(encode_block(liar.builder.idle()))
    await eventually(lambda: victim.network._peers._conduct.is_banned(liar.address))
    assert victim.height == 0


async def test_a_fault_of_ours_blames_no_peer(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.1)
    first = await nodes.start()
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.network.peer_count == 1)
    real, calls = second.chain.import_block, 0

    def broken_twice(raw: bytes) -> object:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise Fault("the disk is full")
        return real(raw)

    monkeypatch.setattr(second.chain, "import_block", broken_twice)
    await first.network.submit_block(encode_block(first.builder.idle()))
    await eventually(lambda: second.height == 1, "it works again and is tried again")
    assert calls == 3
    assert second.network.peer_count == 1


async def test_a_head_that_is_refused_is_offered_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.05)
    strict = await nodes.start()
    calls: list[bytes] = []

    def refuse(raw: bytes) -> None:
        calls.append(raw)
        raise Invalid("bad-claim")

    monkeypatch.setattr(strict.chain, "import_block", refuse)
    ahead = nodes.make(dial=[strict], blocks=1)
    await nodes.start(ahead)
    await eventually(lambda: calls)
    await asyncio.sleep(0.3)
    assert len(calls) == 1
    assert ahead.network.peer_count == 1


async def test_a_head_from_the_future_is_offered_again(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.05)
    late_clock = await nodes.start()
    monkeypatch.setattr(late_clock.chain, "now", lambda: GENESIS_TIME - 1_000)
    ahead = nodes.make(dial=[late_clock], blocks=1)
    await nodes.start(ahead)
    await eventually(lambda: ahead.network.peer_count == 1)
    await asyncio.sleep(0.2)
    assert late_clock.height == 0
    monkeypatch.setattr(late_clock.chain, "now", lambda: GENESIS_TIME)
    await eventually(lambda: late_clock.height == 1, "its clock was set")


async def test_pushing_ends_where_the_other_side_refuses(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = await nodes.start()
    real = strict.chain.import_block

    def refuse_third(raw: bytes) -> object:
        if decode_block(raw).header.height == 3:
            raise Invalid("bad-claim")
        return real(raw)

    monkeypatch.setattr(strict.chain, "import_block", refuse_third)
    ahead, bare = nodes.make(blocks=5), nodes.make(has_dataset=False)
    [dataset_id] = ahead.chain.head.datasets
    async with NodeClient(strict.address) as node:
        assert await ahead.network._sync.push(node, strict.chain.locator()) == 2
        with pytest.raises(Unavailable, match="not here either"):
            await bare.network._sync.push_dataset(node, dataset_id)
    assert strict.height == 2
    for idle in (ahead, bare):
        await idle.network.stop()


async def test_ban_ends_by_itself(nodes: Nodes) -> None:
    listener = await nodes.start()
    victim = nodes.make(dial=[listener], ban_s=0.5)
    victim.network._peers._conduct.blame(listener.address, Invalid("bad-lottery-value"))
    started = time.monotonic()
    await nodes.start(victim)
    # The first dial happens at once; what counts is that pauses are at least as long as the ban.
    victim.network._peers._conduct.blame(listener.address, Invalid("bad-lottery-value"))
    await eventually(lambda: victim.network.peer_count == 1)
    assert time.monotonic() - started < 5


async def test_peers_meet_again_after_a_restart(nodes: Nodes) -> None:
    listener = nodes.make()
    await listener.network.start()
    address = listener.address
    dialler = await nodes.start(dial=[listener])
    await eventually(lambda: dialler.network.peer_count == 1)
    await listener.network.stop()
    await eventually(lambda: dialler.network.peer_count == 0)
    again = await nodes.start(listen=address)
    await eventually(lambda: dialler.network.peer_count == 1, "the dialler came back")
    await again.network.submit_block(encode_block(again.builder.idle()))
    await eventually(lambda: dialler.height == 1)


async def test_peer_of_another_chain_is_not_kept(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    other = await nodes.start(spec=make_spec(name="other"))
    mine = await nodes.start(dial=[other])
    await eventually(lambda: "other-genesis" in caplog.text)
    assert mine.network.peer_count == 0
    assert other.network.peer_count == 0


async def test_a_node_that_dials_itself_gives_up(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    node = nodes.make(listen="127.0.0.1:0")
    await nodes.start(node)
    mirror = nodes.make(dial=[node], node_id=node.network.node_id)
    await nodes.start(mirror)
    await eventually(lambda: "is this node itself" in caplog.text)
    await eventually(mirror.network._peers._tasks[0].done)


async def test_waiting_transactions_reach_a_peer_that_comes_later(nodes: Nodes) -> None:
    first = await nodes.start()
    known = await first.network.submit_transaction(encode_transaction(transfer()))
    second = nodes.make(dial=[first])
    other = transfer(BOB)
    second.mempool.add(other)
    await nodes.start(second)
    await eventually(lambda: second.mempool.get(known), "by the watch's snapshot")
    await eventually(lambda: first.mempool.get(transaction_id(other)), "by announcement")


async def test_a_new_head_takes_its_transactions_out_of_the_mempool(nodes: Nodes) -> None:
    node = await nodes.start()
    payment = transfer()
    await node.network.submit_transaction(encode_transaction(payment))
    async with node.network.subscribe() as events:
        raw = encode_block(node.builder.idle(transactions=[payment]))
        await node.network.submit_block(raw)
        event = await anext(events)
    assert isinstance(event, NewHead)
    assert event.size_bytes == len(raw)
    assert event.verdict_us > 0
    assert not node.mempool.waiting()


async def test_watch_tells_head_transactions_and_news(nodes: Nodes) -> None:
    node = await nodes.start(blocks=2, role=Role.MINER)
    await node.network.submit_transaction(encode_transaction(transfer(ALICE, CAROL)))
    async with NodeClient(node.address, node.chain.spec) as client, aclosing(client.watch()) as events:
        head = await anext(events)
        assert isinstance(head, NewHead)
        assert head.is_snapshot
        assert head.block_id == node.chain.head.head
        waiting = await anext(events)
        assert isinstance(waiting, TransactionAccepted)
        await node.network.submit_block(encode_block(node.builder.idle()))
        new = await anext(events)
        assert isinstance(new, NewHead)
        assert not new.is_snapshot
        assert (new.header.height, new.reorg_depth) == (3, 0)
        assert (await client.status()).role == Role.MINER


async def test_stop_is_quick_and_quiet_under_load(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")
    first = nodes.make(blocks=200)
    await first.network.start()
    second = nodes.make(dial=[first])
    await second.network.start()
    client = NodeClient(first.address)
    watching = asyncio.create_task(anext(client.watch()))
    await eventually(lambda: second.height > 5, "catching up is under way")
    started = time.monotonic()
    await second.network.stop()
    await first.network.stop()
    assert time.monotonic() - started < 2
    await watching
    await client.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "bnnchain" in repr(task)]
    assert "Traceback" not in caplog.text
    assert "never" not in caplog.text
    with pytest.raises(Unavailable):
        await first.network.submit_block(b"")


async def test_stop_waits_for_no_slow_import(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await nodes.start()
    monkeypatch.setattr(node.chain, "import_block", lambda _raw: time.sleep(2.5))
    submitting = asyncio.create_task(node.network.submit_block(b""))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await node.network.stop()
    assert time.monotonic() - started < 2
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await submitting


async def test_lost_announcements_are_made_good(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.1)
    first = await nodes.start()
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.network.peer_count == 1)
    second.idle(2)  # imported behind the network's back: nobody is told
    await eventually(lambda: first.height == 2, "heads are compared now and then")


async def test_verdicts_outcomes(nodes: Nodes) -> None:
    node = await nodes.start()
    raw = encode_block(node.builder.idle())
    async with NodeClient(node.address) as client:
        assert (await client.announce_block(raw)).outcome == Outcome.ACCEPTED
        verdict = await client.announce_block(raw)
        assert verdict.outcome == Outcome.KNOWN
        assert verdict.item_id == node.chain.head.head
