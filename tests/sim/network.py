"""The wire under gRPC, simulated: delays, losses, duplicates, partitions; everything above it is the node's own code.

:class:`Wire` stands in for ``grpc.aio.insecure_channel`` and ``grpc.aio.server``.  Messages are serialised, limited in
size and carried one by one.  Calls overtake each other; within a stream the order is kept, as HTTP/2 does.
What is lost of a stream is sent again after a while, as TCP does; any other lost message ends its call, which is
harsher than TCP.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc

from bnnchain.net import limits
from bnnchain.net import server as server_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOST: contextvars.ContextVar[str] = contextvars.ContextVar("host")
"""Whose code is running: the channels and servers that a node's tasks open are that node's."""
AGAIN_S = 0.5
"""A lost message of a stream is sent again after this long."""
LOST_S = 10.0
"""A caller whose message was lost finds out after this long, or at its deadline."""
DEAD_S = (limits.KEEPALIVE_TIME_MS + limits.KEEPALIVE_TIMEOUT_MS) / 1_000
"""A connection across a partition is found dead after this long."""
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is; shares are of messages, times of one way."""

    least_delay_s: float = 0.02
    mean_delay_s: float = 0.1
    """Of an exponential distribution on top of the least delay."""
    loss: float = 0.0
    duplicates: float = 0.0
    bytes_per_s: float = 1e6


class Wire:
    """Carries messages between hosts; every link draws from a generator of its own."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.weather = weather
        self.sent_count = self.lost_count = 0
        self.servers: dict[str, SimServer] = {}
        self.channels: dict[int, SimChannel] = {}
        self._seed = seed
        self._links: dict[tuple[str, str], random.Random] = {}
        self._numbers = itertools.count(1)
        self._sides: dict[str, int] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let gRPC's channels and servers be this wire's, and the pauses before dialling again seeded."""
        jitter = random.Random(f"{self._seed} jitter")

        def open_server(**_: object) -> SimServer:
            return SimServer(self)

        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(grpc.aio, "insecure_channel", self._open_channel))
            stack.enter_context(mock.patch.object(grpc.aio, "server", open_server))
            stack.enter_context(mock.patch.object(random, "SystemRandom", return_value=jitter))
            stack.enter_context(mock.patch.object(server_module, "Door", OpenDoor))
            yield

    def partition(self, *sides: Sequence[str]) -> None:
        """Let only hosts of one side reach each other; hosts that are not named form a side together."""
        self._sides = {host: number for number, hosts in enumerate(sides, 1) for host in hosts}
        asyncio.get_running_loop().call_later(DEAD_S, self._cut_dead)

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._sides = {}

    def can_reach(self, source: str, target: str) -> bool:
        """Answer whether no partition lies between two hosts."""
        return self._sides.get(source, 0) == self._sides.get(target, 0)

    def carry(self, source: str, target: str, size_bytes: int, deliver: Callable[[], None]) -> bool:
        """Deliver a message after its delay, perhaps twice; answer False where it is lost."""
        draw = self._links.get((source, target))
        if draw is None:
            draw = self._links[source, target] = random.Random(f"{self._seed} {source} {target}")
        self.sent_count += 1
        weather = self.weather
        if draw.random() < weather.loss or not self.can_reach(source, target):
            self.lost_count += 1
            return False
        for _ in range(1 + (draw.random() < weather.duplicates)):
            queueing_s = draw.expovariate(1.0) * weather.mean_delay_s
            delay_s = weather.least_delay_s + queueing_s + size_bytes / weather.bytes_per_s
            asyncio.get_running_loop().call_later(delay_s, deliver)
        return True

    def _open_channel(self, target: str, options: object = None) -> SimChannel:
        number = next(self._numbers)
        self.channels[number] = SimChannel(self, HOST.get(), target.rpartition(":")[0], number)
        return self.channels[number]

    def _cut_dead(self) -> None:
        for channel in tuple(self.channels.values()):
            if not self.can_reach(channel.source, channel.target):
                channel.cut("the connection is dead")


