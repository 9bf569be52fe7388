"""The door: limits, fair eviction, half-open and dripping guests, and nobody by the back way."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from net.running import Nodes, eventually

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.net import limits
from bnnchain.net.address import Address
from bnnchain.net.answers import BODY_METHOD
from bnnchain.net.client import NodeClient
from bnnchain.net.door import PROTECTED_OLDEST, PROTECTED_USEFUL, Door, Guest, choose_to_evict
from bnnchain.net.network import PeerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_ACK = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])


def house(limit: int) -> Door:
    return Door(limit, lambda _: False)


def guests(*groups: tuple[str, int]) -> list[Guest]:
    """Guests that have called, so many of each netgroup, in the order of their coming."""
    made = []
    for host, count in groups:
        for number in range(count):
            guest = Guest(house(1), float(len(made)))
            guest.address, guest.has_called = Address(f"{host}.{number}.1", 1_024 + number), True
            made.append(guest)
    return made


# Who goes.


def test_the_youngest_of_the_largest_netgroup_goes() -> None:
    house_full = guests(("44.1", 10), ("66.6", 12), ("55.1", 3))
    assert choose_to_evict(house_full) is house_full[21]
    house_full[21].useful_s = 5.0  # it has brought a block meanwhile
    assert choose_to_evict(house_full) is house_full[20]


def test_nobody_goes_where_all_are_old_or_useful() -> None:
    few = guests(("66.6", PROTECTED_OLDEST + PROTECTED_USEFUL))
    for guest in few[PROTECTED_OLDEST:]:
        guest.useful_s = 1.0
    assert choose_to_evict(few) is None
    few[-1].useful_s = 0.0
    assert choose_to_evict(few) is few[-1]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=90))
def test_who_goes_is_of_the_largest_group_with_anybody_unprotected(made: list[tuple[int, bool, bool]]) -> None:
    all_guests = []
    for number, (group, has_called, is_useful) in enumerate(made):
        guest = Guest(house(1), float(number))
        guest.address, guest.has_called = Address(f"{group + 40}.1.{number}.1", 1), has_called
        guest.useful_s = float(number + 1) if is_useful else 0.0
        all_guests.append(guest)
    leaving = choose_to_evict(all_guests)
    oldest = [guest for guest in all_guests if guest.has_called][:PROTECTED_OLDEST]
    useful = [guest for guest in reversed(all_guests) if guest.useful_s][:PROTECTED_USEFUL]
    assert leaving not in oldest
    assert leaving not in useful
    assert (leaving is None) == (set(oldest) | set(useful) == set(all_guests))


class Outside(asyncio.Transport):
    """A connection from anywhere; what matters of it is whether it was cut."""

    def __init__(self, address: Address) -> None:
        super().__init__({"peername": (address.host, address.port)})
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True

    close = abort

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


@pytest.fixture
async def inner() -> Any:
    """Stands in for gRPC's own port."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.sleep(0.05)  # the guests' ends are seen here too


async def arrive(door: Door, address: Address) -> Outside:
    transport = Outside(address)
    guest = Guest(door, asyncio.get_running_loop().time())
    guest.connection_made(transport)
    await eventually(lambda: transport.is_cut or guest.inner is not None)
    guest.has_called = True
    return transport


async def test_a_netgroup_has_its_share_of_the_places(inner: int) -> None:
    door = house(40)
    await door.open(Address("127.0.0.1", 0), inner)
    same = [await arrive(door, Address(f"66.6.{number}.1", 9)) for number in range(limits.MAX_INBOUND_PER_NETGROUP + 3)]
    assert [each.is_cut for each in same].count(True) == 3
    assert not (await arrive(door, Address("66.7.0.1", 9))).is_cut
    await door.close()


