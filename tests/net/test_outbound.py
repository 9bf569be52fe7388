"""Chosen peers: of many netgroups, anchors first, nobody forgotten while the line is down; a failing eclipse."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from net.running import Nodes, eventually

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.net import limits, outbound
from bnnchain.net.address import Address, parse_address
from bnnchain.net.book import MAX_ANCHORS, AddressBook
from bnnchain.net.book_file import read_book
from bnnchain.net.client import NodeClient
from bnnchain.net.conduct import Conduct
from bnnchain.net.network import PeerOptions
from bnnchain.net.outbound import Outbound
from bnnchain.net.server import Surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HONEST = Address("44.1.1.1", 9555)
TARGET = limits.DEFAULT_OUTBOUND


class Internet:
    """Where addresses answer, or do not; what they tell is up to the test."""

    def __init__(self) -> None:
        self.answering: set[Address] = set()
        self.dialled: list[Address] = []
        self.met: list[Address] = []
        self.tell: Callable[[Address], None] = lambda _: None
        self.hung_up: dict[Address, asyncio.Event] = {}

    async def talk(self, address: Address, on_handshake: Callable[[], None] | None) -> None:
        self.dialled.append(address)
        await asyncio.sleep(0)
        if address not in self.answering:
            raise Unavailable("nobody serves there")
        if on_handshake is None:
            return
        on_handshake()
        self.met.append(address)
        self.tell(address)
        await self.hung_up.setdefault(address, asyncio.Event()).wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "LOOK_INTERVAL_S", 0.01)


@pytest.fixture
async def chosen() -> AsyncIterator[Callable[..., Outbound]]:
    """Makes and starts; all are stopped after the test."""
    made: list[Outbound] = []

    def make(book: AddressBook, internet: Internet, target: int = TARGET, conduct: Conduct | None = None) -> Outbound:
        one = Outbound(book, conduct or Conduct(), internet.talk, lambda _: False, target)
        one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        await one.stop()


async def test_an_eclipse_by_two_netgroups_fails(chosen: Callable[..., Outbound]) -> None:
    """One honest seed, 100 hostile addresses of two /16 that all answer, and tell of nobody but each other."""
    for seed in range(20):
        draw, internet = random.Random(seed), Internet()
        book = AddressBook(draw.randbytes(16), draw)
        hostile = [Address(f"66.{6 + number % 2}.{number}.{draw.randrange(256)}", 9555) for number in range(100)]
        internet.answering = {HONEST, *hostile}

        def tell(source: Address, hostile: list[Address] = hostile, book: AddressBook = book) -> None:
            if source != HONEST:
                for address in hostile:
                    book.add(address, source)

        internet.tell = tell
        for address in hostile[:10]:
            book.add(address, hostile[0])
        book.add(HONEST, HONEST)
        peers = chosen(book, internet)
        await eventually(lambda peers=peers: HONEST in peers.connected, f"seed {seed}: an honest peer")  # type: ignore[misc]
        await asyncio.sleep(0.03)
        groups = Counter(address.netgroup for address in peers.connected)
        assert HONEST in peers.connected
        assert max(groups.values()) <= limits.MAX_OUTBOUND_PER_NETGROUP
        assert len(peers.connected) == 1 + 2 * limits.MAX_OUTBOUND_PER_NETGROUP
        await peers.stop()


async def test_places_are_filled_again_and_never_more_than_wanted(chosen: Callable[..., Outbound]) -> None:
    internet, book = Internet(), AddressBook()
    for number in range(30):
        address = Address(f"{number + 40}.1.1.1", 9555)
        book.add(address, address)
        internet.answering.add(address)
    peers = chosen(book, internet)
    await eventually(lambda: len(peers.connected) == TARGET)
    assert not peers.is_short
    leaving = peers.connected[0]
    internet.hung_up[leaving].set()
    await eventually(lambda: leaving not in peers.connected)
    await eventually(lambda: len(peers.connected) == TARGET)
    assert len(internet.met) == TARGET + 1


async def test_anchors_are_dialled_first_and_kept(chosen: Callable[..., Outbound]) -> None:
    internet, book = Internet(), AddressBook()
    addresses = [Address(f"{number + 40}.1.1.1", 9555) for number in range(30)]
    for address in addresses:
        book.add(address, address)
    internet.answering.update(addresses)
    book.anchors = [addresses[7], addresses[3]]
    peers = chosen(book, internet, target=4)
    await eventually(lambda: len(peers.connected) == 4)
    assert internet.dialled[:2] == [addresses[7], addresses[3]]
    await peers.stop()
    assert book.anchors == [addresses[7], addresses[3]][:MAX_ANCHORS]


async def test_while_nobody_answers_no_address_is_forgotten(
    chosen: Callable[..., Outbound], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnnchain.net.book.RETRY_S", 0.0)
    internet, book = Internet(), AddressBook()
    for number in range(5):
        address = Address(f"{number + 40}.1.1.1", 9555)
        book.add(address, address)
    chosen(book, internet)
    await eventually(lambda: len(internet.dialled) > 100)
    assert len(book) == 5
    internet.answering.add(Address("40.1.1.1", 9555))
    await eventually(lambda: len(book) == 1)  # now that one answers, the others are known to be gone


async def test_the_banned_are_not_dialled(chosen: Callable[..., Outbound]) -> None:
    internet, book, conduct = Internet(), AddressBook(), Conduct()
    book.add(HONEST, HONEST)
    internet.answering.add(HONEST)
    conduct.blame(HONEST.conduct_key, Invalid("bad-lottery-value"))
    chosen(book, internet, conduct=conduct)
    await asyncio.sleep(0.1)
    assert not internet.dialled


async def test_feelers_find_out_who_answers(chosen: Callable[..., Outbound], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "FEELER_INTERVAL_S", 0.02)
    internet, book = Internet(), AddressBook()
    addresses = [Address(f"{number + 40}.1.1.1", 9555) for number in range(12)]
    for address in addresses:
        book.add(address, address)
    internet.answering.update(addresses)
    peers = chosen(book, internet, target=1)
    await eventually(lambda: all(entry.succeeded_s for entry in book.entries))
    assert len(peers.connected) == 1
    assert len(internet.met) == 1, "a feeler leaves after the handshake"


# Whole nodes.

FOUND = PeerOptions(outbound=4)


async def test_nodes_find_each_other_through_one_seed(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEERS_REFRESH_S", 0.2)
    monkeypatch.setattr(limits, "PEERS_INTERVAL_S", 0.1)
    seed = await nodes.start(options=FOUND)
    options = PeerOptions(outbound=4, seeds=[parse_address(seed.address)])
    others = [await nodes.start(options=options) for _ in range(4)]
    everybody = [seed, *others]
    await eventually(
        lambda: all(len(node.network._outbound.connected) == 4 for node in everybody), "each has chosen all others"
    )
    await others[0].network.submit_block(encode_block(others[0].builder.idle()))
    await seed.network.stop()
    await others[1].network.submit_block(encode_block(others[1].builder.idle(nonce=3)))
    await eventually(lambda: len({node.chain.head.weight for node in others}) == 1)


async def test_a_restarted_node_finds_its_peers_without_the_seed(nodes: Nodes, tmp_path: Path) -> None:
    book_file = tmp_path / "peers.json"
    friend = await nodes.start(options=FOUND)
    options = PeerOptions(outbound=4, seeds=[parse_address(friend.address)])
    node = nodes.make(options=options, book_file=book_file)
    await node.network.start()
    await eventually(lambda: node.network.outbound_count == 1)
    node.network.conduct.blame("198.51.100.7", Invalid("bad-lottery-value"))
    await node.network.stop()
    book, bans = read_book(book_file)
    assert book.anchors == [parse_address(friend.address)]
    assert 590 < bans["198.51.100.7"] <= 600
    again = await nodes.start(options=FOUND, book_file=book_file)
    await eventually(lambda: again.network.outbound_count == 1, "by its anchor, no seed given")
    assert again.network.conduct.is_banned("198.51.100.7")


async def test_who_keeps_to_the_dial_list_chooses_nobody(nodes: Nodes) -> None:
    seed = await nodes.start()
    node = await nodes.start(options=PeerOptions(outbound=0, seeds=[parse_address(seed.address)]))
    await asyncio.sleep(0.3)
    assert node.network.peer_count == 0


async def test_a_node_does_not_choose_itself(nodes: Nodes) -> None:
    node = await nodes.start(options=FOUND)
    own = parse_address(node.address)
    node.network._learn(own, [own])
    assert own not in node.network._book
    other_name = Address("127.0.0.2", own.port)  # listens on one address, is reached by it alone: nobody answers here
    node.network._book.add(other_name, own)
    await asyncio.sleep(0.2)
    assert node.network.peer_count == 0


async def test_addresses_are_told_seldom_and_only_such_as_worked(nodes: Nodes) -> None:
    node = await nodes.start(options=PeerOptions(outbound=1))
    worked, untried = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    book = node.network._book
    for address in (worked, untried):
        book.add(address, Address("127.0.0.1", 3))
    book.succeed(worked)
    async with NodeClient(node.address) as first, NodeClient(node.address) as second:
        assert await first.peers() == [worked]
        assert await first.peers() == []
        assert await second.peers() == [worked]


async def test_a_guest_that_tells_of_too_many_or_of_nonsense_is_blamed(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    liar = nodes.make()
    real = liar.network._server._surroundings
    many = [Address("127.0.0.1", port) for port in range(1, 130)]
    changed = {name: getattr(real, name) for name in Surroundings.__slots__} | {"addresses": lambda _: many}
    liar.network._server._surroundings = Surroundings(**changed)
    await nodes.start(liar)
    victim = await nodes.start(dial=[liar], options=FOUND)
    await eventually(lambda: "bad-message (field=addresses, count=129, limit=128)" in caplog.text)
    assert len(victim.network._book) <= 1


def test_advertised_addresses_are_ip_addresses_that_can_be_dialled(nodes: Nodes) -> None:
    for text in ("node.example:9555", "0.0.0.0:9555", "1.2.3.4:0", "1.2.3.4"):
        with pytest.raises(Invalid) as refusal:
            nodes.make(options=PeerOptions(advertise=text))
        assert refusal.value.code == "bad-address"
