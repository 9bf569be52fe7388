"""The door: takes TCP connections in, keeps their number fair, and passes their bytes on to gRPC.

gRPC's server in Python neither limits nor ends single connections.  The door does: it listens on the node's public
address and connects each guest to gRPC's own port on loopback.  TLS, where there is any, goes through untouched.  Who
comes to the inner port by another way is no guest and is refused.

When the house is full, a guest has to go (as in Bitcoin): never one of the longest here, never one of those that
lately brought something useful; of the others the youngest of the largest netgroup.  An attacker thus competes with
itself for places.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.net import limits
from bnnchain.net.address import Address, parse_connection
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

log = logging.getLogger(__name__)

INNER_HOST = "127.0.0.1"
PROTECTED_OLDEST = 8
PROTECTED_USEFUL = 8
SWEEP_INTERVAL_S = 0.5


class Guest(asyncio.Protocol):
    """One connection that came in: its bytes go to gRPC, gRPC's to it, neither faster than the other side reads."""

    def __init__(self, door: Door, now_s: float) -> None:
        self._door = door
        self.address = Address("", 0)
        self.since_s = now_s
        self.useful_s = 0.0
        """When it last brought a new block or transaction; 0: never."""
        self.has_called = False
        """Whether a call of it was ever answered: it speaks our protocol."""
        self.inner_port = 0
        self.outer: asyncio.Transport | None = None
        self.inner: asyncio.Transport | None = None

    @property
    def name(self) -> str:
        """The connection as gRPC would name it."""
        return f"ipv{6 if ':' in self.address.host else 4}:{self.address}"

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  (typed as BaseTransport)
        self.outer = transport
        peer = transport.get_extra_info("peername")
        self.address = Address(str(Address(str(peer[0]).partition("%")[0], 0).ip), peer[1]) if peer else self.address
        # Soon, not at once: Python 3.10 begins to read only after this call, paused or not, and what came before gRPC
        # was there would be lost.
        asyncio.get_running_loop().call_soon(transport.pause_reading)
        self._door.welcome(self)

    def data_received(self, data: bytes) -> None:
        if self.inner is not None:
            self.inner.write(data)

    def eof_received(self) -> bool:
        return _end_writing(self.inner)

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_reading()

    def resume_writing(self) -> None:
        if self.inner is not None:
            self.inner.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.inner is not None:
            self.inner.close()
        self._door.leave(self)

    def cut(self) -> None:
        """End the connection at once, without waiting for what was not yet sent."""
        for transport in (self.outer, self.inner):
            if transport is not None:
                transport.abort()
        self._door.leave(self)