async def test_an_attacker_of_four_netgroups_keeps_no_honest_guest_out(inner: int) -> None:
    """64 places, 200 hostile connections, then and among them 12 honest ones of as many netgroups."""
    seed = random.randrange(1 << 32)
    draw, door = random.Random(seed), house(64)
    await door.open(Address("127.0.0.1", 0), inner)
    arrivals = [Address(f"66.{draw.randrange(4)}.{number}.1", 9) for number in range(200)]
    honest = [Address(f"{number + 40}.1.1.1", 9) for number in range(12)]
    for address in honest:
        arrivals.insert(draw.randrange(len(arrivals) + 1), address)
    inside = {address: await arrive(door, address) for address in arrivals}
    assert [address for address in honest if inside[address].is_cut] == [], f"seed {seed}"
    assert len(door) <= 64
    await door.close()
    assert len(door) == 0


async def test_a_banned_host_is_not_let_in_and_is_shown_out(inner: int) -> None:
    banned: set[str] = set()
    door = Door(9, banned.__contains__)
    await door.open(Address("127.0.0.1", 0), inner)
    first, other = await arrive(door, Address("66.6.6.6", 9)), await arrive(door, Address("44.4.4.4", 9))
    banned.add("66.6.6.6")
    door.show_out("66.6.6.6")
    assert (first.is_cut, other.is_cut, len(door)) == (True, False, 1)
    assert (await arrive(door, Address("66.6.6.6", 10))).is_cut
    await door.close()


async def test_what_cannot_be_listened_on_is_a_fault(inner: int) -> None:
    with pytest.raises(Fault, match="cannot listen on"):
        await house(1).open(Address("192.0.2.1", 0), inner)
    with pytest.raises(Fault, match="cannot listen on"):
        await house(1).open(Address("no.such.name.invalid", 0), inner)


# Over sockets.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_CALL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(limits, "MESSAGE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(limits, "BODY_TIMEOUT_S", 0.8)


async def is_ended(reader: asyncio.StreamReader, timeout_s: float = 5.0) -> bool:
    """Answer whether the other side ends the connection in time."""
    try:
        while await asyncio.wait_for(reader.read(65_536), timeout_s):
            pass
    except asyncio.TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def openings() -> Iterator[Any]:
    yield pytest.param(b"", id="silent")
    yield pytest.param(b"GET / HTTP/1.1\r\n", id="other protocol")
    yield pytest.param(HTTP2_PREFACE[:10], id="half a preface")
    yield pytest.param(HTTP2_PREFACE + EMPTY_SETTINGS + SETTINGS_ACK, id="no call")
    yield pytest.param(
        HTTP2_PREFACE + EMPTY_SETTINGS + bytes([0, 64, 0, 1, 4, 0, 0, 0, 1]) + b"\0", id="endless headers"
    )


@pytest.mark.parametrize("opening", list(openings()))
@pytest.mark.usefixtures("impatient")
async def test_who_never_gets_to_a_call_is_cut(nodes: Nodes, opening: bytes) -> None:
    node = await nodes.start()
    host, _, port = node.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(opening)
    await eventually(lambda: node.network._server.connection_count == 1)
    assert await is_ended(reader), "it was cut"
    await eventually(lambda: node.network._server.connection_count == 0)
    writer.close()
    async with NodeClient(node.address) as client:
        assert (await client.status()).height == 0


@pytest.mark.usefixtures("impatient")
async def test_a_preface_that_drips_is_cut(nodes: Nodes) -> None:
    node = await nodes.start()
    host, _, port = node.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def drip() -> None:
        for byte in (HTTP2_PREFACE + EMPTY_SETTINGS) * 50:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert await is_ended(reader)
    dripping.cancel()
    writer.close()


@pytest.mark.parametrize("method", ["/bnnchain.rpc.v1.Node/Status", BODY_METHOD, "/grpc.health.v1.Health/Check"])
@pytest.mark.usefixtures("impatient")
async def test_a_call_whose_message_never_comes_is_ended(nodes: Nodes, method: str) -> None:
    node = await nodes.start()
    async with grpc.aio.insecure_channel(node.address) as channel:
        call: Any = channel.stream_unary(method)()
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await asyncio.wait_for(call, 10)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "too slowly" in refusal.value.details()


