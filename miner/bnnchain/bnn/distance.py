"""How far models and shapes lie apart (paper section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flip_positions
from bnnchain_kernels.model import Conv3x3

if TYPE_CHECKING:
    from bnnchain_kernels.model import Architecture, Model, UInt8Array


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
