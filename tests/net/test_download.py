"""Ranges from several peers: shared out, held against the lead's headers, handed on from the slow and the lying."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from net.running import Nodes, eventually

from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.net import download as download_module
from bnnchain.net import limits
from bnnchain.net.client import NodeClient
from bnnchain.net.download import Download, Planned, plan
from bnnchain.rpc.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bnnchain.consensus.types import BlockId

COUNT = 160


class Peer:
    """Answers for ranges as a node would that has these blocks, after a while."""

    def __init__(
        self, name: str, raws: Sequence[bytes], *, delay_s: float = 0.0, fail: Exception | None = None
    ) -> None:
        self.address = name
        self.raws = list(raws)
        self.delay_s = delay_s
        self.fail = fail
        self.asked: list[int] = []
        self.spoil: Callable[[list[bytes]], list[bytes]] = lambda answer: answer

    async def blocks(self, locator: Iterable[BlockId] = (), *, count: int, timeout_s: float) -> list[bytes]:
        ids = [block_id(decode_header(raw[:HEADER_BYTES])) for raw in self.raws]
        start = next((ids.index(each) + 1 for each in locator if each in ids), 0)
        self.asked.append(start)
        if self.delay_s > timeout_s:
            await asyncio.sleep(timeout_s)
            raise Unavailable("did not answer in time")
        await asyncio.sleep(self.delay_s)
        if self.fail is not None:
            raise self.fail
        return self.spoil(self.raws[start : start + count])


class Case:
    """A download of some blocks: what was imported, who was blamed, how much was held."""

    def __init__(self, nodes: Nodes, count: int = COUNT) -> None:
        source = nodes.make(blocks=count)
        self.raws = [raw for _, raw in source.chain.store.active_blocks(1, count)]
        self.wanted = plan([decode_header(raw[:HEADER_BYTES]) for raw in self.raws])
        self.genesis_id = source.chain.spec.genesis_id
        self.taken: list[bytes] = []
        self.blamed: list[tuple[str, str]] = []
        self.refuse: Callable[[bytes], None] = lambda _: None
        self.import_s = 0.0
        self.most_bytes = 0
        self.download: Download | None = None

    async def take(self, raw: bytes) -> bool:
        await asyncio.sleep(self.import_s)
        self.refuse(raw)
        self.taken.append(raw)
        assert self.download is not None
        self.most_bytes = max(self.most_bytes, self.download._size_bytes)
        return True

    async def run(self, lead: Any, *helpers: Any) -> int:
        blame: Any = lambda node, error: self.blamed.append((node.address, error.code))  # noqa: E731
        self.download = Download(self.wanted, self.genesis_id, self.take, blame)
        return await asyncio.wait_for(self.download.run(lead, helpers), 20)


@pytest.fixture
def case(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "SYNC_RANGE_BLOCKS", 16)
    return Case(nodes)


async def test_peers_share_the_work_and_blocks_are_imported_in_order(case: Case) -> None:
    peers = [Peer(name, case.raws, delay_s=0.01) for name in "abcd"]
    assert await case.run(*peers) == COUNT
    assert case.taken == case.raws
    assert case.download is not None
    assert set(case.download.sources) == set("abcd")
    assert sum(case.download.sources.values()) == COUNT, "nothing was fetched twice"
    assert not case.blamed


async def test_one_peer_alone_is_enough(case: Case) -> None:
    assert await case.run(Peer("a", case.raws)) == COUNT
    assert case.taken == case.raws


async def test_a_stalled_range_goes_to_another_peer(case: Case) -> None:
    stalled = Peer("stalled", case.raws, delay_s=9.0)
    assert await case.run(Peer("lead", case.raws, delay_s=0.01), stalled) == COUNT
    assert case.taken == case.raws
    assert len(stalled.asked) == 1, "it got one range and no more"
    assert not case.blamed, "slowness is no lie"


async def test_who_drips_gives_back_what_it_did_not_bring(case: Case) -> None:
    dripping = Peer("dripping", case.raws, delay_s=0.3)
    dripping.spoil = lambda answer: answer[:2]
    assert await case.run(Peer("lead", case.raws, delay_s=0.005), dripping) == COUNT
    assert len(dripping.asked) == 1
    assert case.download is not None
    assert case.download.sources["dripping"] == 2


async def test_a_stalled_lead_is_replaced_by_its_helpers(case: Case) -> None:
    assert await case.run(Peer("lead", case.raws, delay_s=9.0), Peer("helper", case.raws)) == COUNT


async def test_who_has_another_branch_or_fewer_blocks_is_no_liar(case: Case, nodes: Nodes) -> None:
    other = nodes.make()
    other.idle(COUNT, seed=7)
    branch = [raw for _, raw in other.chain.store.active_blocks(1, COUNT)]
    forked = Peer("forked", branch)
    behind = Peer("behind", case.raws[:100])
    assert await case.run(Peer("lead", case.raws, delay_s=0.01), forked, behind) == COUNT
    assert case.taken == case.raws
    assert not case.blamed
    assert case.download is not None
    assert "forked" not in case.download.sources


def spoilt(raws: list[bytes]) -> dict[str, Callable[[list[bytes]], list[bytes]]]:
    return {
        "garbage": lambda answer: [b"\xff" * 600, *answer[1:]],
        "a hole": lambda answer: [*answer[:1], *answer[2:]],
        "from before": lambda answer: raws[:1] if answer and answer[0] != raws[0] else answer,
        "from elsewhere": lambda answer: raws[100:116],
        "cut off": lambda answer: [raw[:100] for raw in answer],
    }


@pytest.mark.parametrize("lie", sorted(spoilt([])))
async def test_a_lying_helper_is_blamed_and_its_range_fetched_elsewhere(case: Case, lie: str) -> None:
    liar = Peer("liar", case.raws)
    liar.spoil = spoilt(case.raws)[lie]
    assert await case.run(Peer("lead", case.raws, delay_s=0.01), liar) == COUNT
    assert case.taken == case.raws
    assert {name for name, _ in case.blamed} == {"liar"}
    assert len(case.blamed) == 1


@pytest.mark.parametrize("lie", ["garbage", "a hole", "from elsewhere", "cut off"])
async def test_a_lying_lead_ends_the_attempt(case: Case, lie: str) -> None:
    liar = Peer("liar", case.raws)
    liar.spoil = spoilt(case.raws)[lie]
    with pytest.raises(Invalid):
        await case.run(liar)
    assert not case.blamed, "the caller blames it"


async def test_a_bad_body_is_its_senders_fault_and_fetched_elsewhere(case: Case) -> None:
    liar = Peer("liar", case.raws)
    liar.spoil = lambda answer: [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in answer]

    def refuse(raw: bytes) -> None:
        if raw not in case.raws:
            raise Invalid("bad-body-root")

    case.refuse = refuse
    assert await case.run(Peer("lead", case.raws, delay_s=0.01), liar) == COUNT
    assert case.taken == case.raws
    assert set(case.blamed) == {("liar", "bad-body-root")}


async def test_a_block_that_nobody_has_right_is_the_leads_fault(case: Case) -> None:
    def refuse(raw: bytes) -> None:
        if raw == case.raws[40]:
            raise Invalid("bad-lottery-value")

    case.refuse = refuse
    with pytest.raises(Invalid, match="bad-lottery-value"):
        await case.run(Peer("lead", case.raws), Peer("helper", case.raws))
    assert case.taken == case.raws[:40]


@pytest.mark.parametrize("code", ["time-too-new", "other-checkpoint"])
async def test_what_is_nobodys_fault_blames_nobody(case: Case, code: str) -> None:
    def refuse(raw: bytes) -> None:
        if raw == case.raws[40]:
            raise Invalid(code)

    case.refuse = refuse
    with pytest.raises(Invalid, match=code):
        await case.run(Peer("lead", case.raws, delay_s=9.0), Peer("helper", case.raws))
    assert not case.blamed


@pytest.mark.parametrize("error", [Unavailable("gone"), Fault("it failed")])
async def test_when_nobody_brings_a_block_that_is_said(case: Case, error: Exception) -> None:
    with pytest.raises(Unavailable, match="nobody brings block 101 of 160"):
        await case.run(Peer("lead", case.raws[:100]), Peer("helper", case.raws, fail=error))
    assert case.taken == case.raws[:100]


async def test_a_block_that_has_to_wait_ends_the_attempt(case: Case) -> None:
    def refuse(raw: bytes) -> None:
        if raw == case.raws[20]:
            raise Unavailable("a data set is missing")

    case.refuse = refuse
    with pytest.raises(Unavailable, match="data set"):
        await case.run(Peer("lead", case.raws))
    assert case.taken == case.raws[:20]


async def test_what_is_fetched_ahead_is_bounded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(map(len, case.raws[:16])) + 1
    monkeypatch.setattr(download_module, "MAX_RANGE_BYTES", size)
    monkeypatch.setattr(limits, "SYNC_WINDOW_BYTES", 4 * size)
    case.import_s = 0.001  # slower than the peers
    assert await case.run(*(Peer(name, case.raws) for name in "abcdef")) == COUNT
    assert 2 * size < case.most_bytes <= 5 * size, "the urgent range may come on top"
    assert case.download is not None
    assert case.download._size_bytes == 0


def test_headers_must_follow_each_other(nodes: Nodes) -> None:
    case = Case(nodes, 5)
    headers = [decode_header(raw[:HEADER_BYTES]) for raw in case.raws]
    assert plan([]) == []
    assert plan(headers)[0] == Planned(block_id(headers[0]), case.genesis_id)
    with pytest.raises(Invalid) as refusal:
        plan([headers[0], headers[2]])
    assert refusal.value.code == "bad-range"


async def test_any_mixture_of_peers_with_one_honest_one_brings_all(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_S", 0.05)
    monkeypatch.setattr(limits, "SYNC_RANGE_BLOCKS", 8)
    case = Case(nodes, 60)
    lies = [*spoilt(case.raws).values(), lambda answer: answer[:1], lambda _: []]
    for seed in range(40):
        draw = random.Random(seed)
        case.taken, case.blamed = [], []
        helpers = [Peer(f"p{number}", case.raws, delay_s=draw.choice([0, 0.001, 1])) for number in range(5)]
        for helper in helpers:
            helper.spoil = draw.choice(lies)
        honest = Peer("honest", case.raws, delay_s=0.001)
        assert await case.run(honest, *helpers) == 60, f"seed {seed}"
        assert case.taken == case.raws, f"seed {seed}"
        assert "honest" not in dict(case.blamed), f"seed {seed}"


# Whole nodes.


async def test_a_late_node_fetches_from_all_its_peers(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_RANGE_BLOCKS", 16)
    sources = [nodes.make(blocks=400) for _ in range(3)]
    asked: Counter[int] = Counter()
    for number, source in enumerate(sources):
        honest = source.network._server._blocks

        async def count(request: pb.Range, number: int = number, honest: Any = honest) -> list[pb.RawBlock]:
            answer: list[pb.RawBlock] = await honest(request)
            asked[number] += len(answer)
            await asyncio.sleep(0.01)
            return answer

        source.network._server._blocks = count  # type: ignore[method-assign]
        await nodes.start(source)
    late = nodes.make()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(NodeClient(source.address)) for source in sources]
        late.network._sync._helpers = lambda: clients
        assert await late.network._sync.catch_up(clients[0]) == 400
    assert late.chain.head.head == sources[0].chain.head.head
    assert sum(asked.values()) == 400, "each block was fetched once"
    assert min(asked.values()) >= 16
    assert len(asked) == 3
    await late.network.stop()


async def test_a_lying_helper_is_banned_and_its_session_ends(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_RANGE_BLOCKS", 8)
    honest, liar = nodes.make(), nodes.make()

    async def lie(_request: pb.Range) -> list[pb.RawBlock]:
        return [pb.RawBlock(raw=b"\xff" * 600)]

    real = honest.network._server._blocks

    async def slow(request: pb.Range) -> list[pb.RawBlock]:
        await asyncio.sleep(0.02)
        return await real(request)

    liar.network._server._blocks = lie  # type: ignore[method-assign]
    honest.network._server._blocks = slow  # type: ignore[method-assign]
    await nodes.start(honest)
    await nodes.start(liar)
    victim = await nodes.start(dial=[honest, liar])
    await eventually(lambda: victim.network.outbound_count == 2)
    for raw in honest.idle(200):
        liar.chain.import_block(raw)
    for _ in range(9):  # an unreadable header weighs as much as any other bad block: ten make a ban
        victim.network._conduct.blame(liar.address, Invalid("bad-kind"))
    victim.network._peers._sessions[honest.address].catch_up()
    await eventually(lambda: victim.height == 200)
    await eventually(lambda: victim.network._conduct.is_banned(liar.address))
    await eventually(lambda: victim.network.outbound_count == 1)