class OpenDoor:
    """Stands in for the node's own TCP door: here the wire brings the calls."""

    evicted_count = 0

    def __init__(self, *_: object) -> None:
        pass

    def __len__(self) -> int:
        return 0

    def inner_address(self, address: object) -> object:
        return address

    async def open(self, _address: object, inner_port: int) -> int:
        return inner_port

    async def close(self) -> None:
        pass

    def name(self, connection: str) -> str:
        return connection

    def answered(self, _connection: str) -> None:
        pass

    def praise(self, _name: str) -> None:
        pass

    def show_out(self, _conduct_key: str) -> None:
        pass


class SimServer:
    """What ``grpc.aio.server`` makes, as far as the node uses it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._handlers: list[Any] = []
        self._host = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same handlers again, by name; newer versions of gRPC look them up faster so."""

    def add_insecure_port(self, address: str) -> int:
        self._host, _, port = address.rpartition(":")
        return int(port)

    async def start(self) -> None:
        self._wire.servers[self._host] = self

    async def stop(self, grace_s: float | None) -> None:
        self._wire.servers.pop(self._host, None)
        for channel in tuple(self._wire.channels.values()):
            if channel.target == self._host:
                channel.cut("the server has stopped")
        for task in tuple(self.tasks):
            task.cancel()

    def handler(self, path: str) -> Any:
        """Return the method handler of a path, or None."""
        details = SimpleNamespace(method=path, invocation_metadata=())
        return next((found for each in self._handlers if (found := each.service(details)) is not None), None)


