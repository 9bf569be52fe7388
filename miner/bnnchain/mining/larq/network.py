"""An architecture as Larq layers, and the exact integer model of such a network.

A hidden layer is convolution or dense with binary weights, max-pool, batch normalisation without scale; the next
layer's input quantizer takes the sign.  The last layer has no normalisation: its sums are the logits.

The export is checked by pushing every sum that a neuron can have through the framework's own layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bnnchain.mining import backprop
from bnnchain.mining.straight_through import exact_threshold
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.model import KERNEL_SIDE, POOL_SIDE, Conv3x3, build_model

if TYPE_CHECKING:
    import numpy.typing as npt

    from bnnchain_kernels.model import Architecture, LayerGeometry, Model

# TensorFlow and Keras carry no types.
Network = Any

MOMENTUM: Final = 0.9
"""Of the moving mean and variance; Keras' 0.99 lags behind binary weights and makes accuracy swing wildly."""
EPSILON: Final = float(backprop.VARIANCE_EPSILON)
MAX_CHECKED_VALUES: Final = 1 << 22
"""Sums times neurons pushed through a layer at once."""
TIE_ROUNDINGS: Final = 16
"""A float32 answer may differ from the exact one only where it lies within so many roundings of zero."""


def build_network(architecture: Architecture) -> Network:
    """Return an untrained Keras model; input ``float32[n, height, width, planes]`` of -1 and +1, output the logits.

    The output is scaled by a power of two near 1 / sqrt(K), which keeps the softmax in its working range and changes
    no order and no tie.
    """
    import larq
    import tf_keras

    binary = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }
    *hidden, last = architecture.geometry
    inputs = tf_keras.Input((architecture.height, architecture.width, architecture.planes))
    values = inputs
    for index, place in enumerate(hidden):
        if isinstance(place.layer, Conv3x3):
            conv = larq.layers.QuantConv2D(
                place.out_channels, KERNEL_SIDE, padding="valid", name=product_name(index), **binary
            )
            values = conv(values)
            if place.layer.pool:
                values = tf_keras.layers.MaxPooling2D(POOL_SIDE)(values)
        else:
            values = tf_keras.layers.Flatten()(values)
            values = larq.layers.QuantDense(place.out_channels, name=product_name(index), **binary)(values)
        values = tf_keras.layers.BatchNormalization(
            scale=False, momentum=MOMENTUM, epsilon=EPSILON, name=normalisation_name(index)
        )(values)
    values = tf_keras.layers.Flatten()(values)
    values = larq.layers.QuantDense(last.out_channels, name=product_name(len(hidden)), **binary)(values)
    values = tf_keras.layers.Rescaling(logit_scale(last))(values)
    return tf_keras.Model(inputs, values)


def product_name(index: int) -> str:
    """Return the name of the Keras layer that holds the weights of layer ``index``."""
    return f"product{index}"


def normalisation_name(index: int) -> str:
    """Return the name of the Keras layer that normalises the sums of hidden layer ``index``."""
    return f"normalisation{index}"


def logit_scale(last: LayerGeometry) -> float:
    """Return what the sums of the last layer are multiplied with: a power of two."""
    return float(2.0 ** -max(1, round(math.log2(last.fan_in) / 2)))


def export_network(network: Network, architecture: Architecture) -> Model:
    """Return the integer model of a network, after :func:`count_tie_differences` has found no fault in it.

    A weight is the sign of its latent weight, with sign(0) = +1; a threshold is exact in rational arithmetic on the
    float32 parameters, so that it does not depend on how a framework rounds.  Raises :class:`Fault` where a parameter
    is not finite or the check fails.
    """
    *hidden, _ = architecture.geometry
    weights, thresholds = [], []
    for index in range(len(architecture.geometry)):
        kernel = network.get_layer(product_name(index)).get_weights()[0]
        _validate_finite(kernel, index)
        weights.append(kernel.reshape(-1, kernel.shape[-1]).T >= 0)
    for index, place in enumerate(hidden):
        shift, mean, variance = network.get_layer(normalisation_name(index)).get_weights()
        _validate_finite(np.stack([shift, mean, variance]), index)
        parameters = zip(mean, variance, shift, strict=True)
        thresholds.append([exact_threshold(place.fan_in, *map(float, neuron)) for neuron in parameters])
    model = build_model(architecture, weights, thresholds, np.zeros(architecture.classes, np.int32))
    count_tie_differences(network, model)
    return model


def count_tie_differences(network: Network, model: Model) -> int:
    """Return how many (neuron, sum) pairs the framework's own layer decides otherwise than the model.

    Every sum that a neuron can have is pushed through its normalisation layer.  A framework may round a sum that lies
    on the boundary itself to either side (its fused, compiled and plain forms differ there), and trained parameters
    hardly ever meet one; any other difference raises :class:`Fault`.
    """
    differences = 0
    for index, (place, limits) in enumerate(zip(model.architecture.geometry, model.thresholds, strict=False)):
        layer = network.get_layer(normalisation_name(index))
        shift, mean, variance = (values.astype(np.float64) for values in layer.get_weights())
        rows = max(1, MAX_CHECKED_VALUES // place.out_channels)
        for first in range(0, place.fan_in + 1, rows):
            matches = np.arange(first, min(first + rows, place.fan_in + 1))
            sums = np.repeat((2 * matches - place.fan_in).astype(np.float32)[:, None], place.out_channels, axis=1)
            differs = (_normalise(layer, sums, place) >= 0) != (matches[:, None] >= limits)
            if differs.any():
                differences += np.count_nonzero(differs)
                _validate_ties(sums[differs], *(values[np.nonzero(differs)[1]] for values in (mean, variance, shift)))
    return differences


def _normalise(layer: Network, sums: npt.NDArray[np.float32], place: LayerGeometry) -> npt.NDArray[np.float32]:
    # A convolution's sums come in four dimensions, which TensorFlow normalises by another, fused kernel.
    shape = (-1, 1, 1, place.out_channels) if isinstance(place.layer, Conv3x3) else (-1, place.out_channels)
    values: npt.NDArray[np.float32] = layer(sums.reshape(shape), training=False).numpy().reshape(sums.shape)
    return values


def _validate_ties(
    sums: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
) -> None:
    scale = 1 / np.sqrt(variance + EPSILON)
    size = np.abs(sums * scale) + np.abs(mean * scale) + np.abs(shift)
    distance = np.abs((sums - mean) * scale + shift)
    if np.any(distance > TIE_ROUNDINGS * np.finfo(np.float32).eps * size):
        raise Fault("the exported model differs from the network it came from")


def _validate_finite(values: npt.NDArray[np.float32], index: int) -> None:
    if not np.isfinite(values).all():
        raise Fault(f"training diverged: layer {index} has parameters that are not finite")
