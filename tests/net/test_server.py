"""The server over the wire: what it refuses, with which code, and what it survives."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc
import pytest
from builders import ALICE, CAROL, COINS, MINER, Builder, make_spec, tiny_dataset, transfer
from net.running import Nodes, Running, eventually

from bnnchain.consensus.codec import decode_block, encode_block, encode_transaction
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockId, DatasetId, Height, TransactionId
from bnnchain.datasets.manifest import encode_manifest
from bnnchain.net import intake as intake_module
from bnnchain.net import limits
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Head, Identity, Outcome, Role, Status, TransactionState
from bnnchain.net.network import Network
from bnnchain.net.reads import MAX_RANGE_BLOCKS

METHOD = "/bnnchain.rpc.v1.Node/"


async def raw_call(address: str, method: str, data: bytes) -> bytes:
    """Call a method with any bytes, as no proper client would."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(METHOD + method)
        reply: bytes = await call(data, timeout=10)
        return reply


# Handshake.


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocol_version": 2}, "other-version"),
        ({"chain_id": 8}, "other-chain"),
        ({"genesis_id": BlockId(b"g" * 32)}, "other-genesis"),
    ],
)
async def test_handshake_refuses_what_differs(nodes: Nodes, change: dict[str, Any], code: str) -> None:
    node = await nodes.start()
    spec = node.chain.spec
    ours = Identity(b"i" * 16, Role.VALIDATOR).hello(spec, Head(spec.genesis_id, Height(0), 0))
    async with NodeClient(node.address) as client:
        theirs = await client.handshake(ours)
        assert (theirs.genesis_id, theirs.node_id) == (spec.genesis_id, node.network.node_id)
        with pytest.raises(Invalid) as refusal:
            await client.handshake(replace(ours, **change))
    assert refusal.value.code == code


async def test_client_of_another_chain_is_told_at_once(nodes: Nodes) -> None:
    node = await nodes.start()
    with pytest.raises(Invalid) as refusal:
        async with NodeClient(node.address, make_spec(name="other")):
            pass
    assert refusal.value.code == "other-genesis"


# Bad blocks and transactions: the sender is told the code.


def refusals(node: Running) -> dict[str, bytes]:
    good, builder = node.builder.next(), node.builder
    raw = encode_block(good)
    flipped = bytearray(good.model)
    flipped[-3] ^= 0x10
    return {
        "bad-encoding": raw[:-1],
        "bad-kind": b"\xff" * 600,
        "bad-height": builder.tamper(good, height=9),
        "bad-claim": builder.tamper(good, correct_new=good.header.correct_new + 1),
        "bad-model-hash": builder.tamper(good, model=bytes(flipped)),
        "bad-place": builder.tamper(good, family_id=5),
        "time-too-new": builder.tamper(good, timestamp=good.header.timestamp + 10**7),
        "bad-header-signature": builder.tamper(good, signature=bytes(64)),
        "bad-lottery-value": builder.tamper(good, y=bytes(32)),
    }


async def test_sender_of_a_bad_block_is_told_its_code(nodes: Nodes) -> None:
    node = await nodes.start()
    async with NodeClient(node.address) as client:
        for code, raw in refusals(node).items():
            verdict = await client.announce_block(raw)
            assert (verdict.outcome, verdict.code) == (Outcome.INVALID, code)
            assert verdict.message.startswith(code)
        # The false y was one lie too many for this connection: it is told that too.
        with pytest.raises(Unavailable, match="banned"):
            await client.announce_block(encode_block(node.builder.next()))
    async with NodeClient(node.address) as other:
        assert (await other.announce_block(encode_block(node.builder.next()))).outcome == Outcome.ACCEPTED


async def test_block_with_unknown_parent_is_answered_with_a_locator(nodes: Nodes) -> None:
    node = await nodes.start(blocks=3)
    stranger = nodes.make()
    raw = stranger.idle(6, seed=7)[-1]
    async with NodeClient(node.address) as client:
        verdict = await client.announce_block(raw)
    assert verdict.outcome == Outcome.UNAVAILABLE
    assert "unknown parent" in verdict.message
    assert list(verdict.locator) == node.chain.locator()
    assert verdict.item_id == block_id(decode_block(raw).header)


async def test_unknown_parent_of_a_dialled_peer_triggers_catching_up(nodes: Nodes) -> None:
    first = nodes.make()
    await nodes.start(first)
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.network.peer_count == 1)
    raws = first.idle(5)  # behind the network's back, so that no watch tells of it
    spec = first.chain.spec
    hello = Identity(first.network.node_id, Role.MINER).hello(spec, Head(spec.genesis_id, Height(0), 0))
    async with NodeClient(second.address) as client:
        await client.handshake(hello)
        verdict = await client.announce_block(raws[-1])
    assert verdict.outcome == Outcome.UNAVAILABLE
    assert not verdict.locator
    await eventually(lambda: second.height == 5)


