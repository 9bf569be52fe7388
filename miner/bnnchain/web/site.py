"""The page as an ASGI application: which address leads where, and what errors look like."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.web.assets import serve_asset
from bnnchain.web.guard import Guard
from bnnchain.web.model_pages import ModelPages
from bnnchain.web.pages import ChainPages
from bnnchain.web.views import Views

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from bnnchain.web.explorer import Explorer
    from bnnchain.web.live import Live

log = logging.getLogger(__name__)

MIN_GZIP_BYTES = 1_024
HEADINGS = {400: "That cannot be read", 404: "Not found", 405: "Not allowed", 408: "Too slow", 413: "Too large"}
DEFAULT_HEADING = "This node has a problem"


def make_site(explorer: Explorer, live: Live) -> ASGIApp:
    """Return the application; it reads and never writes: GET, HEAD, and one POST that classifies a drawing."""
    views = Views(explorer)
    chain, models = ChainPages(explorer, views, live), ModelPages(explorer, views)

    async def events(_request: Request) -> Response:
        if live.is_full:
            return Response("too many open pages\n", 503, {"retry-after": "10"})
        return EventStream(live)

    async def on_error(_request: Request, error: Exception) -> Response:
        status, text, headers = _describe(error)
        page = views.page("error.html", status, heading=HEADINGS.get(status, DEFAULT_HEADING), text=text)
        page.headers.update(headers)
        return page

    routes = [
        Route("/", chain.overview),
        Route("/now", chain.now),
        Route("/events", events, methods=["GET"]),
        Route("/blocks", chain.blocks),
        Route("/blocks/{which}", chain.block),
        Route("/families", chain.families),
        Route("/families/{number}", chain.family),
        Route("/datasets", chain.datasets),
        Route("/datasets/{which}", chain.dataset),
        Route("/models/{which}", models.model),
        Route("/models/{which}/model.{suffix}", models.file),
        Route("/draw", models.draw),
        Route("/draw/{which}", models.draw),
        Route("/classify/{which}", models.classify, methods=["POST"]),
        Route("/peers", chain.peers),
        Route("/static/{name}", serve_asset),
    ]
    kinds = (HTTPException, Invalid, Unavailable, Fault, Exception)
    return Guard(
        Starlette(
            routes=routes,
            middleware=[Middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES)],
            exception_handlers=dict.fromkeys(kinds, on_error),
        )
    )


class EventStream(StreamingResponse):
    """Server-Sent Events for one page, counted while it is open."""

    def __init__(self, live: Live) -> None:
        super().__init__(live.stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the page goes or the node stops."""
        with self._live.counted():
            await super().__call__(scope, receive, send)


def _describe(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return status, text for people and headers of an error."""
    if isinstance(error, HTTPException):
        text = "" if error.detail in {"Not Found", "Method Not Allowed"} else error.detail
        return error.status_code, text, dict(error.headers or {})
    if isinstance(error, Invalid):
        return 400, str(error), {}
    if isinstance(error, Unavailable):
        return 404, str(error), {}
    if isinstance(error, Fault):
        log.error("the page cannot be shown: %s", error)
        return 500, "This machine failed; the node's log says how.", {}
    return 500, "A bug of this program; the node's log has the traceback.", {}
