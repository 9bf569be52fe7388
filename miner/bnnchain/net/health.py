"""The standard health service ``grpc.health.v1.Health`` (Check and Watch), served without its own package.

Source: grpc's ``doc/health-checking.md``.  Messages are field for field those of ``grpc/health/v1/health.proto``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from bnnchain.rpc.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "grpc.health.v1.Health"
NODE_SERVICE = "bnnchain.rpc.v1.Node"
MAX_HEALTH_WATCHES = 32


class Health:
    """Says SERVING for the server as a whole ("") and for the node's service until it is told to stop."""

    def __init__(self) -> None:
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
        status = self._status(request.service)
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
            yield pb.HealthCheckResponse(status=self._status(request.service))
            await self._is_stopping.wait()
            yield pb.HealthCheckResponse(status=self._status(request.service))
        finally:
            self._watch_count -= 1

    def _status(self, service: str) -> int:
        if service not in {"", NODE_SERVICE}:
            return int(pb.HealthCheckResponse.SERVICE_UNKNOWN)
        is_stopping = self._is_stopping.is_set()
        return int(pb.HealthCheckResponse.NOT_SERVING if is_stopping else pb.HealthCheckResponse.SERVING)
