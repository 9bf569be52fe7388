"""A node's metrics for Prometheus: families made anew for each scrape, and what only events tell kept between them.

Names follow Prometheus' rules: a prefix, a base unit last, ``_total`` for what only grows.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from bnnchain import __version__
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.types import BlockKind, DatasetId
from bnnchain.metrics.view import take_snapshot
from bnnchain.net.messages import NewHead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from bnnchain.metrics.view import NodeView, Snapshot
    from bnnchain_kernels.evaluator import Evaluator

VALIDATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REORG_BUCKETS_BLOCKS = (1, 2, 3, 6, 12, 25, 50, 100)
MAX_SHOWN_FAMILIES = 64
"""Those with the newest models: a chain may have any number, a time series each would not do."""
MAX_KNOWN_EVALUATORS = 64


class NodeMetrics:
    """The metrics of one node in a registry of their own; used from its event loop."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._registry = CollectorRegistry()
        self._nodes = NodeCollector(view)
        self._registry.register(self._nodes)
        ProcessCollector(registry=self._registry)
        self._evaluators: dict[DatasetId, Evaluator] = {}
        """Asked once: during a sync there are hundreds of heads a second."""
        self._validation = Histogram(
            "bnnchain_block_validation_seconds",
            "Time to judge and store a block that became the head, inference included",
            ["backend"],
            buckets=VALIDATION_BUCKETS_S,
            registry=self._registry,
        )
        self._reorgs = Histogram(
            "bnnchain_reorg_depth_blocks",
            "Blocks that left the active chain at a time; the count is the number of reorganisations",
            buckets=REORG_BUCKETS_BLOCKS,
            registry=self._registry,
        )

    async def follow(self) -> None:
        """Take in new heads until the node stops; the only metrics that cannot be read off its objects."""
        async with self._view.network.subscribe() as events:
            async for event in events:
                if isinstance(event, NewHead):
                    await self._take(event)

    async def scrape(self) -> bytes:
        """Return all metrics in Prometheus' text format; raises :class:`Unavailable` where the node is stopping."""
        self._nodes.snapshot = await take_snapshot(self._view)
        return generate_latest(self._registry)

    async def _take(self, head: NewHead) -> None:
        if head.reorg_depth:
            self._reorgs.observe(head.reorg_depth)
        if head.verdict_us:  # none where a branch that was judged before has become the active one
            # The tickets of blocks without a model are drawn on the chain's own data set.
            has_model = head.header.kind != BlockKind.IDLE
            counted_on = DatasetId(head.header.dataset_id if has_model else self._view.chain.spec.dataset.dataset_id)
            self._validation.labels(await self._backend(counted_on)).observe(head.verdict_us / 1e6)

    async def _backend(self, dataset_id: DatasetId) -> str:
        if dataset_id not in self._evaluators:
            try:
                evaluator = await self._view.network.read(self._view.chain.validator.evaluator, dataset_id)
            except Unavailable:
                return "none"
            if len(self._evaluators) >= MAX_KNOWN_EVALUATORS:
                self._evaluators.clear()
            self._evaluators[dataset_id] = evaluator
        return self._evaluators[dataset_id].backend


