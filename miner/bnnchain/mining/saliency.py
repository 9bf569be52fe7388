"""Which weights look worth flipping: the straight-through gradient of a finished integer model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.mining import backprop
from bnnchain.mining.straight_through import sign, signs
from bnnchain_kernels.model import unpack_weights

if TYPE_CHECKING:
    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain.mining.backprop import Float32Array
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model

NEAR_THRESHOLD = 0.25
"""Only neurons within this many standard deviations of their threshold pass gradient on: others would not change."""


BATCH_IMAGES = 128
"""Judged at a time: the layers of so many images stay in the processor's cache."""


def flip_saliency(model: Model, samples: Samples, indices: FlipPositions) -> Float32Array:
    """Return ``float32[weight_count]``: to first order, how much flipping each weight would lower the training loss.

    indices: ``int64[n]``, the images to judge by.  Biases are left out of the logits: they are rare and do not change
    the order by much.
    """
    salient = np.zeros(model.architecture.weight_count, np.float32)
    for start in range(0, len(indices), BATCH_IMAGES):
        batch = indices[start : start + BATCH_IMAGES]
        salient += _batch_saliency(model, samples, batch) * np.float32(len(batch) / len(indices))
    return salient


def _batch_saliency(model: Model, samples: Samples, indices: FlipPositions) -> Float32Array:
    *hidden, last = model.architecture.geometry
    weights = [np.where(rows, np.float32(1), np.float32(-1)) for rows in unpack_weights(model)]
    activations = signs(samples, indices)
    traces = []
    for layer, rows, limits in zip(hidden, weights, model.thresholds, strict=False):
        columns = backprop.windows(activations, layer)
        shape = (layer.out_channels, *backprop.computed_size(layer), len(indices))
        accumulators = (rows @ columns).reshape(shape)
        pooled = backprop.max_pool(accumulators) if backprop.is_pooled(layer) else accumulators
        # Halfway between the accumulators of T - 1 and T matches.
        boundary = (2 * limits - layer.fan_in - 1).astype(np.float32)[:, None, None, None]
        scale = pooled.std(axis=(1, 2, 3), keepdims=True) + backprop.VARIANCE_EPSILON
        offset = (pooled - boundary) / scale
        traces.append((columns, accumulators, pooled, offset, scale))
        activations = sign(offset)

    columns = backprop.windows(activations, last)
    logit_scale = np.float32(2.0 ** -max(1, round(math.log2(last.fan_in) / 2)))
    _, gradient = backprop.cross_entropy(weights[-1] @ columns * logit_scale, samples.labels[indices])
    gradient *= logit_scale
    salient = [((gradient @ columns.T) * weights[-1]).ravel()]
    gradient = backprop.windows_gradient(weights[-1].T @ gradient, last, len(indices))
    for index in reversed(range(len(hidden))):
        layer, (columns, accumulators, pooled, offset, scale) = hidden[index], traces[index]
        gradient = gradient * (np.abs(offset) <= NEAR_THRESHOLD) / scale
        if backprop.is_pooled(layer):
            gradient = backprop.max_pool_gradient(gradient, accumulators, pooled)
        rows = gradient.reshape(layer.out_channels, -1)
        salient.append(((rows @ columns.T) * weights[index]).ravel())
        if index > 0:
            gradient = backprop.windows_gradient(weights[index].T @ rows, layer, len(indices))
    return np.concatenate(salient[::-1])
