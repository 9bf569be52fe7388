"""Pools of uploaded data sets between nodes: fetched from whoever has them, given to who lacks them, lies refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, CHAIN_ID, Builder, make_spec
from learnable import tiny_dataset, uploaded_dataset
from net.running import Nodes, Running, eventually

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.election import open_places
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.transactions import sign_transaction
from bnnchain.consensus.types import Amount, BlockKind, DatasetId, Height, Upload
from bnnchain.datasets.chunks import ChunkTree
from bnnchain.datasets.payload import encode_payload
from bnnchain.net import session as session_module
from bnnchain.net import sync as sync_module
from bnnchain.net.client import NodeClient
from bnnchain.rpc.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec

POOL_SIZES = (290, 310, 330)
STRANGE = [DatasetId(tiny_dataset(size).manifest.dataset_id) for size in POOL_SIZES]
"""Data sets that no builder gives to a chain by itself."""
PAYLOADS = {
    dataset_id: encode_payload(tiny_dataset(size).pool) for dataset_id, size in zip(STRANGE, POOL_SIZES, strict=True)
}


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.05)


def small_spec(**params: int) -> ChainSpec:
    quick = {"upload_deposit": 1_000, "upload_fee_per_kib": 1, "availability_window": 3, "availability_least": 2}
    return make_spec(**{**quick, "majority_margin_bp": 0, **params})


def proposing(nodes: Nodes, count: int = 1, **options: object) -> Running:
    """Return a node on whose chain ``count`` data sets wait that nobody has the pools of."""
    node = nodes.make(spec=small_spec(), **options)  # type: ignore[arg-type]
    orders = [
        sign_transaction(
            ALICE,
            Upload(tiny_dataset(size).manifest, 2_800, Amount(0)),
            chain_id=CHAIN_ID,
            nonce=nonce,
            fee=Amount(1),
            expiry_height=Height(10**6),
        )
        for nonce, size in enumerate(POOL_SIZES[:count])
    ]
    node.builder.extend(kind=BlockKind.IDLE, transactions=orders)
    return node


def holding(nodes: Nodes, count: int = 1, **options: object) -> Running:
    node = proposing(nodes, count, **options)
    for dataset_id in STRANGE[:count]:
        node.chain.add_dataset(dataset_id, PAYLOADS[dataset_id])
    return node


async def test_pools_are_fetched_from_a_peer_that_has_them(nodes: Nodes) -> None:
    rich = await nodes.start(holding(nodes, 3))
    poor = await nodes.start(spec=small_spec(), dial=[rich])
    await eventually(lambda: poor.height == 1 and not poor.chain.missing_datasets(), "three pools came")
    for dataset_id in STRANGE:
        assert poor.chain.store.dataset(dataset_id) == PAYLOADS[dataset_id]


async def test_a_node_that_cannot_be_dialled_gives_its_peer_the_pool(nodes: Nodes) -> None:
    """The uploader behind a firewall: nobody can ask it, so it asks what is missing and sends that."""
    poor = await nodes.start(spec=small_spec())
    await nodes.start(holding(nodes, dial=[poor], listen=None))
    await eventually(lambda: poor.height == 1 and not poor.chain.missing_datasets(), "the pool was given")


async def test_a_pool_is_given_once_to_a_peer_that_never_has_enough(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    glutton = await nodes.start(proposing(nodes))
    monkeypatch.setattr(glutton.chain, "missing_datasets", lambda: STRANGE[:1])
    monkeypatch.setattr(glutton.chain, "add_dataset", lambda *_: None)
    giver = holding(nodes, dial=[glutton], listen=None)
    given: list[DatasetId] = []
    real = giver.network._sync.push_dataset

    async def push(node: NodeClient, dataset_id: DatasetId) -> None:
        given.append(dataset_id)
        await real(node, dataset_id)

    monkeypatch.setattr(giver.network._sync, "push_dataset", push)
    await nodes.start(giver)
    await eventually(lambda: given)
    await asyncio.sleep(0.5)
    assert given == STRANGE[:1]


async def test_a_peer_that_withholds_is_passed_over(nodes: Nodes) -> None:
    miser = await nodes.start(proposing(nodes))
    rich = await nodes.start(holding(nodes))
    poor = await nodes.start(spec=small_spec(), dial=[miser, rich])
    await eventually(lambda: poor.height == 1 and not poor.chain.missing_datasets(), "the other one had it")
    assert poor.network.peer_count == 2, "who has nothing has done nothing wrong"


async def test_a_peer_that_sends_junk_is_banned_and_another_serves(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    liar, honest = holding(nodes), holding(nodes)

    async def lie(request: pb.ChunkRange) -> list[pb.RawChunk]:
        [chunk] = liar.network._intake.reads.chunks(DatasetId(request.dataset_id), 0, 1)
        return [pb.RawChunk(raw=chunk[:-1] + bytes([chunk[-1] ^ 1]))]

    liar.network._server._dataset_chunks = lie  # type: ignore[method-assign]
    await nodes.start(liar)
    poor = await nodes.start(spec=small_spec(), dial=[liar])
    await eventually(lambda: "bad-chunk" in caplog.text)
    assert poor.network._peers._conduct.is_banned(liar.address)
    await nodes.start(honest)
    async with NodeClient(honest.address) as client:
        await poor.network._sync.fetch_datasets(client)
    assert not poor.chain.missing_datasets()


async def test_catching_up_fetches_a_pool_as_soon_as_a_block_needs_it(nodes: Nodes) -> None:
    """Data set and founding model come in one range: the block that needs the pool waits for it, and only for it."""
    first = nodes.make(spec=small_spec())
    order = sign_transaction(
        ALICE,
        Upload(uploaded_dataset().manifest, 2_800, Amount(0)),
        chain_id=CHAIN_ID,
        nonce=0,
        fee=Amount(1),
        expiry_height=Height(10**6),
    )
    first.builder.extend(kind=BlockKind.IDLE, transactions=[order])
    for _ in range(2):
        first.builder.extend(kind=BlockKind.IDLE, proofs=first.builder.proofs(0))
    state, uploaded = first.chain.head, DatasetId(uploaded_dataset().manifest.dataset_id)
    places = open_places(state, 10**4, state.spec.params_at(Height(4)))
    place = next(place for place in places if place.dataset_id == uploaded)
    await nodes.start(first)
    block = Builder(first.chain).found(place, timestamp=state.timestamp + 10**4)
    assert first.chain.import_block(encode_block(block)).is_head
    first.idle(5)
    late = nodes.make(spec=small_spec())
    async with NodeClient(first.address) as node:
        assert await late.network._sync.catch_up(node) > 0
    assert late.chain.head.head == first.chain.head.head
    assert not late.chain.missing_datasets()
    await late.network.stop()


async def test_without_anybody_who_has_the_pool_catching_up_ends(nodes: Nodes) -> None:
    """It must not ask for ever; what came before the block that waits is kept."""
    first = await nodes.start(proposing(nodes))
    first.idle(3)
    late = nodes.make(spec=small_spec())

    real = late.chain.import_blocks

    def import_blocks(raws: list[bytes]) -> object:
        imports = [real([raw])[0] for raw in raws[: max(0, 2 - late.height)]]
        if len(imports) < len(raws):
            raise Unavailable("data set is not here yet")
        return imports

    late.chain.import_blocks = import_blocks  # type: ignore[method-assign,assignment]
    async with NodeClient(first.address) as node:
        with pytest.raises(Unavailable, match="not here yet"):
            await asyncio.wait_for(late.network._sync.catch_up(node), 10)
    assert late.height == 2
    assert late.chain.missing_datasets() == STRANGE[:1]
    await late.network.stop()


async def test_assemblers_are_bounded(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "MAX_ASSEMBLERS", 2)
    node = proposing(nodes, 3)
    sync = node.network._sync
    for dataset_id in STRANGE:
        sync._assembler(dataset_id)
    assert list(sync._assemblers) == STRANGE[1:]
    [chunk] = ChunkTree(PAYLOADS[STRANGE[0]])
    assert await sync.take_chunk(STRANGE[0], chunk), "the one that had to go begins anew"
    assert node.chain.missing_datasets() == STRANGE[1:]
    assert not await sync.take_chunk(STRANGE[0], chunk), "nobody asked for it any more"
    with pytest.raises(Invalid, match="bad-chunk"):
        await sync.take_chunk(STRANGE[1], chunk)
    with pytest.raises(Unavailable, match="unknown data set"):
        sync._assembler(DatasetId(bytes(32)))
    await node.network.stop()


async def test_the_verdict_names_the_data_set_that_the_block_needs(nodes: Nodes) -> None:
    """Others may be missing for long: an uploaded one that nobody has must not stand in the way of the chain's own."""
    bare = await nodes.start(spec=small_spec(), has_dataset=False)
    rich = proposing(nodes)
    [raw] = [raw for _, raw in rich.chain.store.active_blocks(1, 1)]
    async with NodeClient(bare.address) as client:
        verdict = await client.announce_block(raw)
    assert verdict.missing_dataset_id == rich.chain.spec.dataset.dataset_id
    await rich.network.stop()


