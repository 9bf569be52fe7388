"""Whether most of the dialled peers stand on one tip, and that it decides nothing but ties."""

from __future__ import annotations

import pytest
from builders import ALICE, Builder
from net.running import Nodes, eventually

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.types import BlockId, Height
from bnnchain.net import session as session_module
from bnnchain.net.agreement import MAX_POLLED_PEERS, local_agreement
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Agreement, Head


def heads(tips: str) -> list[Head]:
    return [Head(BlockId(letter.encode() * 32), Height(5), 7) for letter in tips]


@pytest.mark.parametrize(
    ("tips", "agreed", "votes", "voters"),
    [
        ("", None, 0, 0),
        ("a", None, 1, 1),
        ("aa", "a", 2, 2),
        ("ab", None, 1, 2),
        ("aab", "a", 2, 3),
        ("abc", None, 1, 3),
        ("aabb", None, 2, 4),
        ("baaa", "a", 3, 4),
        ("aaabb", None, 3, 5),
        ("aaaabb", "a", 4, 6),
        ("aaaaabbb", None, 5, 8),
        ("aaaaaabb", "a", 6, 8),
        ("aaaaaabb" + 20 * "b", "a", 6, 8),
    ],
)
def test_two_thirds_of_the_first_eight(tips: str, agreed: str | None, votes: int, voters: int) -> None:
    expected = None if agreed is None else BlockId(agreed.encode() * 32)
    assert local_agreement(heads(tips)) == Agreement(expected, votes, voters)
    assert voters <= MAX_POLLED_PEERS


async def test_of_equal_tips_the_one_that_most_peers_are_on_is_taken(nodes: Nodes) -> None:
    peers = [await nodes.start(blocks=2) for _ in range(3)]
    loner = nodes.make(dial=peers, blocks=1)
    own = encode_block(Builder(loner.chain, key=ALICE).idle(nonce=9))
    assert loner.chain.import_block(own).is_head
    before = loner.chain.head
    assert before.weight == peers[0].chain.head.weight
    await nodes.start(loner)
    await eventually(lambda: loner.chain.head.head == peers[0].chain.head.head, "the agreed tip is taken")
    async with NodeClient(loner.address) as client:
        status = await client.status()
    assert status.agreement == Agreement(peers[0].chain.head.head, 3, 3)
    assert loner.chain.state_at(before.head) is before, "the rival is kept: it may yet win"


async def test_one_peer_is_no_majority(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.05)
    peer = await nodes.start(blocks=1)
    loner = nodes.make(dial=[peer])
    loner.chain.import_block(encode_block(Builder(loner.chain, key=ALICE).idle(nonce=9)))
    own = loner.chain.head.head
    await nodes.start(loner)
    await eventually(lambda: loner.chain.store.has_block(peer.chain.head.head), "the rival is fetched all the same")
    await eventually(lambda: peer.chain.store.has_block(own), "and ours is offered")
    assert loner.chain.head.head == own
    assert peer.chain.head.head != own


async def test_a_heavier_chain_counts_whatever_peers_agree_on(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CHECK_INTERVAL_S", 0.05)
    peers = [await nodes.start() for _ in range(3)]
    ahead = nodes.make(dial=peers, blocks=2)
    head = ahead.chain.head.head
    for peer in peers:
        monkeypatch.setattr(peer.chain, "import_block", lambda _raw: (_ for _ in ()).throw(AssertionError))
    await nodes.start(ahead)
    await eventually(lambda: ahead.network.agreement.votes == 3)
    assert ahead.network.agreement.block_id == ahead.chain.spec.genesis_id
    assert ahead.chain.head.head == head


async def test_siblings_reach_a_node_that_already_has_one(nodes: Nodes) -> None:
    """Rivals of equal weight travel too: stale headers and proofs of equivocation are made of them."""
    first = await nodes.start(blocks=1)
    second = await nodes.start(dial=[first])
    await eventually(lambda: second.height == 1)
    one = encode_block(first.builder.idle(nonce=1))
    two = encode_block(first.builder.idle(nonce=2))
    await first.network.submit_block(one)
    await eventually(lambda: second.height == 2)
    await second.network.submit_block(two)
    assert second.chain.equivocations(), "the miner of both has given itself away"
