"""The standard health service ``grpc.health.v1.Health`` (Check and Watch), served without its own package.

Source: grpc's ``doc/health-checking.md``.  Messages are field for field those of ``grpc/health/v1/health.proto``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc

from bnnchain.net.tasks import within
from bnnchain.rpc.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bnnchain.net.readiness import Readiness

SERVICE = "grpc.health.v1.Health"
NODE_SERVICE = "bnnchain.rpc.v1.Node"
MAX_HEALTH_WATCHES = 32
WATCH_INTERVAL_S = 1.0
"""How often a watch asks anew whether the node is ready."""


class Health:
    """Says whether the server as a whole ("") is alive, and whether the node's service can be relied on.

    ``""`` is SERVING until the node stops: an orchestrator must not restart a node that is merely catching up.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._is_stopping = asyncio.Event()
        self._watch_count = 0

    def stop(self) -> None:
        """Say NOT_SERVING from now on; watches are told and end."""
        self._is_stopping.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server registers."""
        request, reply = pb.HealthCheckRequest.FromString, pb.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, request, reply),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, request, reply),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _check(self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext) -> pb.HealthCheckResponse:
        status = await self._status(request.service)
        if status == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return pb.HealthCheckResponse(status=status)

    async def _watch(
        self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        if self._watch_count >= MAX_HEALTH_WATCHES:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "too many watches")
        self._watch_count += 1
        try:
            told = None
            while True:
                is_last = self._is_stopping.is_set()
                status = await self._status(request.service)
                if status != told:
                    yield pb.HealthCheckResponse(status=status)
                if is_last:
                    return
                told = status
                with suppress(asyncio.TimeoutError):
                    await within(WATCH_INTERVAL_S, _wait(self._is_stopping))
        finally:
            self._watch_count -= 1

    async def _status(self, service: str) -> int:
        if service not in {"", NODE_SERVICE}:
            return int(pb.HealthCheckResponse.SERVICE_UNKNOWN)
        is_bad = self._is_stopping.is_set() or (service == NODE_SERVICE and await self._readiness.problems())
        return int(pb.HealthCheckResponse.NOT_SERVING if is_bad else pb.HealthCheckResponse.SERVING)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
