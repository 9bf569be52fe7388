"""Peers without manners, on plain sockets: what they send is no gRPC, or only its beginning, or more than is agreed."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from bnnchain.rpc.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
ANNOUNCE = "/bnnchain.rpc.v1.Node/AnnounceBlock"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, claimed: int | None = None) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, section 4.1); ``claimed``: the length it states in place of its own."""
    size = len(payload) if claimed is None else claimed
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(method: str) -> bytes:
    """Return a header block of a gRPC call: HPACK literals without compression (RFC 7541, section 6.2.2)."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"node"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    return b"".join(literal(name, value) for name, value in fields)


def opening() -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0)


def call(method: str, message: bytes, *, stream: int = 1, claimed: int | None = None) -> bytes:
    """Return the frames of a call with one message; ``claimed``: the length that gRPC's prefix states."""
    prefix = b"\0" + struct.pack(">I", len(message) if claimed is None else claimed)
    return frame(HEADERS, END_HEADERS, stream, headers(method)) + frame(DATA, END_STREAM, stream, prefix + message)


class Peer:
    """A socket to a node; what comes back is thrown away."""

    def __init__(self, address: str, rng: random.Random) -> None:
        host, _, port = address.rpartition(":")
        self._target = host, int(port)
        self.rng = rng
        self.is_cut = False
        self._writer: asyncio.StreamWriter | None = None
        self._drain: asyncio.Task[None] | None = None

    async def connect(self, *, reads: bool = True) -> None:
        reader, self._writer = await asyncio.open_connection(*self._target)
        if reads:
            self._drain = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while await reader.read(1 << 16):
                pass
        self.is_cut = True

    async def send(self, data: bytes) -> None:
        """Send; OSError where the node has cut the connection."""
        assert self._writer is not None
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        if self._writer is not None:
            self._writer.transport.abort()


async def junk(peer: Peer) -> None:
    """Random bytes."""
    await peer.connect()
    while True:
        await peer.send(peer.rng.randbytes(peer.rng.randint(1, 4_096)))
        await asyncio.sleep(0.1)


async def drip_preface(peer: Peer) -> None:
    """The connection's first bytes, one a second."""
    await peer.connect()
    for octet in opening() * 100:
        await peer.send(bytes([octet]))
        await asyncio.sleep(1)


async def drip_headers(peer: Peer) -> None:
    """A call's headers, one byte of the frame at a time."""
    await peer.connect()
    await peer.send(opening())
    for octet in frame(HEADERS, END_HEADERS, 1, headers(ANNOUNCE)):
        await peer.send(bytes([octet]))
        await asyncio.sleep(0.5)


async def drip_body(peer: Peer) -> None:
    """A call whose message never ends."""
    await peer.connect()
    await peer.send(opening() + frame(HEADERS, END_HEADERS, 1, headers(ANNOUNCE)))
    await peer.send(frame(DATA, 0, 1, b"\0" + struct.pack(">I", 1 << 20)))
    while True:
        await peer.send(frame(DATA, 0, 1, b"x"))
        await asyncio.sleep(0.5)


async def say_nothing(peer: Peer) -> None:
    """Connect, and nothing more."""
    await peer.connect()
    await asyncio.sleep(3_600)


async def half_close(peer: Peer) -> None:
    """A call whose answer is never read, the own half closed."""
    await peer.connect(reads=False)
    await peer.send(opening() + call("/bnnchain.rpc.v1.Node/Blocks", pb.Range(count=256).SerializeToString()))
    assert peer._writer is not None
    peer._writer.write_eof()
    await asyncio.sleep(3_600)


async def claim_frames(peer: Peer) -> None:
    """Frames of 16 MiB by their header, over and over."""
    while True:
        await peer.connect()
        with suppress(OSError):
            await peer.send(opening() + frame(DATA, 0, 1, b"x" * 100, claimed=(1 << 24) - 1))
            await asyncio.sleep(0.2)
        await peer.close()


