"""Models as bytes: the canonical form that is hashed, the tight wire form, and the difference to a parent.

PROTOCOL.md, section "Model".  FOUND blocks carry the wire form, EVOLVE blocks the difference; ``model_hash`` is always
over the canonical form of the whole model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain.bnn.bits import BitReader, BitWriter
from bnnchain.wire import Reader, Writer, tagged_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import (
    MAX_ABS_BIAS,
    MAX_LAYERS,
    Architecture,
    Conv3x3,
    Dense,
    Layer,
    Model,
    UInt64Array,
    pack_rows,
    unpack_rows,
)

if TYPE_CHECKING:
    from bnnchain_kernels.model import BoolArray, Int32Array

FlipPositions: TypeAlias = npt.NDArray[np.int64]

CONV, CONV_POOL, DENSE = 0, 1, 2
BIAS_BITS = 22
"""A bias is carried as bias + 2**20 in 22 bits (0..2**21 needs 22)."""
MAX_WIRE_BYTES = 1 << 20
"""The wire form of a model never exceeds this; the type limits allow more, consensus does not."""


def encode_architecture(architecture: Architecture) -> bytes:
    """Return the canonical bytes of a shape: u16 height, width; u8 planes, layer count; per layer u8 kind, u16 size."""
    writer = Writer().u16(architecture.height).u16(architecture.width).u8(architecture.planes)
    writer.u8(len(architecture.layers))
    for layer in architecture.layers:
        if isinstance(layer, Conv3x3):
            writer.u8(CONV_POOL if layer.pool else CONV).u16(layer.filters)
        else:
            writer.u8(DENSE).u16(layer.units)
    return writer.bytes()


def read_architecture(reader: Reader) -> Architecture:
    """Return the shape at the reader's place; raises ``bad-encoding`` or ``bad-architecture``."""
    height, width, planes, count = reader.u16(), reader.u16(), reader.u8(), reader.u8()
    if count > MAX_LAYERS:
        raise Invalid("bad-architecture", reason="layer count", layers=count)
    layers: list[Layer] = []
    for _ in range(count):
        kind, size = reader.u8(), reader.u16()
        if kind not in (CONV, CONV_POOL, DENSE):
            raise Invalid("bad-architecture", reason="unknown layer kind", kind=kind)
        layers.append(Dense(size) if kind == DENSE else Conv3x3(size, pool=kind == CONV_POOL))
    return Architecture(height, width, planes, tuple(layers))


def shape_hash(architecture: Architecture) -> bytes:
    """Return the 32-byte hash that names a shape."""
    return tagged_hash("shape", encode_architecture(architecture))


def canonical_bytes(model: Model) -> bytes:
    """Return the bytes that are hashed: shape, weight rows as 64-bit words, thresholds and biases as int32."""
    parts = [encode_architecture(model.architecture)]
    parts += [rows.astype("<u8", copy=False).tobytes() for rows in model.weights]
    parts += [limits.astype("<i4", copy=False).tobytes() for limits in model.thresholds]
    parts.append(model.biases.astype("<i4", copy=False).tobytes())
    return b"".join(parts)


def model_hash(model: Model) -> bytes:
    """Return the 32-byte hash that names a model."""
    return tagged_hash("model", canonical_bytes(model))


def encode_model(model: Model) -> bytes:
    """Return the tight wire form: shape, then one bit string of weights, thresholds and biases.

    Weights take one bit each without row padding, a threshold ceil(log2(K + 2)) bits, biases one flag bit in all if
    they are zero, else ``BIAS_BITS`` each.
    """
    writer = BitWriter().raw(flat_weights(model))
    for layer, limits in zip(model.architecture.geometry, model.thresholds, strict=False):
        writer.integers(limits.astype(np.int64), threshold_bits(layer.fan_in))
    has_biases = bool(model.biases.any())
    writer.raw(np.array([has_biases]))
    if has_biases:
        writer.integers(model.biases.astype(np.int64) + MAX_ABS_BIAS, BIAS_BITS)
    return encode_architecture(model.architecture) + writer.bytes()


