"""The server in a node's event loop: it begins, tells open pages what is new, holds out, and ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from builders import Builder, open_chain
from net.running import eventually
from web.page import make_page

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.consensus.types import BlockKind
from bnnchain.net.address import Address
from bnnchain.net.events import Events
from bnnchain.net.messages import NewHead
from bnnchain.web import live, server
from bnnchain.web.address import parse_web_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOST = "127.0.0.1"


class Served:
    """A page on a loopback port, and the node's events."""

    def __init__(self, path: Path) -> None:
        chain = open_chain(path / "chain.db")
        self.builder = Builder(chain)
        self.builder.extend(2)
        self.explorer = make_page(chain).explorer
        self.events = Events()
        self.server = server.PageServer(self.explorer)
        self.url = self.server.start(self.events.subscribe(), Address(HOST, 0))
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def mine(self) -> None:
        raw = self.builder.extend(kind=BlockKind.IDLE)[0]
        state = self.explorer.chain.head
        self.events.publish(NewHead(state.head, decode_block(raw).header, state.weight, 0, 1_500, len(raw)))

    async def ask(self, text: str, size: int = -1) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(text.encode())
        try:
            return await asyncio.wait_for(reader.read(size), 20)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await eventually(lambda: made.server._server is not None and made.server._server.started, "server")
    yield made
    await made.server.stop()


def request(path: str, host: str = HOST) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


async def test_page_is_served(served: Served) -> None:
    answer = await served.ask(request("/"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-security-policy: default-src 'none'" in answer
    assert b"\r\nserver:" not in answer.lower()
    assert (await served.ask(request("/", "evil.example"))).startswith(b"HTTP/1.1 421 ")


async def test_events_tell_new_blocks(served: Served) -> None:
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b'{"height": 2}'), 20)
    assert b"text/event-stream" in head
    served.mine()
    await asyncio.wait_for(reader.readuntil(b'{"height": 3}'), 20)
    for _ in range(50):
        served.mine()
    await asyncio.wait_for(reader.readuntil(b'{"height": 53}'), 20)
    assert [verdict.height for verdict in served.server._live.verdicts()][-1] == 53
    writer.close()
    await eventually(lambda: served.server._live._stream_count == 0, "stream gone")


async def test_streams_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    open_streams = [await asyncio.open_connection(HOST, served.port) for _ in range(2)]
    for reader, writer in open_streams:
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"height"), 20)
    assert (await served.ask(request("/events"))).startswith(b"HTTP/1.1 503 ")
    assert (await served.ask(request("/"))).startswith(b"HTTP/1.1 200 ")
    for _, writer in open_streams:
        writer.close()


async def test_open_pages_do_not_hold_up_the_end(served: Served) -> None:
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"height"), 20)
    silent = await asyncio.open_connection(HOST, served.port)
    began = asyncio.get_running_loop().time()
    await served.server.stop()
    assert asyncio.get_running_loop().time() - began < 5
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, served.port)
    for one in (writer, silent[1]):
        one.close()


async def test_silent_connections_are_closed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.2)
    assert await served.ask("GET / HTTP/1.1\r\nHost: loc") == b""
    assert await served.ask("") == b""


async def test_connections_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    silent = [await asyncio.open_connection(HOST, served.port) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert await served.ask(request("/")) == b""
    for _, writer in silent:
        writer.close()
    await asyncio.sleep(0.1)
    assert (await served.ask(request("/"))).startswith(b"HTTP/1.1 200 ")


async def test_long_heads_are_refused(served: Served) -> None:
    answer = await served.ask("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 4_000_000 + "\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.1 200")


async def test_taken_port_is_a_fault(served: Served) -> None:
    with pytest.raises(Fault, match="cannot serve the page"):
        server.PageServer(served.explorer).start(Events().subscribe(), Address(HOST, served.port))


@pytest.mark.parametrize("text", ["0.0.0.0:8555", "192.168.1.2:8555", "[::]:8555", "pi.example:8555"])
def test_other_machines_see_the_page_only_where_asked(text: str) -> None:
    with pytest.raises(Invalid, match="insecure-address"):
        parse_web_address(text, is_public=False)
    assert parse_web_address(text, is_public=True).port == 8555


@pytest.mark.parametrize("text", ["8555", "localhost", "localhost:x", ":8555", "localhost:99999"])
def test_address_is_an_address(text: str) -> None:
    with pytest.raises(Invalid, match="bad-address"):
        parse_web_address(text, is_public=True)