async def claim_messages(peer: Peer) -> None:
    """Messages of 4 GiB by gRPC's prefix, with a few bytes behind it."""
    stream = 1
    await peer.connect()
    await peer.send(opening())
    while True:
        claimed = peer.rng.choice([(1 << 32) - 1, 1 << 31, 1 << 26, (4 << 20) + 1])
        await peer.send(call(ANNOUNCE, b"x" * 64, stream=stream, claimed=claimed))
        stream += 2
        await asyncio.sleep(0.05)


async def claim_fields(peer: Peer) -> None:
    """Blocks whose own lengths lie: a model, a list or an item that is said to be huge."""
    stream = 1
    await peer.connect()
    await peer.send(opening())
    while True:
        head = bytearray(439)
        head[182] = 1  # a kind of block that there is
        raw = (
            bytes(head)
            + peer.rng.choice([b"\xff\xff\xff\xff\x07", b"\0\xff\xff\xff\xff\x07", b"\xff\xff\x3f"])
            + b"x" * 99
        )
        message = pb.RawBlock(raw=raw).SerializeToString()
        # A protobuf field that is said to be longer than its message.
        message = peer.rng.choice([message, b"\n\xff\xff\xff\xff\x07xxx"])
        await peer.send(call(ANNOUNCE, message, stream=stream))
        stream += 2
        await asyncio.sleep(0.05)


async def endless_headers(peer: Peer) -> None:
    """Headers that go on and on in CONTINUATION frames."""
    await peer.connect()
    await peer.send(opening() + frame(HEADERS, 0, 1, headers(ANNOUNCE)))
    field = b"\0\x08x-filler\x7f" + bytes([0x81, 0x7E]) + b"y" * 16_000
    while True:
        await peer.send(frame(CONTINUATION, 0, 1, field[: 1 << 14]))
        await asyncio.sleep(0.01)


async def flood_pings(peer: Peer) -> None:
    """PING and SETTINGS frames as fast as they are taken."""
    await peer.connect()
    await peer.send(opening())
    while True:
        await peer.send(frame(PING, 0, 0, os.urandom(8)) * 50 + frame(SETTINGS, 0, 0) * 10)
        await asyncio.sleep(0.05)


async def reset_streams(peer: Peer) -> None:
    """Calls that are reset as soon as they begin (CVE-2023-44487)."""
    stream = 1
    await peer.connect()
    await peer.send(opening())
    message = pb.Range(count=256).SerializeToString()
    while True:
        burst = b""
        for _ in range(20):
            burst += call("/bnnchain.rpc.v1.Node/Blocks", message, stream=stream)
            burst += frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            stream += 2
        await peer.send(burst)
        await asyncio.sleep(0.1)


async def watch_without_reading(peer: Peer) -> None:
    """Many watches, none of which is ever read."""
    await peer.connect(reads=False)
    await peer.send(opening())
    for stream in range(1, 200, 2):
        await peer.send(call("/bnnchain.rpc.v1.Node/Watch", b"", stream=stream))
    await asyncio.sleep(3_600)


async def oversize(peer: Peer) -> None:
    """Blocks of 5 MiB, really sent."""
    await peer.connect()
    await peer.send(opening())
    await peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    message = b"x" * (5 << 20)
    prefix = b"\0" + struct.pack(">I", len(message))
    stream = 1
    while True:
        await peer.send(frame(HEADERS, END_HEADERS, stream, headers(ANNOUNCE)))
        data = prefix + message
        for start in range(0, len(data), 1 << 14):
            await peer.send(frame(DATA, 0, stream, data[start : start + (1 << 14)]))
            await asyncio.sleep(0.02)
        stream += 2


HABITS: tuple[Callable[[Peer], Awaitable[None]], ...] = (
    junk,
    drip_preface,
    drip_headers,
    drip_body,
    say_nothing,
    half_close,
    claim_frames,
    claim_messages,
    claim_fields,
    endless_headers,
    flood_pings,
    reset_streams,
    watch_without_reading,
    oversize,
)


async def misbehave(address: str, habit: Callable[[Peer], Awaitable[None]], seed: int) -> None:
    """Be a peer of that habit until cancelled; connect again whenever the node cuts it."""
    rng = random.Random(seed)
    while True:
        peer = Peer(address, rng)
        try:
            await habit(peer)
        except OSError:
            pass
        finally:
            await peer.close()
        await asyncio.sleep(0.5)
