"""A model's weights and thresholds in the bit-sliced form, compiled by Numba; see ``slicing.py`` for the layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain_kernels.compiled import entry, inlined, stride_of
from bnnchain_kernels.slicing import (
    CHUNK,
    CODE_START,
    COUNTER_BITS,
    DENSE,
    FAN_IN,
    IN_CHANNELS,
    INIT_START,
    NEURONS,
    TRIPLE,
)
from bnnchain_kernels.vector import LANES

if TYPE_CHECKING:
    from bnnchain_kernels.model import UInt64Array
    from bnnchain_kernels.slicing import Int64Array, UInt16Array


@entry
def write_codes(layer: Int64Array, rows: Int64Array, codes: UInt16Array) -> None:
    """Fill a layer's table positions from its packed weight rows; see ``slicing.py``."""
    neurons, chunk, at = layer[NEURONS], layer[CHUNK], layer[CODE_START]
    if layer[DENSE] != 0:
        triples = (layer[FAN_IN] + TRIPLE - 1) // TRIPLE
        for start in range(0, triples, chunk):
            width = min(chunk, triples - start)
            for neuron in range(neurons):
                for triple in range(width):
                    pattern = 0
                    for tap in range(TRIPLE):
                        weight = (start + triple) * TRIPLE + tap
                        if weight < layer[FAN_IN]:
                            pattern |= zero_weight(rows, neuron, weight) << tap
                    codes[at] = (triple * 8 + pattern) * 2 * LANES
                    at += 1
        return
    channels = layer[IN_CHANNELS]
    for start in range(0, channels, chunk):
        width = min(chunk, channels - start)
        for neuron in range(neurons):
            for kernel_row in range(3):
                for channel in range(width):
                    weight = kernel_row * 3 * channels + start + channel
                    pattern = zero_weight(rows, neuron, weight)
                    pattern |= zero_weight(rows, neuron, weight + channels) << 1
                    pattern |= zero_weight(rows, neuron, weight + 2 * channels) << 2
                    to = at + neuron * 3 * width + kernel_row * width + channel
                    for turn in range(3):
                        slot = (kernel_row + turn) % 3 * width + channel
                        codes[to + turn * neurons * 3 * width] = (slot * 8 + pattern) * 2 * LANES
        at += 9 * width * neurons


@inlined
def zero_weight(rows: Int64Array, neuron: int, weight: int) -> int:
    """Return 1 where a weight bit is 0 (its input is inverted), else 0."""
    bit: int = ~(rows[neuron, weight >> 6] >> (weight & 63)) & 1
    return bit


@entry
def write_starts(layer: Int64Array, starts: Int64Array, inits: UInt64Array) -> None:
    """Fill a layer's start values: word 0 is the carry-out, word 1 + i is bit i, all ones or all zeros."""
    bits, stride = layer[COUNTER_BITS], stride_of(layer[COUNTER_BITS])
    for neuron in range(layer[NEURONS]):
        at = layer[INIT_START] + neuron * stride
        for bit in range(bits):
            inits[at + 1 + bit] = -(starts[neuron] >> bit & 1)
        inits[at] = -(starts[neuron] >> bits & 1)
