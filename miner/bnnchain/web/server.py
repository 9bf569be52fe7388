"""The page's server inside the node's process and event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bnnchain.consensus.errors import Fault
from bnnchain.net.address import Address
from bnnchain.net.tasks import cancel_and_wait
from bnnchain.web.live import Live
from bnnchain.web.site import make_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from bnnchain.net.events import Subscription
    from bnnchain.web.explorer import Explorer

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
"""Further ones are closed at once: the node's own peers need file descriptors too."""
FIRST_REQUEST_S = 10
"""A connection that has asked nothing whole by then is closed."""
KEEP_ALIVE_S = 15
MAX_HEAD_BYTES = 16_384
STOP_GRACE_S = 1
BACKLOG = 64


@asynccontextmanager
async def serving_page(explorer: Explorer, events: Subscription, address: Address) -> AsyncIterator[str]:
    """Serve the page within the block; yields its URL.

    events: of the node's network.  Raises :class:`Fault` where the address cannot be bound.
    """
    server = PageServer(explorer)
    try:
        yield server.start(events, address)
    finally:
        await server.stop()


class PageServer:
    """Serves one explorer; lives in one event loop."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._live = Live()
        self._tasks: list[asyncio.Task[Any]] = []
        self._server: _Server | None = None

    def start(self, events: Subscription, address: Address) -> str:
        """Begin to serve and return the page's URL; raises :class:`Fault` where the address cannot be bound."""
        listening = _bind(address)
        config = uvicorn.Config(
            make_site(self._explorer, self._live),
            http=_BoundedProtocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_GRACE_S,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._server = _Server(config)
        height = int(self._explorer.chain.head.height)
        self._tasks = [
            asyncio.create_task(self._live.follow(events, height)),
            asyncio.create_task(self._server.serve([listening])),
        ]
        host, port = listening.getsockname()[:2]
        return f"http://{Address(host, port)}/"

    async def stop(self) -> None:
        """End everything within about two seconds."""
        self._live.close()
        if self._server is not None:
            self._server.should_exit = True
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._tasks[-1]), 2 * STOP_GRACE_S)
        await cancel_and_wait(self._tasks)


class _Server(uvicorn.Server):
    """Without uvicorn's signal handlers: the node decides when it ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _BoundedProtocol(H11Protocol):
    """Connections have a number, and a time within which they ask something."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self._end_unless_asked)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.cancel()
        super().connection_lost(exc)

    def _end_unless_asked(self) -> None:
        # Between requests the keep-alive timer rules; a request under way has an application behind it.
        if self.cycle is None:
            self.transport.abort()


def _bind(address: Address) -> socket.socket:
    """Return a listening socket; raises :class:`Fault`."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place, family=family, backlog=BACKLOG)
    except OSError as error:
        raise Fault(f"cannot serve the page on {address}: {error.strerror or error}") from error
