"""Binary neural networks as plain data: what kernels, overlay and consensus all consume.

An :class:`Architecture` is a shape; a :class:`Model` is a shape with its bits.  Everything is integers: weights and
activations are bits (1 means +1, 0 means -1), a neuron with fan-in ``K`` counts its matches ``P`` (positions where
input and weight agree) and answers ``P >= threshold``; a logit is ``2P - K + bias``.  PROTOCOL.md, section "Model".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]
Int32Array: TypeAlias = npt.NDArray[np.int32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

WORD_BITS = 64
KERNEL_SIDE = 3
KERNEL_TAPS = KERNEL_SIDE * KERNEL_SIDE
POOL_SIDE = 2

MAX_SIDE = 256
MAX_PLANES = 64
MAX_LAYERS = 16
MAX_CHANNELS = 4096
MIN_CLASSES = 2
MAX_CLASSES = 256
MAX_FAN_IN = 1 << 20
MAX_ABS_BIAS = 1 << 20


@dataclass(frozen=True, slots=True)
class Conv3x3:
    """A valid (unpadded) 3x3 convolution with ``filters`` outputs, then optionally a 2x2 OR-pool (floor)."""

    filters: int
    pool: bool = False


@dataclass(frozen=True, slots=True)
class Dense:
    """A fully connected layer with ``units`` outputs over the flattened (y, x, channel) input."""

    units: int


Layer: TypeAlias = Conv3x3 | Dense


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """The sizes of one layer in place; ``fan_in`` is K, all others count elements."""

    layer: Layer
    in_height: int
    in_width: int
    in_channels: int
    out_height: int
    out_width: int
    out_channels: int
    fan_in: int
    positions: int
    """Convolution positions computed before pooling (1 for dense); Ruling: pooled-away positions count as work."""

    @property
    def weight_count(self) -> int:
        return self.out_channels * self.fan_in

    @property
    def mac_count(self) -> int:
        return self.positions * self.weight_count

    @property
    def row_words(self) -> int:
        return -(-self.fan_in // WORD_BITS)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a network: input (height, width, planes) and layers; the last is dense, one unit per class.

    Raises :class:`Invalid` ``bad-architecture`` where the shape is not one the types allow.
    """

    height: int
    width: int
    planes: int
    layers: tuple[Layer, ...]
    geometry: tuple[LayerGeometry, ...] = field(init=False, repr=False, compare=False)
    """The sizes of every layer in place, first layer first; derived."""

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE and 1 <= self.planes <= MAX_PLANES):
            raise Invalid("bad-architecture", reason="input size", input=(self.height, self.width, self.planes))
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise Invalid("bad-architecture", reason="layer count", layers=len(self.layers))
        last = self.layers[-1]
        if not isinstance(last, Dense) or not MIN_CLASSES <= last.units <= MAX_CLASSES:
            raise Invalid("bad-architecture", reason="the last layer must be dense with 2 to 256 units")
        object.__setattr__(self, "geometry", self._place_layers())

    def _place_layers(self) -> tuple[LayerGeometry, ...]:
        height, width, channels, seen_dense = self.height, self.width, self.planes, False
        layers = []
        for index, layer in enumerate(self.layers):
            out = layer.filters if isinstance(layer, Conv3x3) else layer.units
            if not 1 <= out <= MAX_CHANNELS:
                raise Invalid("bad-architecture", reason="channels", layer=index, channels=out)
            if isinstance(layer, Conv3x3):
                if seen_dense or height < KERNEL_SIDE or width < KERNEL_SIDE:
                    raise Invalid("bad-architecture", reason="no room for a 3x3 convolution", layer=index)
                out_height, out_width = height - KERNEL_SIDE + 1, width - KERNEL_SIDE + 1
                fan_in, positions = KERNEL_TAPS * channels, out_height * out_width
                if layer.pool:
                    out_height, out_width = out_height // POOL_SIDE, out_width // POOL_SIDE
                if out_height < 1 or out_width < 1:
                    raise Invalid("bad-architecture", reason="nothing left after pooling", layer=index)
            else:
                seen_dense = True
                out_height = out_width = positions = 1
                fan_in = height * width * channels
            if fan_in > MAX_FAN_IN:
                raise Invalid("bad-architecture", reason="fan-in", layer=index, fan_in=fan_in)
            layers.append(LayerGeometry(layer, height, width, channels, out_height, out_width, out, fan_in, positions))
            height, width, channels = out_height, out_width, out
        return tuple(layers)

    @property
    def classes(self) -> int:
        return self.geometry[-1].out_channels

    @property
    def input_bits(self) -> int:
        return self.height * self.width * self.planes

    @property
    def weight_count(self) -> int:
        return sum(layer.weight_count for layer in self.geometry)

    @property
    def mac_count(self) -> int:
        """Multiply-accumulates (one xnor and one count each) for one image."""
        return sum(layer.mac_count for layer in self.geometry)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """An architecture with its parameters; equal models have equal canonical bytes (``bnnchain.bnn.encoding``).

    weights: per layer ``uint64[out, ceil(K/64)]``, bit k of a row at word k // 64, bit k % 64; a convolution's k runs
        over (ky, kx, in), a dense layer's over (y, x, channel).  Unused high bits are zero.
    thresholds: per hidden layer ``int32[out]`` in 0..K+1.
    biases: ``int32[classes]``, |bias| <= 2**20.

    Arrays are made read-only.  Raises :class:`Invalid` ``bad-model`` where an array breaks these rules.
    """

    architecture: Architecture
    weights: tuple[UInt64Array, ...]
    thresholds: tuple[Int32Array, ...]
    biases: Int32Array

    def __post_init__(self) -> None:
        geometry = self.architecture.geometry
        if len(self.weights) != len(geometry) or len(self.thresholds) != len(geometry) - 1:
            raise Invalid("bad-model", reason="layer count")
        for index, (layer, rows) in enumerate(zip(geometry, self.weights, strict=True)):
            if rows.dtype != np.uint64 or rows.shape != (layer.out_channels, layer.row_words):
                raise Invalid("bad-model", reason="weight shape", layer=index)
            unused = layer.row_words * WORD_BITS - layer.fan_in
            if unused and np.any(rows[:, -1] >> np.uint64(WORD_BITS - unused)):
                raise Invalid("bad-model", reason="unused weight bits are not zero", layer=index)
        for index, (layer, limits) in enumerate(zip(geometry[:-1], self.thresholds, strict=True)):
            if limits.dtype != np.int32 or limits.shape != (layer.out_channels,):
                raise Invalid("bad-model", reason="threshold shape", layer=index)
            if np.any(limits < 0) or np.any(limits > layer.fan_in + 1):
                raise Invalid("bad-model", reason="threshold range", layer=index)
        if self.biases.dtype != np.int32 or self.biases.shape != (geometry[-1].out_channels,):
            raise Invalid("bad-model", reason="bias shape")
        if np.any(np.abs(self.biases.astype(np.int64)) > MAX_ABS_BIAS):
            raise Invalid("bad-model", reason="bias range")
        for words in self.weights:
            words.setflags(write=False)
        for integers in (*self.thresholds, self.biases):
            integers.setflags(write=False)


