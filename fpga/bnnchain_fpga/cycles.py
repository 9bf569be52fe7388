"""The model of cycles: what a batch costs, layer by layer, and what that means in images per second.

Modelled, not measured: the tests hold it against the simulated RTL cycle for cycle, no board has run it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain_fpga.registers import LABEL_WORDS, Operation
from bnnchain_kernels.model import POOL_SIDE

if TYPE_CHECKING:
    from bnnchain_fpga.compile import Capabilities, LayerPlan, Plan

NOMINAL_CLOCK_HZ = 100_000_000
LAYER_OVERHEAD = 13
"""Fetching the record (3), filling and draining the pipeline (10)."""
LAST_LAYER_OVERHEAD = 5
GROUP_READ_OVERHEAD = 8
"""From the last word of a group of logits until the class unit reads its accumulators, a class a cycle."""
LAYER_ALLOWANCE = 64
"""What the design allows a layer above the ideal."""


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """Cycles of one layer for one batch: the ideal of a valid (unpadded) layer, and what the overlay takes."""

    ideal: int
    """Every position, also those that pooling drops, one word a cycle."""
    modelled: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a plan means at a clock; every figure is modelled."""

    layers: tuple[LayerCycles, ...]
    batch_cycles: int
    """Cycles from one batch to the next: computing, or streaming images in where that takes longer."""
    cycles_per_image: float
    images_per_s: float
    macs_per_s: float


def model_throughput(plan: Plan, capabilities: Capabilities, clock_hz: int = NOMINAL_CLOCK_HZ) -> Throughput:
    """Return the modelled speed of a placed architecture when the streams never stall."""
    layers = tuple(model_layer(layer, plan.architecture.classes) for layer in plan.layers)
    computing = sum(layer.modelled for layer in layers)
    streaming = capabilities.lanes * (LABEL_WORDS + plan.image_words)
    batch = max(computing, streaming)
    images_per_s = clock_hz * capabilities.lanes / batch
    return Throughput(
        layers, batch, batch / capabilities.lanes, images_per_s, images_per_s * plan.architecture.mac_count
    )


def model_layer(layer: LayerPlan, classes: int) -> LayerCycles:
    """Return the cycles of one layer for one batch."""
    ideal = layer.geometry.positions * layer.groups * layer.row_words
    if layer.is_last:
        return LayerCycles(ideal, ideal + LAST_LAYER_OVERHEAD + layer.groups * GROUP_READ_OVERHEAD + classes)
    computed = layer.computed_positions * layer.groups * layer.row_words
    if layer.operation is Operation.CONV_ROWS:
        computed = _rows_cycles(layer)
    return LayerCycles(ideal, computed + LAYER_OVERHEAD)


def _rows_cycles(layer: LayerPlan) -> int:
    """Return the steps of a windowed layer: narrow bands wait until the rows of the next one are prefetched."""
    rows = POOL_SIDE + 2 if layer.pools else 3
    band = layer.geometry.out_width * layer.groups * (POOL_SIDE**2 if layer.pools else 1)
    bands = layer.geometry.out_height
    return rows + 1 + (bands - 1) * max(band, rows + 1) + band
