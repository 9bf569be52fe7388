"""Metrics, health and readiness of one node, from its first block until it stops."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bnnchain.metrics.server import METRICS_TEXT, Answer, MetricsServer
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bnnchain.metrics.view import NodeView
    from bnnchain.net.address import Address


@asynccontextmanager
async def serving_metrics(view: NodeView, address: Address) -> AsyncIterator[Address]:
    """Serve a node's metrics within the block; yields where.  Raises :class:`Fault` where the port cannot be bound."""
    # Here and not above: it takes a tenth of a second to load, and most nodes serve no metrics.
    from bnnchain.metrics.collector import NodeMetrics

    metrics = NodeMetrics(view)

    async def show_metrics() -> Answer:
        return Answer(200, await metrics.scrape(), METRICS_TEXT)

    async def show_health() -> Answer:
        return Answer(200, b"ok\n")

    async def show_readiness() -> Answer:
        problems = await view.network.problems()
        return Answer(503 if problems else 200, "".join(f"{line}\n" for line in problems or ["ready"]).encode())

    server = MetricsServer({"/metrics": show_metrics, "/healthz": show_health, "/readyz": show_readiness})
    following = asyncio.create_task(metrics.follow())
    try:
        yield await server.start(address)
    finally:
        await server.stop()
        await cancel_and_wait([following])
