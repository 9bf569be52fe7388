"""The definition of the kernel, in NumPy: slow, plain, and what every other backend must equal bit for bit."""

from __future__ import annotations

import numpy as np

from bnnchain_kernels.evaluator import BLOCK_IMAGES, Samples, predict, validate_range
from bnnchain_kernels.model import (
    KERNEL_SIDE,
    POOL_SIDE,
    BoolArray,
    Conv3x3,
    Int32Array,
    LayerGeometry,
    Model,
    unpack_weights,
)


class ReferenceEvaluator:
    """Evaluates by unpacked integer arithmetic, layer by layer."""

    backend = "reference"

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return the exact count per 512-image block; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=True)
        counts = []
        for first in range(start, stop, BLOCK_IMAGES):
            last = min(first + BLOCK_IMAGES, stop)
            right = predict(self.logits(model, first, last)) == self._samples.labels[first:last]
            counts.append(np.count_nonzero(right))
        return np.array(counts, np.int32)

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[stop-start, classes]``; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=False)
        self._samples.validate_fits(model.architecture)
        geometry = model.architecture.geometry
        activations = self._samples.unpack(start, stop).astype(np.bool_)
        weights = unpack_weights(model)
        for layer, rows, limits in zip(geometry[:-1], weights[:-1], model.thresholds, strict=True):
            activations = match_counts(activations, layer, rows) >= limits
            if isinstance(layer.layer, Conv3x3) and layer.layer.pool:
                activations = pool_or(activations)
        matches = match_counts(activations, geometry[-1], weights[-1]).reshape(stop - start, geometry[-1].out_channels)
        return (2 * matches - geometry[-1].fan_in + model.biases).astype(np.int32)


def match_counts(activations: BoolArray, layer: LayerGeometry, rows: BoolArray) -> Int32Array:
    """Return P, ``int32[n, y, x, out]``: how many of a neuron's K inputs agree with its weights.

    activations: ``bool[n, height, width, channels]``; rows: ``bool[out, K]``.  Nothing is pooled here.
    """
    if isinstance(layer.layer, Conv3x3):
        windows = np.lib.stride_tricks.sliding_window_view(activations, (KERNEL_SIDE, KERNEL_SIDE), axis=(1, 2))
        inputs = windows.transpose(0, 1, 2, 4, 5, 3)
        inputs = inputs.reshape(*inputs.shape[:3], layer.fan_in)
    else:
        inputs = activations.reshape(len(activations), 1, 1, layer.fan_in)
    # P = (K + sum of products of signs) / 2.  float64 is only an exact integer multiplier here: |sum| <= 2**20.
    signs = inputs.astype(np.float64) * 2 - 1
    products = signs @ (rows.T.astype(np.float64) * 2 - 1)
    matches: Int32Array = ((products + layer.fan_in) / 2).astype(np.int32)
    return matches


def pool_or(activations: BoolArray) -> BoolArray:
    """Return the 2x2 OR-pool of ``bool[n, height, width, channels]``; an odd last row or column is dropped."""
    count, height, width, channels = activations.shape
    height, width = height // POOL_SIDE, width // POOL_SIDE
    kept = activations[:, : height * POOL_SIDE, : width * POOL_SIDE]
    pooled: BoolArray = np.any(kept.reshape(count, height, POOL_SIDE, width, POOL_SIDE, channels), axis=(2, 4))
    return pooled
