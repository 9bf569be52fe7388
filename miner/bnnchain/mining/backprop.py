"""The pieces of a network in training and their gradients, as pure functions over float arrays.

Arrays are ``[channels, y, x, image]``: the image comes last, so that windows, pools and sums run over long contiguous
stretches and a layer is one matrix product, weights ``[out, K]`` times windows ``[K, positions]``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.model import KERNEL_SIDE, POOL_SIDE, Conv3x3, LayerGeometry

Float32Array: TypeAlias = npt.NDArray[np.float32]

VARIANCE_EPSILON = np.float32(1e-3)
"""Added to a variance before its root is taken; part of what the export folds into thresholds."""


def computed_size(layer: LayerGeometry) -> tuple[int, int]:
    """Return the (height, width) of positions whose accumulators matter: those an odd-sized pool drops are left out."""
    side = POOL_SIDE if is_pooled(layer) else 1
    return layer.out_height * side, layer.out_width * side


def is_pooled(layer: LayerGeometry) -> bool:
    """Tell whether a 2x2 pool follows the layer."""
    return isinstance(layer.layer, Conv3x3) and layer.layer.pool


def windows(inputs: Float32Array, layer: LayerGeometry) -> Float32Array:
    """Return ``[K, positions * images]``: every computed position's inputs, k in the order of a model's weight rows."""
    channels, _, _, count = inputs.shape
    if not isinstance(layer.layer, Conv3x3):
        return np.ascontiguousarray(inputs.transpose(1, 2, 0, 3)).reshape(layer.fan_in, count)
    height, width = computed_size(layer)
    taps = np.empty((KERNEL_SIDE, KERNEL_SIDE, channels, height, width, count), inputs.dtype)
    for y in range(KERNEL_SIDE):
        for x in range(KERNEL_SIDE):
            taps[y, x] = inputs[:, y : y + height, x : x + width]
    columns: Float32Array = taps.reshape(layer.fan_in, -1)
    return columns


def windows_gradient(gradient: Float32Array, layer: LayerGeometry, count: int) -> Float32Array:
    """Return ``[channels, y, x, image]``: the gradient of a layer's inputs from that of its :func:`windows`."""
    if not isinstance(layer.layer, Conv3x3):
        rows = gradient.reshape(layer.in_height, layer.in_width, layer.in_channels, count)
        return np.ascontiguousarray(rows.transpose(2, 0, 1, 3))
    height, width = computed_size(layer)
    taps = gradient.reshape(KERNEL_SIDE, KERNEL_SIDE, layer.in_channels, height, width, count)
    inputs = np.zeros((layer.in_channels, layer.in_height, layer.in_width, count), gradient.dtype)
    for y in range(KERNEL_SIDE):
        for x in range(KERNEL_SIDE):
            inputs[:, y : y + height, x : x + width] += taps[y, x]
    return inputs


def max_pool(accumulators: Float32Array) -> Float32Array:
    """Return the maxima of 2x2 squares; an OR of bits is the threshold of this maximum."""
    first, *others = _squares(accumulators)
    pooled: Float32Array = first.copy()
    for other in others:
        np.maximum(pooled, other, out=pooled)
    return pooled


def max_pool_gradient(gradient: Float32Array, accumulators: Float32Array, pooled: Float32Array) -> Float32Array:
    """Return the gradient of :func:`max_pool`'s input; of equal maxima the first in row order takes all of it."""
    result = np.empty_like(accumulators)
    remaining = gradient
    for part, square in zip(_squares(result), _squares(accumulators), strict=True):
        is_maximum = square == pooled
        np.multiply(remaining, is_maximum, out=part)
        remaining = remaining - part
    return result


def normalise(values: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Return rows of ``[channels, n]`` with mean 0 and variance 1, their means, variances, and 1 / sqrt(variance)."""
    means = values.mean(axis=1)
    centred = values - means[:, None]
    variances = np.einsum("cn,cn->c", centred, centred) / values.dtype.type(values.shape[1])
    scales = 1 / np.sqrt(variances + VARIANCE_EPSILON)
    centred *= scales[:, None]
    return centred, means, variances, scales


def normalise_gradient(gradient: Float32Array, normalised: Float32Array, scales: Float32Array) -> Float32Array:
    """Return the gradient of :func:`normalise`'s input, through mean and variance too."""
    count = gradient.dtype.type(gradient.shape[1])
    along = np.einsum("cn,cn->c", gradient, normalised) / count
    result: Float32Array = gradient - normalised * along[:, None]
    result -= gradient.mean(axis=1)[:, None]
    result *= scales[:, None]
    return result


def cross_entropy(logits: Float32Array, labels: npt.NDArray[np.uint8]) -> tuple[float, Float32Array]:
    """Return the mean softmax cross-entropy of ``[classes, n]`` logits, and its gradient."""
    images = np.arange(len(labels))
    shifted = logits - logits.max(axis=0)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=0)
    loss = float(np.mean(np.log(sums) - shifted[labels, images]))
    gradient = exponentials / sums
    gradient[labels, images] -= 1
    return loss, gradient / gradient.dtype.type(len(labels))


def _squares(accumulators: Float32Array) -> list[Float32Array]:
    return [accumulators[:, y::POOL_SIDE, x::POOL_SIDE] for y in range(POOL_SIDE) for x in range(POOL_SIDE)]
