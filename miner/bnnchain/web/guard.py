"""What every request passes first and every answer carries: whom we talk to, how often, and what a browser may do.

The page has no passwords and changes nothing; what is guarded is the node's time, and that no other web page reads this
one through the visitor's browser (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_REQUESTS_UNDER_WAY = 32
"""Without the event streams, which have a limit of their own."""
MAX_TARGET_BYTES = 1_024
RATE_PER_S = 40.0
BURST = 240
MAX_CLIENTS = 1_024
LOCAL_NAMES = ("localhost",)

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}


class Buckets:
    """Token buckets, one a client, the clients of long ago forgotten."""

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens left and when they were counted, by client."""

    def take(self, client: str) -> bool:
        """Take a token of ``client``; answer whether there was one."""
        now = self._clock()
        level, counted = self._levels.pop(client, (float(self._burst), now))
        level = min(float(self._burst), level + (now - counted) * self._rate_per_s)
        is_there = level >= 1
        self._levels[client] = (level - 1 if is_there else level, now)
        while len(self._levels) > MAX_CLIENTS:
            self._levels.popitem(last=False)
        return is_there


class Guard:
    """The outermost ASGI application around the pages."""

    def __init__(self, app: ASGIApp, buckets: Buckets | None = None) -> None:
        self._app = app
        self._buckets = buckets or Buckets(RATE_PER_S, BURST)
        self._under_way = 0
        own = socket.gethostname().lower()
        self._names = frozenset((*LOCAL_NAMES, own, f"{own}.local"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: refused here, or by the pages, with the headers in both cases."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        is_stream = scope["path"] == "/events"
        self._under_way += not is_stream
        try:
            await self._app(scope, receive, send_guarded)
        finally:
            self._under_way -= not is_stream

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if not is_own_name(headers.get("host", ""), self._names):
            return PlainTextResponse("this node does not answer to that name\n", 421)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
            return PlainTextResponse("the address is too long\n", 414)
        if _is_from_elsewhere(headers, is_reading=scope["method"] in {"GET", "HEAD"}):
            return PlainTextResponse("asked from another site\n", 403)
        client = scope.get("client")
        if not self._buckets.take(client[0] if client else ""):
            return PlainTextResponse("too many requests; wait a little\n", 429, {"retry-after": "2"})
        if self._under_way >= MAX_REQUESTS_UNDER_WAY:
            return PlainTextResponse("busy; try again\n", 503, {"retry-after": "1"})
        return None


def is_own_name(host: str, names: frozenset[str]) -> bool:
    """Answer whether a Host header names this machine: by number, or by a name that no stranger can point here."""
    name, separator, port = host.rpartition(":")
    if not separator or not port.isdigit():
        name = host
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() in names
    return True


def _is_from_elsewhere(headers: Headers, *, is_reading: bool) -> bool:
    """Answer whether a page of another site asks through its visitor's browser.

    It may link here and no more: what it embeds or fetches is refused.  What is sent must say where it comes from.
    """
    is_own_site = headers.get("sec-fetch-site", "none") in {"same-origin", "none"}
    if is_reading:
        return not is_own_site and headers.get("sec-fetch-mode") != "navigate"
    host = headers.get("host", "")
    return not is_own_site or headers.get("origin") not in {f"http://{host}", f"https://{host}"}