async def test_fault_blames_nobody(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await nodes.start()

    def broken(_raw: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(node.chain, "import_block", broken)
    async with NodeClient(node.address) as client:
        for _ in range(12):
            assert (await client.announce_block(b"x")).outcome == Outcome.FAULT


async def test_one_unproven_block_at_a_time(nodes: Nodes) -> None:
    node = await nodes.start()
    raw = encode_block(node.builder.next())
    async with NodeClient(node.address) as client:
        answers = await asyncio.gather(*(client.announce_block(raw) for _ in range(4)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert refused
    assert len(refused) < len(answers)
    assert all("one unproven block" in str(answer) for answer in refused)


async def test_cancelling_makes_no_room_for_another_block(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await nodes.start()
    raw, gate = encode_block(node.builder.idle()), threading.Event()
    real = node.chain.import_block

    def slow(data: bytes) -> object:
        gate.wait(5)
        return real(data)

    monkeypatch.setattr(node.chain, "import_block", slow)
    async with NodeClient(node.address) as client:
        first = asyncio.create_task(client.announce_block(raw))
        await eventually(lambda: node.network._server._judging)
        first.cancel()
        for _ in range(3):
            with pytest.raises(Unavailable, match="one unproven block"):
                await client.announce_block(raw)
        gate.set()
        await eventually(lambda: node.height == 1)


async def test_our_own_bug_is_not_told_in_detail(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.start()
    monkeypatch.setattr(Status, "__init__", lambda *_, **__: 1 // 0)
    async with NodeClient(node.address) as client:
        with pytest.raises(Fault, match=r"this node failed$"):
            await client.status()
    assert "ZeroDivisionError" in caplog.text


async def test_transactions_are_judged_and_looked_up(nodes: Nodes) -> None:
    node = await nodes.start()
    payment = transfer()
    identity = transaction_id(payment)
    async with NodeClient(node.address, node.chain.spec) as client:
        assert (await client.transaction_status(identity)).state == TransactionState.UNKNOWN
        assert await client.submit_transaction(encode_transaction(payment)) == identity
        assert await client.submit_transaction(encode_transaction(payment)) == identity
        assert (await client.announce_transaction(encode_transaction(payment))).outcome == Outcome.KNOWN
        assert (await client.transaction_status(identity)).state == TransactionState.WAITING
        account = await client.account(public_key(ALICE))
        assert (account.balance, account.nonce, account.next_nonce) == (COINS, 0, 1)
        await node.network.submit_block(encode_block(node.builder.idle(transactions=[payment])))
        node.idle(2)
        status = await client.transaction_status(identity)
        assert (status.state, status.height, status.confirmations) == (TransactionState.INCLUDED, 1, 3)
        assert status.block_id == node.chain.store.active_id(1)
        assert (await client.account(public_key(CAROL))).balance == 100
        miner = await client.account(public_key(MINER))
        assert (miner.balance, miner.immature, miner.height) == (1_250 + 1, 2 * 1_250, 3)  # fee 1; mature after 3
        bad = {
            "bad-tx-nonce": transfer(nonce=9),
            "bad-tx-balance": transfer(nonce=1, amount=10 * COINS),
            "bad-chain-id": transfer(nonce=1, chain_id=9),
            "bad-tx-expired": transfer(nonce=1, expiry_height=1),
        }
        for code, transaction in bad.items():
            with pytest.raises(Invalid) as refusal:
                await client.submit_transaction(encode_transaction(transaction))
            assert refusal.value.code == code
            assert (await client.announce_transaction(encode_transaction(transaction))).code == code
        for data, code in ((b"", "bad-encoding"), (b"\1\7" + bytes(8), "bad-tx-kind"), (bytes(5_000), "bad-encoding")):
            assert (await client.announce_transaction(data)).code == code


# Reads.


async def test_ranges(nodes: Nodes) -> None:
    node = await nodes.start(blocks=30)
    chain = node.chain
    raws = [raw for _, raw in chain.store.active_blocks(1, 30)]
    async with NodeClient(node.address) as client:
        assert await client.blocks(count=4) == raws[:4]
        assert await client.blocks(start_height=29) == raws[28:]
        assert await client.blocks(start_height=31) == []
        assert await client.blocks([BlockId(b"?" * 32), block_id(decode_block(raws[9]).header)], count=2) == raws[10:12]
        headers = await client.headers(start_height=5, count=3)
        assert [header.height for header in headers] == [5, 6, 7]
        assert len(await client.headers()) == 30
        assert await client.block(chain.head.head) == raws[-1]
        with pytest.raises(Unavailable, match="no block"):
            await client.block(BlockId(b"?" * 32))
        for call in (
            client.block(BlockId(b"short")),
            client.blocks([BlockId(b"short")]),
            client.blocks([BlockId(bytes(32))] * 100),
            client.headers(start_height=1 << 63),
            client.account(public_key(ALICE)[:5]),  # type: ignore[arg-type]
            client.transaction_status(TransactionId(b"")),
            client.dataset_chunks(DatasetId(b""), 0, 1),
        ):
            with pytest.raises(Invalid) as refusal:
                await call  # type: ignore[misc]
            assert refusal.value.code == "bad-message"


async def test_a_range_is_never_longer_than_its_limit(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await nodes.start(blocks=MAX_RANGE_BLOCKS + 10)
    async with NodeClient(node.address) as client:
        assert len(await client.blocks(count=2**32 - 1)) == MAX_RANGE_BLOCKS
        monkeypatch.setattr("bnnchain.net.reads.MAX_RANGE_BYTES", 2_000)
        raws = await client.blocks(start_height=1)
        assert len(raws) == 4
        assert sum(map(len, raws)) <= 2_000


async def test_chunks(nodes: Nodes) -> None:
    node = await nodes.start()
    bare = await nodes.start(has_dataset=False)
    [dataset_id] = node.chain.head.datasets
    async with NodeClient(node.address) as client:
        [chunk] = await client.dataset_chunks(dataset_id, 0, 50)
        assert chunk.data == node.chain.store.dataset(dataset_id)
        with pytest.raises(Invalid) as refusal:
            await client.dataset_chunks(dataset_id, 1, 1)
        assert refusal.value.code == "bad-chunk"
        assert (await client.offer_chunk(dataset_id, chunk)).outcome == Outcome.KNOWN
        with pytest.raises(Unavailable):
            await client.dataset_chunks(DatasetId(b"?" * 32), 0, 1)
    async with NodeClient(bare.address) as client:
        with pytest.raises(Unavailable, match="not here"):
            await client.dataset_chunks(dataset_id, 0, 1)
        lie = replace(chunk, data=b"?" * len(chunk.data))
        assert (await client.offer_chunk(dataset_id, lie)).code == "bad-chunk"
        with pytest.raises(Unavailable, match="banned"):
            await client.offer_chunk(dataset_id, chunk)
        status = await client.status()
        assert (status.missing_dataset_ids, status.backend) == ([dataset_id], "")
    async with NodeClient(bare.address) as client:
        assert (await client.offer_chunk(dataset_id, chunk)).outcome == Outcome.ACCEPTED
        assert (await client.status()).missing_dataset_ids == []


async def test_status(nodes: Nodes) -> None:
    node = await nodes.start(blocks=2)
    node.mempool.add(transfer())
    node.builder.extend()
    async with NodeClient(node.address) as client:
        status = await client.status()
    state = node.chain.head
    assert (status.height, status.head.block_id, status.head.weight) == (3, state.head, state.weight)
    assert (status.chain_name, status.chain_id, status.genesis_id) == ("tiny", 7, node.chain.spec.genesis_id)
    assert (status.mempool_count, status.block_count, status.family_count, status.peer_count) == (1, 3, 1, 0)
    assert (status.backend, status.role, status.is_syncing) == ("reference", Role.VALIDATOR, False)
    assert status.head_timestamp_s == state.timestamp


# What nobody should send.


@pytest.mark.parametrize(
    "method", ["Handshake", "AnnounceBlock", "SubmitTransaction", "Status", "Account", "OfferChunk"]
)
async def test_garbage_bytes_end_one_call_only(nodes: Nodes, method: str) -> None:
    node = await nodes.start()
    for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x7f", b"\x08"):
        with pytest.raises(grpc.aio.AioRpcError):
            await raw_call(node.address, method, data)
    async with NodeClient(node.address, node.chain.spec) as client:
        assert (await client.status()).height == 0


async def test_oversized_message_is_refused_before_it_is_read(nodes: Nodes) -> None:
    node = await nodes.start()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await raw_call(node.address, "AnnounceBlock", bytes(limits.MAX_MESSAGE_BYTES + 1))
    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    async with NodeClient(node.address) as client:
        verdict = await client.announce_block(bytes(limits.MAX_MESSAGE_BYTES - 100))
        assert (verdict.outcome, verdict.code) == (Outcome.INVALID, "bad-block-size")
        with pytest.raises(Unavailable):
            await client.announce_block(bytes(limits.MAX_MESSAGE_BYTES + 1))


async def test_half_open_and_silent_connections_do_no_harm(nodes: Nodes) -> None:
    node = await nodes.start(blocks=1)
    host, _, port = node.address.rpartition(":")
    writers = []
    for data in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(200)):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writers.append(writer)
    async with NodeClient(node.address, node.chain.spec) as client:
        assert (await client.status()).height == 1
    for writer in writers:
        writer.close()


async def test_a_reader_that_takes_nothing_is_cut_off(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRITE_TIMEOUT_S", 0.3)
    node = await nodes.start()
    payload = bytes(1 << 20)
    server = node.network._server
    monkeypatch.setattr(server, "_read_range", lambda *_: asyncio.sleep(0, [payload] * 8))
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(node.address, options=options) as channel:
        call: Any = channel.unary_stream(METHOD + "Blocks")(b"", timeout=20)
        await eventually(lambda: server._range_streams == 1, "the stream began")
        await eventually(lambda: server._range_streams == 0, "the stream was cut")
        call.cancel()
    async with NodeClient(node.address) as client:
        assert (await client.status()).height == 0


async def test_too_many_range_streams_watchers_and_reads_are_refused(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await nodes.start(blocks=1)
    async with NodeClient(node.address) as client:
        monkeypatch.setattr(limits, "MAX_RANGE_STREAMS", 0)
        with pytest.raises(Unavailable, match="busy"):
            await client.blocks()
        monkeypatch.setattr(limits, "MAX_RANGE_STREAMS", 16)
        monkeypatch.setattr(limits, "MAX_RANGES_OF_CONNECTION", 0)
        with pytest.raises(Unavailable, match="busy"):
            await client.blocks()
        monkeypatch.setattr(limits, "MAX_WATCHES_OF_CONNECTION", 1)
        async with aclosing(client.watch()) as events:
            await anext(events)
            with pytest.raises(Unavailable, match="too many watches"):
                await anext(client.watch())
            async with NodeClient(node.address) as other:
                await anext(other.watch())  # each connection has its own
        with monkeypatch.context() as patch:
            patch.setattr(intake_module, "MAX_PENDING_READS", 0)
            with pytest.raises(Unavailable, match="busy"):
                await client.status()
        monkeypatch.setattr(intake_module, "MAX_PENDING_IMPORTS", 0)
        verdict = await client.announce_block(encode_block(node.builder.idle()))
        assert verdict.outcome == Outcome.UNAVAILABLE


# Addresses.


async def test_taken_and_open_addresses_are_refused(nodes: Nodes) -> None:
    node = await nodes.start()
    second = nodes.make(listen=node.address)
    with pytest.raises(Fault, match="cannot listen"):
        await second.network.start()
    await second.network.stop()
    for options in ({"listen": "0.0.0.0:0"}, {"dial": ["192.0.2.1:9555"]}, {"listen": "[::]:0"}):
        with pytest.raises(Invalid) as refusal:
            Network(node.chain, node.mempool, **options)  # type: ignore[arg-type]
        assert refusal.value.code == "insecure-address"
    open_node = Network(node.chain, node.mempool, listen="0.0.0.0:0", allow_plain=True)
    await open_node.start()
    await open_node.stop()
    with pytest.raises(Invalid) as refusal:
        Network(node.chain, node.mempool, dial=[f"127.0.0.1:{port}" for port in range(1, 40)])
    assert refusal.value.code == "too-many-peers"


async def test_nobody_there() -> None:
    async with NodeClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await client.status()
    with pytest.raises(Unavailable, match="closed"):
        await client.status()


async def test_a_builder_on_the_same_chain_is_told_known(nodes: Nodes) -> None:
    node = await nodes.start()
    [raw] = Builder(node.chain).extend()
    async with NodeClient(node.address) as client:
        assert (await client.announce_block(raw)).outcome == Outcome.KNOWN


# Manifests.


async def test_a_manifest_is_given_and_checked_against_its_id(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await nodes.start()
    wanted = tiny_dataset().manifest
    async with NodeClient(node.address) as client:
        assert await client.manifest(DatasetId(wanted.dataset_id)) == wanted
        with pytest.raises(Unavailable, match="no data set 6464"):
            await client.manifest(DatasetId(b"d" * 32))
        with pytest.raises(Invalid) as refusal:
            await client.manifest(DatasetId(b"short"))
        assert refusal.value.code == "bad-message"
        other = replace(wanted, name="other")
        monkeypatch.setattr("bnnchain.net.server.encode_manifest", lambda _: encode_manifest(other))
        with pytest.raises(Invalid) as refusal:
            await client.manifest(DatasetId(wanted.dataset_id))
        assert refusal.value.code == "bad-manifest"