class NodeCollector(Collector):
    """Reads a node's objects when it is asked; the registry's interface."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self.snapshot: Snapshot | None = None
        """Renewed before every collection."""

    def describe(self) -> list[Metric]:
        """Return nothing: names are checked when they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        yield from self._node(snapshot)
        yield from self._chain(snapshot)
        yield from self._families()
        yield from self._work()
        yield from self._network(snapshot)
        yield from self._disk(snapshot)

    def _node(self, snapshot: Snapshot) -> Iterator[Metric]:
        status = snapshot.status
        build = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
        yield InfoMetricFamily("bnnchain_build", "What exactly is running", build)
        node = {
            "chain": status.chain_name,
            "genesis": status.genesis_id.hex(),
            "role": status.role.name.lower(),
            "backend": status.backend or "none",
        }
        yield InfoMetricFamily("bnnchain_node", "What this node does, and on which chain", node)
        yield _gauge("bnnchain_ready", "1 where the node can be relied on, as /readyz says, else 0", snapshot.is_ready)

    def _chain(self, snapshot: Snapshot) -> Iterator[Metric]:
        state, status = self._view.chain.head, snapshot.status
        yield _gauge("bnnchain_chain_height_blocks", "Height of the active chain's last block", state.height)
        yield _gauge(
            "bnnchain_chain_weight_tickets", "Expected lottery tickets that the active chain stands for", state.weight
        )
        yield _gauge("bnnchain_head_timestamp_seconds", "Time that the last block claims, since 1970", state.timestamp)
        yield _gauge("bnnchain_stored_blocks", "Blocks in the store, active or not", status.block_count)
        yield _gauge("bnnchain_syncing", "1 while blocks are being fetched from a peer, else 0", status.is_syncing)
        yield _gauge(
            "bnnchain_missing_datasets", "Open data sets whose images are not here", len(status.missing_dataset_ids)
        )
        yield _gauge("bnnchain_mempool_transactions", "Transactions that wait for a block", len(self._view.mempool))
        yield _gauge(
            "bnnchain_mempool_bytes", "Encoded size of the waiting transactions", self._view.mempool.size_bytes
        )

    def _families(self) -> Iterator[Metric]:
        state = self._view.chain.head
        accuracy = GaugeMetricFamily(
            "bnnchain_family_accuracy_ratio",
            "Share of the pool that a family's best model labels right",
            labels=["family"],
        )
        generation = GaugeMetricFamily(
            "bnnchain_family_generations", "Generations that a family has evolved", labels=["family"]
        )
        newest = sorted(state.families, key=lambda family: family.latest.height)[-MAX_SHOWN_FAMILIES:]
        for family in newest:
            labels = [str(family.family_id)]
            pool_size = state.datasets[family.dataset_id].manifest.pool_size
            accuracy.add_metric(labels, family.best.correct / pool_size)
            generation.add_metric(labels, family.generation)
        yield _gauge("bnnchain_families", "Families of models on the chain", len(state.families))
        yield accuracy
        yield generation

    def _work(self) -> Iterator[Metric]:
        images = CounterMetricFamily(
            "bnnchain_validated_images", "Images evaluated to judge blocks", labels=["backend"]
        )
        seconds = CounterMetricFamily(
            "bnnchain_inference_seconds", "Time spent evaluating images to judge blocks", labels=["backend"]
        )
        for backend, total in self._view.chain.validator.meter.totals().items():
            images.add_metric([backend], total.images)
            seconds.add_metric([backend], total.seconds)
        yield images
        yield seconds
        miner = self._view.miner
        if miner is not None:
            yield _counter(
                "bnnchain_candidates", "Candidate models that the miner's searches have judged", miner.candidate_count
            )
            yield _counter("bnnchain_tickets", "Lottery tickets that the miner has drawn", miner.ticket_count)

    def _network(self, snapshot: Snapshot) -> Iterator[Metric]:
        network = self._view.network
        peers = GaugeMetricFamily("bnnchain_peers", "Peers connected, by who dialled", labels=["direction"])
        peers.add_metric(["inbound"], network.inbound_count)
        peers.add_metric(["outbound"], network.outbound_count)
        yield peers
        agreement = snapshot.status.agreement
        yield _gauge("bnnchain_polled_peers", "Dialled peers asked where they stand", agreement.voters)
        yield _gauge("bnnchain_agreeing_peers", "Of those, how many stand on one tip", agreement.votes)
        yield _counter("bnnchain_bans", "Bans pronounced on peers", network.conduct.ban_count)
        yield _gauge("bnnchain_banned_peers", "Peers banned at present", network.conduct.banned_count())
        yield _by_label("bnnchain_refused_blocks", "Blocks that broke a rule", "code", network.refused_blocks)

    def _disk(self, snapshot: Snapshot) -> Iterator[Metric]:
        yield _gauge("bnnchain_store_bytes", "Size of the store's files", snapshot.store_bytes)
        yield _gauge("bnnchain_disk_free_bytes", "Free space where the store is", snapshot.free_bytes)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=float(value))


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_text, value=float(value))


def _by_label(name: str, help_text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
