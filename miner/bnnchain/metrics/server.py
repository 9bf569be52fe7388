"""A small HTTP server for ``/metrics``, ``/healthz`` and ``/readyz``: two methods, no bodies, everything bounded.

It runs in the node's event loop, so that an answer from ``/healthz`` says that the loop turns.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bnnchain.consensus.errors import BnnchainError, Fault, Unavailable
from bnnchain.net.address import Address
from bnnchain.net.tasks import cancel_and_wait, within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""At once; more are closed unheard.  Prometheus and a browser need two."""
MAX_HEAD_BYTES = 8 << 10
"""Request line and headers."""
REQUEST_TIMEOUT_S = 5.0
RESPONSE_TIMEOUT_S = 10.0
TEXT = "text/plain; charset=utf-8"
METRICS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = TEXT


Route: TypeAlias = "Callable[[], Awaitable[Answer]]"


class MetricsServer:
    """Answers GET and HEAD on a few paths; one request a connection."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, address: Address) -> Address:
        """Listen; return where.  Raises :class:`Fault` where the address cannot be bound."""
        try:
            self._server = await asyncio.start_server(
                self._accept, address.host, address.port, limit=MAX_HEAD_BYTES, backlog=MAX_CONNECTIONS
            )
        except OSError as error:
            raise Fault(f"cannot serve metrics on {address}: {error.strerror or error}") from error
        if not address.is_loopback:
            log.warning("metrics are served on %s to whoever reaches it, unencrypted", address)
        return Address(address.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        await cancel_and_wait(tuple(self._answering))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._answering) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nothing is kept for a reader that does not read: written out within the time, or cut off.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            with suppress(asyncio.TimeoutError, OSError):
                head = await within(REQUEST_TIMEOUT_S, _read_head(reader))
                writer.write(await self._answer(head))
                await within(RESPONSE_TIMEOUT_S, writer.drain())
                writer.close()
                await within(RESPONSE_TIMEOUT_S, writer.wait_closed())
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes | None) -> bytes:
        method, _, rest = (head or b"").partition(b" ")
        target, _, version = rest.partition(b"\r\n")[0].rpartition(b" ")
        if head is None or not version.startswith(b"HTTP/1."):
            return _encode(Answer(400, b"not an HTTP request\n"), is_head=False)
        if method not in {b"GET", b"HEAD"}:
            return _encode(Answer(405, b"GET or HEAD\n"), is_head=False)
        route = self._routes.get(target.partition(b"?")[0].decode("ascii", "replace"))
        answer = Answer(404, b"".join(b"%s\n" % path.encode() for path in self._routes))
        if route is not None:
            answer = await _guarded(route)
        return _encode(answer, is_head=method == b"HEAD")


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    """Return the request line and headers; None where they are too long or never end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        return None


async def _guarded(route: Route) -> Answer:
    try:
        return await route()
    except Unavailable as error:
        return Answer(503, f"{error}\n".encode())
    except Exception as error:
        log.exception("a scrape failed", exc_info=None if isinstance(error, BnnchainError) else error)
        return Answer(500, b"this node failed\n")


def _encode(answer: Answer, *, is_head: bool) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        *(("Allow: GET, HEAD",) if answer.status == 405 else ()),  # noqa: PLR2004
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if is_head else answer.body)
