"""A node with a page: it tells where, answers, and takes the page down with itself; without the extra it says so."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest
from builders import GENESIS_TIME, MINER
from net.running import eventually

from bnnchain.consensus.errors import Fault, Unavailable
from bnnchain.consensus.signatures import public_key
from bnnchain.datasets.digits import load_digits
from bnnchain.home import Home
from bnnchain.mining.genesis import new_spec
from bnnchain.net.address import Address
from bnnchain.node import Node, NodeOptions

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.net.messages import NewHead

LOOPBACK = Address("127.0.0.1", 0)


class Listening:
    """Notes what the node says."""

    def __init__(self) -> None:
        self.pages: list[tuple[str, str]] = []
        self.is_ready = False

    def ready(self, _address: str) -> None:
        assert self.pages, "the page is told before the node is ready"
        self.is_ready = True

    def page(self, name: str, url: str) -> None:
        self.pages.append((name, url))

    def head(self, head: NewHead) -> None: ...

    def progress(self, text: str) -> None: ...


def make_node(path: Path, web: Address) -> tuple[Node, Listening]:
    home = Home(path / "home")
    home.create(new_spec("regtest", load_digits().manifest, public_key(MINER), GENESIS_TIME))
    listening = Listening()
    return Node(home, NodeOptions(listen="127.0.0.1:0", backend="reference", web=web), listening), listening


async def test_page_lives_as_long_as_the_node(tmp_path: Path) -> None:
    node, listening = make_node(tmp_path, LOOPBACK)
    stop = asyncio.Event()
    running = asyncio.create_task(node.run(stop))
    await eventually(lambda: listening.is_ready, "node")
    [(name, url)] = listening.pages
    assert name == "page"
    port = int(url.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"validator-only node" in answer
    stop.set()
    await asyncio.wait_for(running, 20)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_taken_address_ends_the_node(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
        port = taken.sockets[0].getsockname()[1]
        node, _ = make_node(tmp_path, Address("127.0.0.1", port))
        with pytest.raises(Fault, match="cannot serve the page"):
            await asyncio.wait_for(node.run(asyncio.Event()), 20)


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2", "pygal", "PIL"])
async def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    node, _ = make_node(tmp_path, LOOPBACK)
    with pytest.raises(Unavailable, match=rf"{package} is not installed: pip install 'bnnchain\[web\]'"):
        await asyncio.wait_for(node.run(asyncio.Event()), 20)