class _Inner(asyncio.Protocol):
    """gRPC's end of a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def data_received(self, data: bytes) -> None:
        if self._guest.outer is not None:
            self._guest.outer.write(data)

    def eof_received(self) -> bool:
        return _end_writing(self._guest.outer)

    def pause_writing(self) -> None:
        if self._guest.outer is not None:
            self._guest.outer.pause_reading()

    def resume_writing(self) -> None:
        if self._guest.outer is not None:
            self._guest.outer.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._guest.outer is not None:
            self._guest.outer.close()


class Door:
    """Listens for a node; lives in one event loop.

    limit: guests at a time.  is_banned: tells by :attr:`Address.conduct_key` who is not let in.
    """

    def __init__(self, limit: int, is_banned: Callable[[str], bool]) -> None:
        self._limit = limit
        self._is_banned = is_banned
        self._guests: dict[int, Guest] = {}
        """Connected to gRPC, by the inner port."""
        self._arriving: dict[Guest, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._inner_port = 0
        self.evicted_count = 0
        """Guests that had to go for others since the process began."""

    def __len__(self) -> int:
        return len(self._guests) + len(self._arriving)

    def inner_address(self, _address: Address) -> Address:
        """Return where gRPC is to listen for a node at ``address``; the system chooses the port."""
        return Address(INNER_HOST, 0)

    async def open(self, address: Address, inner_port: int) -> int:
        """Listen on ``address`` for gRPC at ``inner_port``; return the port.  Raises :class:`Fault`."""
        loop = asyncio.get_running_loop()
        self._inner_port = inner_port
        try:
            listener = await loop.run_in_executor(None, _listen, address)
            self._server = await loop.create_server(lambda: Guest(self, loop.time()), sock=listener)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Fault(f"cannot listen on {address}: {reason}; is another node running there?") from error
        self._sweeper = asyncio.create_task(self._sweep())
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and cut every guest."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._arriving.values(), *([self._sweeper] if self._sweeper is not None else [])]
        for guest in self.guests:
            guest.cut()
        await cancel_and_wait(tasks)
        await asyncio.sleep(0)  # the transports' ends are called soon

    @property
    def guests(self) -> list[Guest]:
        """All that are connected."""
        return [*self._guests.values(), *self._arriving]

    def name(self, connection: str) -> str | None:
        """Return gRPC's name of the guest behind one of its connections; None where it did not come by the door."""
        if self._server is None:
            return connection  # nothing is served: the calls come from this process itself
        guest = self._find(connection)
        return None if guest is None else guest.name

    def answered(self, connection: str) -> None:
        """Note that a call of a connection was answered."""
        if (guest := self._find(connection)) is not None:
            guest.has_called = True

    def praise(self, name: str) -> None:
        """Note that the guest of that name has brought something new."""
        for guest in self._guests.values():
            if guest.name == name:
                guest.useful_s = asyncio.get_running_loop().time()

    def show_out(self, conduct_key: str) -> None:
        """Cut every guest of a host that is banned now."""
        for guest in self.guests:
            if guest.address.conduct_key == conduct_key:
                guest.cut()

    def welcome(self, guest: Guest) -> None:
        """Let a guest in, if need be in another's place, or cut it."""
        if self._is_banned(guest.address.conduct_key):
            guest.cut()
            return
        group = guest.address.netgroup
        if sum(other.address.netgroup == group for other in self.guests) >= limits.MAX_INBOUND_PER_NETGROUP:
            log.debug("%s is not let in: its netgroup has all its places", guest.address)
            guest.cut()
            return
        if len(self) >= self._limit:
            leaving = choose_to_evict(self.guests)
            if leaving is None:
                guest.cut()
                return
            log.info("%s goes for %s: all %d places are taken", leaving.address, guest.address, self._limit)
            self.evicted_count += 1
            leaving.cut()
        self._arriving[guest] = asyncio.create_task(self._connect(guest))

    def leave(self, guest: Guest) -> None:
        """Forget a guest whose connection has ended."""
        if self._guests.get(guest.inner_port) is guest:
            del self._guests[guest.inner_port]
        if (task := self._arriving.pop(guest, None)) is not None:
            task.cancel()

    async def _connect(self, guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(lambda: _Inner(guest), INNER_HOST, self._inner_port)
        except OSError as error:
            log.warning("%s is not let in: %s", guest.address, error.strerror)
            guest.cut()
            return
        guest.inner = transport
        guest.inner_port = transport.get_extra_info("sockname")[1]
        del self._arriving[guest]
        self._guests[guest.inner_port] = guest
        if guest.outer is not None:
            guest.outer.resume_reading()

    async def _sweep(self) -> None:
        """Cut half-open guests, and those that never get so far as to ask anything."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for guest in self.guests:
                if not guest.has_called and loop.time() - guest.since_s > limits.FIRST_CALL_TIMEOUT_S:
                    log.info("%s is cut: no call in %g s", guest.address, limits.FIRST_CALL_TIMEOUT_S)
                    guest.cut()

    def _find(self, connection: str) -> Guest | None:
        try:
            return self._guests.get(parse_connection(connection).port)
        except Invalid:
            return None


def choose_to_evict(guests: list[Guest]) -> Guest | None:
    """Return the guest to cut for another; None where all are protected."""
    useful = sorted((guest for guest in guests if guest.useful_s), key=lambda guest: -guest.useful_s)
    oldest = sorted((guest for guest in guests if guest.has_called), key=lambda guest: guest.since_s)
    protected = {*useful[:PROTECTED_USEFUL], *oldest[:PROTECTED_OLDEST]}
    others = [guest for guest in guests if guest not in protected]
    if not others:
        return None
    counts = Counter(guest.address.netgroup for guest in guests)
    return max(others, key=lambda guest: (counts[guest.address.netgroup], guest.since_s))


def _end_writing(transport: asyncio.Transport | None) -> bool:
    """Pass on that one side has nothing more to say; the other may still answer."""
    if transport is None:
        return False
    with suppress(OSError, RuntimeError):
        if transport.can_write_eof():
            transport.write_eof()
    return True


def _listen(address: Address) -> socket.socket:
    family, _, _, _, location = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    is_any = family == socket.AF_INET6 and location[0] == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(location[:2], family=family, backlog=limits.BACKLOG, dualstack_ipv6=is_any)
    listener.setblocking(False)  # noqa: FBT003
    return listener
