"""When a node says that it can be relied on; the health service and /readyz ask the same object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from net.running import eventually
from net.test_health import call

from bnnchain.net import readiness as readiness_module
from bnnchain.rpc.v1 import health_pb2 as pb

if TYPE_CHECKING:
    import pytest
    from net.running import Nodes, Running

NODE = "bnnchain.rpc.v1.Node"


async def health(node: Running, service: str) -> int:
    async with grpc.aio.insecure_channel(node.address) as channel:
        reply = await call(channel, "unary_unary", "Check")(pb.HealthCheckRequest(service=service), timeout=10)
        return int(reply.status)


async def test_a_serving_node_is_ready(nodes: Nodes) -> None:
    node = nodes.make()
    assert await node.network.problems() == ["it does not serve"]
    await nodes.start(node)
    assert await node.network.problems() == []


async def test_a_node_without_its_images_is_alive_but_not_ready(nodes: Nodes) -> None:
    node = await nodes.start(has_dataset=False)
    assert await node.network.problems() == ["the chain's data set is not here yet, so no kernel counts"]
    assert await health(node, NODE) == pb.HealthCheckResponse.NOT_SERVING
    assert await health(node, "") == pb.HealthCheckResponse.SERVING


async def test_a_syncing_node_is_not_ready(nodes: Nodes) -> None:
    node = await nodes.start()
    async with node.network._sync._lock:
        assert "it is fetching blocks" in await node.network.problems()
    assert await node.network.problems() == []


async def test_a_store_that_takes_nothing_is_seen_and_seen_to_be_well_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness_module, "WRITE_CHECK_INTERVAL_S", 0.0)
    node = await nodes.start()
    node.chain.store._database.execute("PRAGMA query_only = ON")
    [problem] = await node.network.problems()
    assert "readonly" in problem
    assert await health(node, NODE) == pb.HealthCheckResponse.NOT_SERVING
    node.chain.store._database.execute("PRAGMA query_only = OFF")
    assert await node.network.problems() == []
    assert await health(node, NODE) == pb.HealthCheckResponse.SERVING


async def test_the_disk_is_not_worn_out_by_asking(nodes: Nodes) -> None:
    node = await nodes.start()
    await node.network.problems()
    written = node.chain.store._database.total_changes
    size = node.chain.store.size_bytes()
    for _ in range(50):
        await node.network.problems()
    assert (node.chain.store._database.total_changes, node.chain.store.size_bytes()) == (written, size)


async def test_a_watch_is_told_of_every_change(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnchain.net.health.WATCH_INTERVAL_S", 0.02)
    node = await nodes.start()
    async with grpc.aio.insecure_channel(node.address) as channel:
        watch = call(channel, "unary_stream", "Watch")(pb.HealthCheckRequest(service=NODE), timeout=30)
        assert (await watch.read()).status == pb.HealthCheckResponse.SERVING
        async with node.network._sync._lock:
            assert (await watch.read()).status == pb.HealthCheckResponse.NOT_SERVING
        assert (await watch.read()).status == pb.HealthCheckResponse.SERVING
        watch.cancel()
    await eventually(lambda: not node.network._server._health._watch_count)
