"""How far models and shapes lie apart (paper section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flip_positions
from bnnchain_kernels.model import Conv3x3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain_kernels.model import Architecture, Model, UInt8Array, UInt64Array

NEAR_DIVISOR = 8
"""Rows of K weights are nearly the same where they differ in at most K divided by this."""
_ROWS_AT_ONCE = 1 << 14
"""So many fit into a processor's cache."""
_PAIRS, _NIBBLES, _OCTETS, _SUM = (np.uint64(int(octet * 8, 16)) for octet in ("55", "33", "0f", "01"))


def hamming(first: Model, second: Model) -> int:
    """Return the number of weights in which two models of one shape differ."""
    return len(flip_positions(first, second))


def shape_distance(first: Architecture, second: Architecture) -> int:
    """Return how many weights, pools and layers two shapes differ by; 0 only for equal shapes.

    Layers are compared in place: the paper's "number of weights per layer, connection types, and total layers".
    """
    if first == second:
        return 0
    distance = abs(first.input_bits - second.input_bits) + 1
    for index in range(max(len(first.layers), len(second.layers))):
        sides = [shape.geometry[index] if index < len(shape.layers) else None for shape in (first, second)]
        counts = [side.weight_count if side else 0 for side in sides]
        kinds = [
            (isinstance(side.layer, Conv3x3), getattr(side.layer, "pool", None)) if side else None for side in sides
        ]
        distance += abs(counts[0] - counts[1]) + (kinds[0] != kinds[1])
    return distance


def prediction_difference(first: UInt8Array, second: UInt8Array) -> int:
    """Return the number of samples on which two ``uint8[n]`` lists of predicted classes differ."""
    return int(np.count_nonzero(first != second))


def near_rows(model: Model, others: Sequence[Model], least_weights: int) -> tuple[int, int]:
    """Return (how many of a model's rows are nearly another's, how many were compared).

    Rows of K >= ``least_weights`` are compared with all rows of equal K of the ``others``.  Near is a Hamming distance
    of at most K // 8 to the row or to its negation, which is the same neuron to the next layer.
    """
    near = compared = 0
    for layer, rows in zip(model.architecture.geometry, model.weights, strict=True):
        if layer.fan_in < least_weights:
            continue
        compared += len(rows)
        pool = [other_rows for other in others for other_rows in _rows_of(other, layer.fan_in)]
        if pool:
            near += _near_count(rows, np.concatenate(pool), layer.fan_in)
    return near, compared


def _rows_of(model: Model, fan_in: int) -> list[UInt64Array]:
    geometry = model.architecture.geometry
    return [rows for layer, rows in zip(geometry, model.weights, strict=True) if layer.fan_in == fan_in]


def _near_count(rows: UInt64Array, others: UInt64Array, fan_in: int) -> int:
    """Return how many of ``rows`` are near one of ``others``, both ``uint64[n, words]``."""
    limit, near = fan_in // NEAR_DIVISOR, np.zeros(len(rows), np.bool_)
    columns = np.ascontiguousarray(others.T)
    for start in range(0, len(others), _ROWS_AT_ONCE):
        block = columns[:, start : start + _ROWS_AT_ONCE]
        for index in np.flatnonzero(~near):
            distances = np.zeros(block.shape[1], np.int32)
            for column, word in zip(block, rows[index], strict=True):
                distances += count_ones(column ^ word)
            near[index] = distances.min() <= limit or distances.max() >= fan_in - limit
    return int(np.count_nonzero(near))


def ones_by_arithmetic(words: UInt64Array) -> UInt8Array:
    """Return ``uint8[n]``: how many bits of each word are 1; what numpy 2 does in one instruction."""
    pairs = words - ((words >> np.uint64(1)) & _PAIRS)
    nibbles = (pairs & _NIBBLES) + ((pairs >> np.uint64(2)) & _NIBBLES)
    octets = (nibbles + (nibbles >> np.uint64(4))) & _OCTETS
    counts: UInt8Array = ((octets * _SUM) >> np.uint64(56)).astype(np.uint8)
    return counts


count_ones: Callable[[UInt64Array], UInt8Array] = getattr(np, "bitwise_count", ones_by_arithmetic)
