"""Every figure against what was done to the node."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from metrics.scraping import metrics_of, parse
from net.running import eventually

from bnnchain.chain.meter import InferenceMeter
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.types import BlockKind
from bnnchain.metrics.collector import MAX_SHOWN_FAMILIES, NodeCollector, NodeMetrics
from bnnchain.metrics.view import NodeView
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from net.running import Nodes


@pytest.fixture
async def following() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end with the test."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    await cancel_and_wait(tasks)


async def test_a_chain_in_figures(nodes: Nodes) -> None:
    node = await nodes.start(blocks=3)
    found = parse(await metrics_of(node).scrape())
    assert found["bnnchain_chain_height_blocks"] == 3
    assert found["bnnchain_chain_weight_tickets"] == node.chain.head.weight > 0
    assert found["bnnchain_head_timestamp_seconds"] == node.chain.head.timestamp
    assert found["bnnchain_stored_blocks"] == 3
    assert found["bnnchain_ready"] == 1
    assert found["bnnchain_syncing"] == 0
    assert found["bnnchain_missing_datasets"] == 0
    assert found["bnnchain_store_bytes"] == node.chain.store.size_bytes() > 1_000
    assert found["bnnchain_disk_free_bytes"] > 0
    assert found["process_resident_memory_bytes"] > 10**7
    assert "bnnchain_tickets_total" not in found, "a validator draws none"


async def test_a_model_in_figures(nodes: Nodes) -> None:
    node = await nodes.start()
    before = parse(await metrics_of(node).scrape())
    assert before["bnnchain_families"] == 0
    node.builder.extend(kind=BlockKind.FOUND)
    found = parse(await metrics_of(node).scrape())
    [family] = node.chain.head.families
    pool_size = node.chain.spec.dataset.pool_size
    assert found["bnnchain_families"] == 1
    assert found["bnnchain_family_accuracy_ratio{family=0}"] == pytest.approx(family.best.correct / pool_size)
    assert found["bnnchain_family_generations{family=0}"] == 0
    judged = node.chain.spec.params_at(1).n_eval + pool_size  # the ticket's images, then the claim's
    assert found["bnnchain_validated_images_total{backend=reference}"] == judged
    assert found["bnnchain_inference_seconds_total{backend=reference}"] > 0


async def test_refusals_and_bans_are_counted_by_code(nodes: Nodes) -> None:
    node = await nodes.start()
    metrics = metrics_of(node)
    for _ in range(2):
        with pytest.raises(Invalid):
            await node.network.submit_block(b"junk")
    code = next(iter(node.network.refused_blocks))
    assert parse(await metrics.scrape())[f"bnnchain_refused_blocks_total{{code={code}}}"] == 2
    assert parse(await metrics.scrape())["bnnchain_bans_total"] == 0
    node.network.conduct.blame("a peer", Invalid("bad-lottery-value"))
    found = parse(await metrics.scrape())
    assert (found["bnnchain_bans_total"], found["bnnchain_banned_peers"]) == (1, 1)


async def test_peers_reorganisations_and_verdicts(nodes: Nodes, following: list[asyncio.Task[None]]) -> None:
    heavy = nodes.make()
    heavy.idle(4, seed=1)
    await nodes.start(heavy)
    light = nodes.make(dial=[heavy])
    light.idle(2, seed=2)
    metrics = metrics_of(light)
    following.append(asyncio.create_task(metrics.follow()))
    await asyncio.sleep(0)  # it has subscribed
    await nodes.start(light)
    await eventually(lambda: light.height == 4)
    await eventually(lambda: heavy.network.peer_count, "the other side knows its guest")
    await asyncio.sleep(0.1)  # the events
    found = parse(await metrics.scrape())
    assert found["bnnchain_peers{direction=outbound}"] == 1
    assert found["bnnchain_peers{direction=inbound}"] == 0
    assert parse(await metrics_of(heavy).scrape())["bnnchain_peers{direction=inbound}"] == 1
    assert found["bnnchain_reorg_depth_blocks_count"] == 1
    assert found["bnnchain_reorg_depth_blocks_sum"] == 2
    heads = found["bnnchain_block_validation_seconds_count{backend=reference}"]
    assert 1 <= heads <= 4, "blocks that became the head"
    assert 0 < found["bnnchain_block_validation_seconds_sum{backend=reference}"] < 60


async def test_a_miner_shows_its_work(nodes: Nodes) -> None:
    node = await nodes.start()
    miner: Any = SimpleNamespace(ticket_count=64, candidate_count=1_000)
    found = parse(await NodeMetrics(NodeView(node.chain, node.mempool, node.network, miner)).scrape())
    assert (found["bnnchain_tickets_total"], found["bnnchain_candidates_total"]) == (64, 1_000)


async def test_a_chain_with_many_families_has_bounded_series() -> None:
    """One series a family would let whoever founds families fill the operator's Prometheus."""

    def family(number: int) -> Any:
        record = SimpleNamespace(height=number, correct=1)
        return SimpleNamespace(family_id=number, latest=record, best=record, dataset_id=b"", generation=0)

    dataset = SimpleNamespace(manifest=SimpleNamespace(pool_size=2))
    head = SimpleNamespace(families=[family(number) for number in range(1_000)], datasets={b"": dataset})
    view: Any = SimpleNamespace(chain=SimpleNamespace(head=head))
    count, accuracy, _generation = NodeCollector(view)._families()
    assert count.samples[0].value == 1_000
    assert [sample.labels["family"] for sample in accuracy.samples] == [
        str(number) for number in range(1_000 - MAX_SHOWN_FAMILIES, 1_000)
    ]


async def test_two_nodes_in_one_process_have_nothing_in_common(nodes: Nodes) -> None:
    one, other = metrics_of(await nodes.start(blocks=1)), metrics_of(await nodes.start(blocks=2))
    assert parse(await one.scrape())["bnnchain_chain_height_blocks"] == 1
    assert parse(await other.scrape())["bnnchain_chain_height_blocks"] == 2


async def test_a_stopping_node_is_not_scraped(nodes: Nodes) -> None:
    node = nodes.make()
    await node.network.start()
    metrics = metrics_of(node)
    await node.network.stop()
    with pytest.raises(Unavailable):
        await metrics.scrape()


def test_the_meter_counts_what_ended_well() -> None:
    meter = InferenceMeter()
    with meter.measure("c", 10):
        time.sleep(0.01)
    with meter.measure("c", 5):
        pass
    with pytest.raises(ZeroDivisionError), meter.measure("numba", 5):
        _ = 1 / 0
    assert set(meter.totals()) == {"c"}
    assert meter.totals()["c"].images == 15
    assert 0.01 <= meter.totals()["c"].seconds < 5
