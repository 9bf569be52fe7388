"""What a node's metrics say, as a dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from bnnchain.metrics.collector import NodeMetrics
from bnnchain.metrics.view import NodeView

if TYPE_CHECKING:
    from net.running import Running


def metrics_of(node: Running) -> NodeMetrics:
    return NodeMetrics(NodeView(node.chain, node.mempool, node.network, None))


def parse(text: bytes) -> dict[str, float]:
    """Return the samples of a scrape, labels in the name: ``name{key=value}``."""
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