def pack_rows(bits: BoolArray) -> UInt64Array:
    """Pack ``bool[rows, k]`` into ``uint64[rows, ceil(k/64)]``, LSB first, padded with zero bits."""
    rows, count = bits.shape
    words = -(-count // WORD_BITS)
    packed = np.zeros((rows, words * 8), np.uint8)
    octets = np.packbits(bits, axis=1, bitorder="little")
    packed[:, : octets.shape[1]] = octets
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack_rows(words: UInt64Array, count: int) -> BoolArray:
    """Unpack ``uint64[rows, w]`` into ``bool[rows, count]``; the inverse of :func:`pack_rows`."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=count, bitorder="little").astype(np.bool_)


def build_model(
    architecture: Architecture,
    weights: Sequence[BoolArray],
    thresholds: Sequence[npt.ArrayLike],
    biases: npt.ArrayLike,
) -> Model:
    """Return a Model from unpacked ``bool[out, K]`` weights, one array per layer."""
    return Model(
        architecture,
        tuple(pack_rows(np.asarray(layer, np.bool_)) for layer in weights),
        tuple(np.array(layer, np.int32) for layer in thresholds),
        np.array(biases, np.int32),
    )


def unpack_weights(model: Model) -> tuple[BoolArray, ...]:
    """Return each layer's weights as ``bool[out, K]`` (writable copies)."""
    return tuple(
        unpack_rows(rows, layer.fan_in) for layer, rows in zip(model.architecture.geometry, model.weights, strict=True)
    )