async def test_a_slow_pool_holds_up_no_blocks(nodes: Nodes) -> None:
    """A peer that takes for ever over a pool nobody counts on yet must not keep us from the chain."""
    slow, quick = holding(nodes), proposing(nodes)
    stuck, released = asyncio.Event(), asyncio.Event()

    async def crawl(_request: pb.ChunkRange) -> list[pb.RawChunk]:
        stuck.set()
        await released.wait()
        raise Unavailable("never mind")

    slow.network._server._dataset_chunks = crawl  # type: ignore[method-assign]
    await nodes.start(slow)
    poor = await nodes.start(spec=small_spec(), dial=[slow])
    await asyncio.wait_for(stuck.wait(), 10)
    quick.idle(200)
    await nodes.start(quick)
    async with NodeClient(quick.address) as node:
        await asyncio.wait_for(poor.network._sync.catch_up(node), 10)
    assert poor.height == 201
    released.set()


async def test_two_peers_that_send_the_same_pool_at_once_have_done_nothing_wrong(nodes: Nodes) -> None:
    rich = await nodes.start(holding(nodes))
    poor = proposing(nodes)
    sync, [dataset_id] = poor.network._sync, STRANGE[:1]
    honest = rich.network._server._dataset_chunks
    [chunk] = ChunkTree(PAYLOADS[dataset_id])

    async def overtaken(request: pb.ChunkRange) -> list[pb.RawChunk]:
        sync._assembler(dataset_id).add(chunk)  # it came from elsewhere while the answer was on its way
        return await honest(request)

    rich.network._server._dataset_chunks = overtaken  # type: ignore[method-assign]
    async with NodeClient(rich.address) as node:
        await sync.fetch_datasets(node)
    assert not poor.chain.missing_datasets()
    await poor.network.stop()