class SimChannel:
    """What ``grpc.aio.insecure_channel`` makes, as far as the generated stub uses it."""

    def __init__(self, wire: Wire, source: str, target: str, number: int) -> None:
        self.wire, self.source, self.target = wire, source, target
        self.peer = f"ipv4:{source}:{10_000 + number % 50_000}"
        self.calls: dict[int, Call] = {}
        self._number = number
        self._numbers = itertools.count()

    def unary_unary(
        self, path: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Callable[..., Any]:
        async def call(request: object, timeout: float | None = None) -> Any:
            under_way = self._start(path, request_serializer(request), timeout)
            try:
                return response_deserializer(await under_way.next())
            finally:
                under_way.cancel()

        return call

    def unary_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Callable[..., StreamCall]:
        def call(request: object, timeout: float | None = None) -> StreamCall:
            under_way = self._start(path, request_serializer(request), timeout, is_stream=True)
            return StreamCall(under_way, response_deserializer)

        return call

    def cut(self, reason: str) -> None:
        """End every call under way with UNAVAILABLE."""
        for call in tuple(self.calls.values()):
            call.fail(UNAVAILABLE, reason)

    async def close(self) -> None:
        self.cut("the connection is closed")
        self.wire.channels.pop(self._number, None)

    def _start(self, path: str, request: bytes, timeout_s: float | None, *, is_stream: bool = False) -> Call:
        number = next(self._numbers)
        call = self.calls[number] = Call(self, number, timeout_s, is_stream=is_stream)
        call.begin(path, request)
        return call


@dataclass(frozen=True, slots=True)
class Reply:
    """One message to the caller: bytes, an error, or neither at a stream's end."""

    raw: bytes | None = None
    error: grpc.aio.AioRpcError | None = None


class Call:
    """One call: its request's way there, the handler's task, and the replies' way back."""

    def __init__(self, channel: SimChannel, number: int, timeout_s: float | None, *, is_stream: bool) -> None:
        self._channel, self._number, self._is_stream = channel, number, is_stream
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_s, self._expire) if timeout_s is not None else None
        self._replies: dict[int, Reply] = {}
        self._sent_count = self._read_count = 0
        self._arrived = asyncio.Event()
        self._failure: grpc.aio.AioRpcError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def peer(self) -> str:
        return self._channel.peer

    def begin(self, path: str, request: bytes) -> None:
        """Send the request."""
        if len(request) > limits.MAX_MESSAGE_BYTES:
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "the message is too large")
        else:
            self._send(self._channel.source, self._channel.target, len(request), lambda: self._serve(path, request))

    async def next(self) -> bytes | None:
        """Return the next message in order, None at the end; raises ``AioRpcError`` where the call has failed."""
        while self._read_count not in self._replies:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        reply = self._replies.pop(self._read_count)
        self._read_count += 1
        if reply.error is not None:
            raise reply.error
        return reply.raw

    def fail(self, status: grpc.StatusCode, details: str) -> None:
        """End the call on both sides."""
        self._failure = self._failure or rpc_error(status, details)
        self._arrived.set()
        self.cancel()

    def cancel(self) -> None:
        """Let go of the call: its handler is cancelled, as gRPC does."""
        self._channel.calls.pop(self._number, None)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def reply(self, reply: Reply) -> None:
        """Send a reply; called on the server's side."""
        number, self._sent_count = self._sent_count, self._sent_count + 1
        if self._is_stream:
            self._send_surely(number, reply)
        else:
            channel, size_bytes = self._channel, len(reply.raw or b"")
            self._send(channel.target, channel.source, size_bytes, lambda: self._take(number, reply))

    def _send_surely(self, number: int, reply: Reply) -> None:
        channel, size_bytes = self._channel, len(reply.raw or b"")
        is_wanted = self._number in channel.calls
        if is_wanted and not channel.wire.carry(
            channel.target, channel.source, size_bytes, lambda: self._take(number, reply)
        ):
            self._loop.call_later(AGAIN_S, self._send_surely, number, reply)

    def _send(self, source: str, target: str, size_bytes: int, deliver: Callable[[], None]) -> None:
        if not self._channel.wire.carry(source, target, size_bytes, deliver):
            self._loop.call_later(LOST_S, self.fail, UNAVAILABLE, "a message was lost")

    def _take(self, number: int, reply: Reply) -> None:
        if number >= self._read_count:
            self._replies[number] = reply
            self._arrived.set()

    def _expire(self) -> None:
        self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    def _serve(self, path: str, request: bytes) -> None:
        if self._number not in self._channel.calls:
            return
        server = self._channel.wire.servers.get(self._channel.target)
        handler = server and server.handler(path)
        if server is None or handler is None:
            status = UNAVAILABLE if server is None else grpc.StatusCode.UNIMPLEMENTED
            self.reply(Reply(error=rpc_error(status, "nobody serves this")))
            return
        context = contextvars.copy_context()
        context.run(HOST.set, self._channel.target)
        task = context.run(asyncio.get_running_loop().create_task, self._handle(handler, request))
        self._tasks.append(task)
        server.tasks.add(task)
        task.add_done_callback(server.tasks.discard)

    async def _handle(self, handler: Any, request: bytes) -> None:
        context = Context(self, handler.response_serializer)
        try:
            message = handler.request_deserializer(request)
            if handler.unary_unary is not None:
                await context.write(await handler.unary_unary(message, context))
            else:
                await handler.unary_stream(message, context)
                self.reply(Reply())
        except grpc.aio.AbortError:
            self.reply(Reply(error=context.abortion))


class Context:
    """What a handler is given of a call."""

    def __init__(self, call: Call, encode: Any) -> None:
        self._call, self._encode = call, encode
        self.abortion: grpc.aio.AioRpcError | None = None

    def peer(self) -> str:
        return self._call.peer

    async def write(self, message: object) -> None:
        self._call.reply(Reply(self._encode(message)))

    async def abort(self, status: grpc.StatusCode, details: str, trailer: Sequence[tuple[str, str]] = ()) -> None:
        self.abortion = rpc_error(status, details, trailer)
        raise grpc.aio.AbortError


class StreamCall:
    """A call with many replies, read one by one."""

    def __init__(self, call: Call, decode: Any) -> None:
        self._call, self._decode = call, decode

    async def read(self) -> Any:
        raw = await self._call.next()
        return grpc.aio.EOF if raw is None else self._decode(raw)

    def cancel(self) -> None:
        self._call.cancel()


def rpc_error(status: grpc.StatusCode, details: str, trailer: Sequence[tuple[str, str]] = ()) -> grpc.aio.AioRpcError:
    """Return what a failed call raises."""
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(*trailer), details)