@pytest.mark.usefixtures("impatient")
async def test_bodies_come_in_a_few_at_a_time_and_drips_make_room(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES", 2)
    node = await nodes.start()
    raw = encode_block(node.builder.idle())
    async with grpc.aio.insecure_channel(node.address) as channel, NodeClient(node.address) as honest:
        drips: list[Any] = [channel.stream_unary(BODY_METHOD)() for _ in range(4)]
        await asyncio.sleep(0.2)
        assert (await honest.status()).height == 0  # other calls do not wait
        await honest.announce_block(raw)
        assert node.height == 1
        for call in drips:
            call.cancel()


async def test_a_flood_of_calls_on_one_connection_starves_nobody(nodes: Nodes) -> None:
    node = await nodes.start()
    async with grpc.aio.insecure_channel(node.address) as channel, NodeClient(node.address) as honest:
        hanging: list[Any] = [channel.stream_unary("/bnnchain.rpc.v1.Node/Status")() for _ in range(400)]
        await asyncio.sleep(0.3)
        for _ in range(5):
            assert (await honest.status()).height == 0
        for call in hanging:
            call.cancel()


@pytest.mark.usefixtures("impatient")
async def test_a_hundred_half_open_connections_leave_room_for_the_honest(nodes: Nodes) -> None:
    node = await nodes.start(options=PeerOptions(outbound=0, inbound=24))
    peer = await nodes.start(dial=[node])
    await eventually(lambda: peer.network.peer_count == 1)
    host, _, port = node.address.rpartition(":")
    hostile = [socket.create_connection((host, int(port))) for _ in range(100)]
    await node.network.submit_block(encode_block(node.builder.idle()))
    await eventually(lambda: peer.height == 1, "the peer of before is still served")
    async with NodeClient(node.address) as late:
        assert (await late.status()).height == 1
    assert node.network._server.connection_count <= 24
    assert node.network._server.evicted_count > 0
    for each in hostile:
        each.close()


async def test_the_back_way_is_closed(nodes: Nodes) -> None:
    node = await nodes.start()
    inner = node.network._server._door._inner_port
    async with NodeClient(f"127.0.0.1:{inner}") as client:
        with pytest.raises(Unavailable, match="not by the door"):
            await client.status()
    async with NodeClient(node.address) as client:
        assert (await client.status()).height == 0


async def test_large_answers_go_through_whole(nodes: Nodes) -> None:
    node = await nodes.start(blocks=256)
    async with NodeClient(node.address) as client:
        raws = await client.blocks(start_height=1)
    assert raws == [raw for _, raw in node.chain.store.active_blocks(1, 256)]


async def test_blame_counts_for_the_guest_and_not_for_the_door(nodes: Nodes) -> None:
    node = await nodes.start()
    async with NodeClient(node.address) as liar, NodeClient(node.address) as honest:
        good = node.builder.idle()
        assert (await liar.announce_block(node.builder.tamper(good, y=bytes(32)))).code == "bad-lottery-value"
        with pytest.raises((Unavailable, Invalid)):
            await liar.announce_block(encode_block(good))
        await honest.announce_block(encode_block(good))
    assert node.height == 1


async def test_a_banned_guest_is_cut_once_it_has_read_why(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BAN_GRACE_S", 0.2)
    node = await nodes.start()
    async with NodeClient(node.address) as liar:
        watching = aiter(liar.watch())
        await anext(watching)
        false_y = node.builder.tamper(node.builder.idle(), y=bytes(32))
        assert (await liar.announce_block(false_y)).code == "bad-lottery-value"
        with pytest.raises(Unavailable):
            await asyncio.wait_for(anext(watching), 5)
    await eventually(lambda: node.network._server.connection_count == 0)
