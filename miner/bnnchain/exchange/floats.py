"""A binary network in the terms of float frameworks: weights of -1 and +1, and what is added before each sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import KERNEL_SIDE, Conv3x3, unpack_weights

if TYPE_CHECKING:
    from bnnchain_kernels.model import Int32Array, LayerGeometry, Model

Int8Array: TypeAlias = npt.NDArray[np.int8]

EXACT_FLOAT_LIMIT = 1 << 24
"""Below this in absolute value every integer is a float32, so sums are exact in whatever order they are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatLayer:
    """A layer whose sum s of -1/+1 products counts.

    weights: ``int8[3, 3, in, out]`` or ``int8[in, out]`` of -1 and +1; a dense layer's inputs run over (y, x, channel).
    added: ``int32[out]``: a hidden neuron answers the sign of ``s + added``, the last layer's logit is ``s + added``.
    """

    place: LayerGeometry
    weights: Int8Array
    added: Int32Array

    @property
    def is_conv(self) -> bool:
        return isinstance(self.place.layer, Conv3x3)

    @property
    def is_pooled(self) -> bool:
        return isinstance(self.place.layer, Conv3x3) and self.place.layer.pool


def float_layers(model: Model) -> list[FloatLayer]:
    """Return the layers of a model in float terms.

    A sum s = 2P - K reaches its threshold where s - (2T - K) >= 0; both have K's parity, so one more makes it odd and
    no sign is ever asked of zero.  Raises :class:`Invalid` ``bad-export`` where a float32 could not hold every sum.
    """
    layers = []
    limits_by_layer: list[Int32Array | None] = [*model.thresholds, None]
    for place, bits, limits in zip(model.architecture.geometry, unpack_weights(model), limits_by_layer, strict=True):
        weights = bits.T.astype(np.int8) * np.int8(2) - np.int8(1)
        if isinstance(place.layer, Conv3x3):
            weights = weights.reshape(KERNEL_SIDE, KERNEL_SIDE, place.in_channels, place.out_channels)
        added = model.biases if limits is None else (1 + place.fan_in - 2 * limits).astype(np.int32)
        validate_exact(place.fan_in, added)
        layers.append(FloatLayer(place, np.ascontiguousarray(weights), added))
    return layers


def validate_exact(fan_in: int, added: Int32Array) -> None:
    """Raise :class:`Invalid` ``bad-export`` where a layer's sums may leave the integers that a float32 holds."""
    largest = fan_in + int(np.abs(added.astype(np.int64)).max())
    if largest >= EXACT_FLOAT_LIMIT:
        raise Invalid("bad-export", reason="sums leave the exact integers of float32", largest=largest)