def wire_size_bytes(architecture: Architecture, *, has_biases: bool) -> int:
    """Return the exact size of :func:`encode_model`'s result, known from the shape before anything is read."""
    bits = architecture.weight_count + 1 + (architecture.classes * BIAS_BITS if has_biases else 0)
    bits += sum(layer.out_channels * threshold_bits(layer.fan_in) for layer in architecture.geometry[:-1])
    return len(encode_architecture(architecture)) + -(-bits // 8)


def decode_model(data: bytes) -> Model:
    """Return the model of a wire form; raises ``bad-encoding``, ``bad-architecture`` or ``bad-model``.

    Only what :func:`encode_model` writes is accepted: padding bits are zero, an all-zero bias list is one flag.
    """
    reader = Reader(data)
    architecture = read_architecture(reader)
    sizes = [wire_size_bytes(architecture, has_biases=has) for has in (False, True)]
    if len(data) > MAX_WIRE_BYTES or len(data) not in sizes:
        raise Invalid("bad-encoding", reason="model size", size=len(data), wanted=sizes[0])
    bits = BitReader(reader.raw(reader.remaining))
    weights = split_weights(architecture, bits.raw(architecture.weight_count))
    thresholds = [
        bits.integers(layer.out_channels, threshold_bits(layer.fan_in)).astype(np.int32)
        for layer in architecture.geometry[:-1]
    ]
    has_biases = bool(bits.raw(1)[0])
    biases = np.zeros(architecture.classes, np.int32)
    if has_biases:
        biases = (bits.integers(architecture.classes, BIAS_BITS) - MAX_ABS_BIAS).astype(np.int32)
    bits.finish()
    if has_biases != bool(biases.any()):
        raise Invalid("bad-encoding", reason="biases announced and zero")
    return Model(architecture, weights, tuple(thresholds), biases)


def encode_difference(parent: Model, child: Model) -> bytes:
    """Return the difference of two models of one shape: flips, changed thresholds, changed biases, as one bit string.

    Each list is a count and, unless it is zero, the gaps (position minus previous position minus 1) in Rice's code; of
    thresholds and biases then the changes, likewise, a change d as 2 (abs(d) - 1), plus 1 if d < 0.  Positions count
    weights over all layers in canonical order without padding, thresholds over all hidden layers, biases by class.
    """
    writer = BitWriter()
    _write_positions(writer, flip_positions(parent, child))
    _write_changes(writer, _joined(parent.thresholds), _joined(child.thresholds))
    _write_changes(writer, parent.biases, child.biases)
    return writer.bytes()


def apply_difference(parent: Model, data: bytes) -> Model:
    """Return the child that ``data`` describes; raises ``bad-encoding`` or ``bad-model``.

    Positions increase and every entry changes something by construction; a position past the end, a longer spelling
    or trailing bits are refused.
    """
    if len(data) > MAX_WIRE_BYTES:
        raise Invalid("bad-encoding", reason="difference too large", size=len(data), limit=MAX_WIRE_BYTES)
    reader = BitReader(data)
    flips = _read_positions(reader, parent.architecture.weight_count)
    thresholds = _read_changes(reader, _joined(parent.thresholds))
    biases = _read_changes(reader, parent.biases)
    reader.finish()
    ends = np.cumsum([len(limits) for limits in parent.thresholds])
    layers = tuple(thresholds[end - len(old) : end] for end, old in zip(ends, parent.thresholds, strict=True))
    return Model(parent.architecture, apply_flips(parent, flips).weights, layers, biases)


def apply_flips(parent: Model, flips: FlipPositions) -> Model:
    """Return the parent with the weights at ``flips`` (``int64[n]``, distinct, flat positions) inverted."""
    geometry = parent.architecture.geometry
    starts = np.cumsum([0, *(layer.weight_count for layer in geometry)])
    weights: list[UInt64Array] = []
    for layer, rows, start in zip(geometry, parent.weights, starts[:-1], strict=True):
        inside = flips[(flips >= start) & (flips < start + layer.weight_count)] - start
        if len(inside) == 0:
            weights.append(rows)
            continue
        row, bit = np.divmod(inside, layer.fan_in)
        changed = rows.copy()
        masks = np.uint64(1) << (bit % 64).astype(np.uint64)
        np.bitwise_xor.at(changed, (row, bit // 64), masks)
        weights.append(changed)
    return Model(parent.architecture, tuple(weights), parent.thresholds, parent.biases)


def flip_positions(parent: Model, child: Model) -> FlipPositions:
    """Return the flat positions (``int64[n]``, increasing) at which two models of one shape have different weights."""
    return np.flatnonzero(flat_weights(parent) != flat_weights(child)).astype(np.int64)


def flat_weights(model: Model) -> BoolArray:
    """Return ``bool[weight_count]``: all weights, layer by layer, row by row, without padding."""
    geometry = model.architecture.geometry
    layers = [unpack_rows(rows, layer.fan_in).ravel() for layer, rows in zip(geometry, model.weights, strict=True)]
    return np.concatenate(layers)


def split_weights(architecture: Architecture, flat: BoolArray) -> tuple[UInt64Array, ...]:
    """Return packed rows per layer from ``bool[weight_count]``; the inverse of :func:`flat_weights`."""
    weights, position = [], 0
    for layer in architecture.geometry:
        stop = position + layer.weight_count
        weights.append(pack_rows(flat[position:stop].reshape(layer.out_channels, layer.fan_in)))
        position = stop
    return tuple(weights)


def threshold_bits(fan_in: int) -> int:
    """Return ceil(log2(K + 2)): the bits that hold any threshold 0..K+1."""
    return (fan_in + 1).bit_length()


def _joined(thresholds: tuple[Int32Array, ...]) -> Int32Array:
    return np.concatenate([*thresholds, np.zeros(0, np.int32)])


def _write_positions(writer: BitWriter, positions: FlipPositions) -> None:
    writer.count(len(positions))
    if len(positions):
        writer.rice(np.diff(positions, prepend=-1) - 1)


def _read_positions(reader: BitReader, limit: int) -> FlipPositions:
    count = reader.count(limit)
    if count == 0:
        return np.zeros(0, np.int64)
    positions: FlipPositions = np.cumsum(reader.rice(count) + 1) - 1
    if positions[-1] >= limit:
        raise Invalid("bad-encoding", reason="position past the end", position=int(positions[-1]), limit=limit)
    return positions


def _write_changes(writer: BitWriter, before: Int32Array, after: Int32Array) -> None:
    changed = np.flatnonzero(before != after).astype(np.int64)
    _write_positions(writer, changed)
    if len(changed):
        changes = after[changed].astype(np.int64) - before[changed]
        writer.rice(2 * (np.abs(changes) - 1) + (changes < 0))


def _read_changes(reader: BitReader, before: Int32Array) -> Int32Array:
    after = before.astype(np.int64)
    changed = _read_positions(reader, len(before))
    if len(changed):
        codes = reader.rice(len(changed))
        after[changed] += (codes // 2 + 1) * np.where(codes % 2, -1, 1)
    limits = np.iinfo(np.int32)
    if ((after < limits.min) | (after > limits.max)).any():
        raise Invalid("bad-encoding", reason="value is no i32")
    return after.astype(np.int32)
