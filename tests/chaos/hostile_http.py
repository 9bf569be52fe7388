"""HTTP clients without manners, for the pages and metrics that a node serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chaos.hostile import Peer

REQUEST = b"GET / HTTP/1.1\r\nHost: node\r\n"


async def say_nothing(peer: Peer) -> None:
    """Connect, and nothing more."""
    await peer.connect()
    await asyncio.sleep(3_600)


async def drip_request(peer: Peer) -> None:
    """A request, one byte at a time, that never ends."""
    await peer.connect()
    for octet in REQUEST + b"X-Filler: " + b"x" * 3_600:
        await peer.send(bytes([octet]))
        await asyncio.sleep(0.5)


async def endless_head(peer: Peer) -> None:
    """Headers that go on and on."""
    await peer.connect()
    await peer.send(REQUEST)
    while True:
        await peer.send(b"X-Filler: " + b"y" * 8_000 + b"\r\n")
        await asyncio.sleep(0.01)


async def claim_body(peer: Peer) -> None:
    """A body of 2**62 bytes, of which a little comes."""
    await peer.connect()
    await peer.send(b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 4611686018427387904\r\n\r\n")
    while True:
        await peer.send(b"z" * 65_536)
        await asyncio.sleep(0.05)


async def junk(peer: Peer) -> None:
    """Random bytes."""
    await peer.connect()
    while True:
        await peer.send(peer.rng.randbytes(peer.rng.randint(1, 2_000)) + b"\r\n\r\n")
        await asyncio.sleep(0.1)


async def pipeline_without_reading(peer: Peer) -> None:
    """Requests on requests, whose answers are never read."""
    await peer.connect(reads=False)
    while True:
        await peer.send((REQUEST + b"\r\n") * 20)
        await asyncio.sleep(0.05)


async def odd_paths(peer: Peer) -> None:
    """Paths that leave the folder, or are no text."""
    for path in (b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/static/%00", b"/\xff\xfe", b"/" + b"a" * 7_000):
        await peer.connect()
        await peer.send(b"GET " + path + b" HTTP/1.1\r\nHost: node\r\n\r\n")
        await asyncio.sleep(0.1)
        await peer.close()


HABITS: tuple[Callable[[Peer], Awaitable[None]], ...] = (
    say_nothing,
    drip_request,
    endless_head,
    claim_body,
    junk,
    pipeline_without_reading,
    odd_paths,
)
