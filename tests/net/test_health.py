from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from bnnchain.rpc.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from net.running import Nodes


def call(channel: Any, kind: str, method: str) -> Any:
    return getattr(channel, kind)(
        f"/grpc.health.v1.Health/{method}",
        request_serializer=pb.HealthCheckRequest.SerializeToString,
        response_deserializer=pb.HealthCheckResponse.FromString,
    )


async def test_check(nodes: Nodes) -> None:
    node = await nodes.start()
    async with grpc.aio.insecure_channel(node.address) as channel:
        check = call(channel, "unary_unary", "Check")
        for service in ("", "bnnchain.rpc.v1.Node"):
            reply = await check(pb.HealthCheckRequest(service=service), timeout=5)
            assert reply.status == pb.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await check(pb.HealthCheckRequest(service="other"), timeout=5)
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def test_watch_is_told_of_the_end(nodes: Nodes) -> None:
    node = nodes.make()
    await node.network.start()
    async with grpc.aio.insecure_channel(node.address) as channel:
        watch = call(channel, "unary_stream", "Watch")(pb.HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == pb.HealthCheckResponse.SERVING
        await node.network.stop()
        assert (await watch.read()).status == pb.HealthCheckResponse.NOT_SERVING


def test_wire_form_is_the_standard_one() -> None:
    """The bytes of grpc/health/v1/health.proto: service is field 1, status is field 1 with SERVING = 1."""
    assert pb.HealthCheckRequest(service="x").SerializeToString() == b"\x0a\x01x"
    assert pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING).SerializeToString() == b"\x08\x01"
