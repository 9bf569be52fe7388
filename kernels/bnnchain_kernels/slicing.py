"""The bit-sliced layout shared by the Numba and the C kernel: one vector holds one bit of many images.

Counting is carry-save addition over such vectors.  Inputs are taken three at a time (a *triple*: one row of a 3x3
kernel, or three neighbours of a dense layer); a table holds, for each of the 8 weight patterns of a triple, the two
bits of its match count.  A neuron is then a list of table positions, its *codes*.  The table is built once per triple
and shared by all neurons and by the three output rows that use it.

Nothing here is specific to one instruction set: ``lanes`` is the number of 64-bit words in a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.evaluator import BLOCK_IMAGES
from bnnchain_kernels.model import KERNEL_SIDE, MAX_ABS_BIAS, WORD_BITS, Conv3x3, UInt64Array

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Architecture, LayerGeometry, UInt8Array

BLOCK_WORDS: Final = BLOCK_IMAGES // WORD_BITS
LABEL_BITS: Final = 8
LABEL_PLANES: Final = LABEL_BITS + 1
"""Label planes of a slice: the label's bits, then one plane that is set where there is an image at all."""
TRIPLE: Final = KERNEL_SIDE
TRIPLE_VECTORS: Final = 16
"""Table vectors of a triple: 8 weight patterns, each with the low and the high bit of the match count."""
REGISTER_BITS: Final = 8
"""Counter bits kept in registers; a wider counter keeps the rest in memory."""
MIN_COUNTER_BITS: Final = REGISTER_BITS
SINGLE_COUNTER_BITS: Final = 4
"""A convolution of one channel counts at most 9 matches."""
CONV_CHUNK_CHANNELS: Final = 64
DENSE_CHUNK_TRIPLES: Final = 192
"""How many channels or triples are tabled at once; a 16-bit code reaches 512 triples of 512-bit vectors."""

# Columns of the plan, one row of int64 per layer.  Offsets count array elements, sizes count vectors.
DENSE: Final = 0
IN_WIDTH: Final = 1
IN_CHANNELS: Final = 2
ROWS: Final = 3
COLUMNS: Final = 4
OUT_WIDTH: Final = 5
NEURONS: Final = 6
POOL: Final = 7
COUNTER_BITS: Final = 8
CHUNK: Final = 9
CODE_START: Final = 10
INIT_START: Final = 11
IS_LAST: Final = 12
FAN_IN: Final = 13
PLAN_COLUMNS: Final = 16

Int64Array = npt.NDArray[np.int64]
UInt16Array = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one architecture is evaluated: a table of layers, and the sizes of the arrays that a kernel needs.

    layers: ``int64[layers, PLAN_COLUMNS]``; the last layer's ``COUNTER_BITS`` is a bound, the model's biases settle it.
    """

    layers: Int64Array
    input_vectors: int
    activation_vectors: int
    table_vectors: int
    counter_vectors: int
    code_count: int
    init_count: int

    @property
    def part_vectors(self) -> tuple[int, ...]:
        """Where the workspace's parts begin, in vectors, and where it ends.

        The first activation map begins at 0; then come the second, the tables, the counters, the arg-max state.
        """
        argmax = int(self.layers[-1, COUNTER_BITS]) + 1 + LABEL_BITS
        sizes = (self.activation_vectors, self.activation_vectors, self.table_vectors, self.counter_vectors, argmax)
        return tuple(accumulate(sizes))


def counter_bits(largest: int) -> int:
    """Return how many bits a kernel's counter needs to hold ``largest``."""
    return max(MIN_COUNTER_BITS, largest.bit_length())


def counter_stride(bits: int) -> int:
    """Return the vectors of a counter in memory, the words of its start value: carry-out, bit 0, bit 1, ...

    Those that a kernel keeps in registers are always there.
    """
    return max(bits, REGISTER_BITS) + 1


def padded(count: int) -> int:
    """Return ``count`` rounded up to whole triples."""
    return -(-count // TRIPLE) * TRIPLE


@lru_cache(maxsize=64)
def plan_architecture(architecture: Architecture) -> Plan:
    """Return the plan of an architecture; positions that pooling drops are not computed."""
    geometry = architecture.geometry
    layers = np.zeros((len(geometry), PLAN_COLUMNS), np.int64)
    activations = tables = counters = codes = inits = 0
    for index, place in enumerate(geometry):
        is_last = index == len(geometry) - 1
        bits = counter_bits(place.fan_in + MAX_ABS_BIAS if is_last else place.fan_in)
        if isinstance(place.layer, Conv3x3) and place.in_channels == 1:
            bits = SINGLE_COUNTER_BITS
        row = layers[index]
        row[[FAN_IN, NEURONS, COUNTER_BITS, IS_LAST]] = place.fan_in, place.out_channels, bits, is_last
        row[[CODE_START, INIT_START]] = codes, inits
        slots, layer_tables, layer_codes = _place(row, place)
        activations = max(activations, padded(place.out_height * place.out_width * place.out_channels) + TRIPLE)
        tables = max(tables, layer_tables)
        counters = max(counters, slots * place.out_channels * counter_stride(bits))
        codes += layer_codes
        inits += place.out_channels * counter_stride(bits)
    return Plan(layers, padded(architecture.input_bits), activations, tables, counters, codes, inits)


def _place(row: Int64Array, place: LayerGeometry) -> tuple[int, int, int]:
    """Fill a layer's sizes into its row; return its counter slots, table vectors and codes."""
    if isinstance(place.layer, Conv3x3):
        pool = int(place.layer.pool)
        chunk = min(place.in_channels, CONV_CHUNK_CHANNELS)
        rows, columns = place.out_height << pool, place.out_width << pool
        row[[IN_WIDTH, IN_CHANNELS, ROWS, COLUMNS]] = place.in_width, place.in_channels, rows, columns
        row[[OUT_WIDTH, POOL, CHUNK]] = place.out_width, pool, chunk
        # Three table rows in a ring; codes once per position of the ring.
        slots = 1 if chunk == place.in_channels else rows
        return slots, 3 * chunk * TRIPLE_VECTORS, 9 * place.in_channels * place.out_channels
    triples = padded(place.fan_in) // TRIPLE
    chunk = min(triples, DENSE_CHUNK_TRIPLES)
    row[[DENSE, CHUNK]] = 1, chunk
    return 1, chunk * TRIPLE_VECTORS, triples * place.out_channels


def aligned_words(count: int) -> UInt64Array:
    """Return ``uint64[count]`` of zeros that starts on a cache line, so that no vector straddles two."""
    raw = np.zeros(count + BLOCK_WORDS, np.uint64)
    skip = -(raw.ctypes.data // raw.itemsize) % BLOCK_WORDS
    return raw[skip : skip + count]


def slice_images(samples: Samples, lanes: int) -> UInt64Array:
    """Return the images bit-sliced: ``uint64[slices * input vectors * lanes]``, zero beyond the last image.

    A slice holds ``64 * lanes`` images; its vector i holds input bit i of them, LSB first.
    """
    bits = samples.height * samples.width * samples.planes
    blocks = -(-len(samples) // BLOCK_IMAGES)
    sliced = aligned_words(blocks * padded(bits) * BLOCK_WORDS)
    target = sliced.reshape(blocks, BLOCK_WORDS // lanes, padded(bits), lanes)
    for block in range(blocks):
        images = samples.images[block * BLOCK_IMAGES : (block + 1) * BLOCK_IMAGES]
        planes = np.unpackbits(images, axis=1, count=bits, bitorder="little").astype(np.uint8, copy=False)
        target[block, :, :bits] = _slice_planes(planes, lanes)
    return sliced


def slice_labels(samples: Samples, lanes: int) -> UInt64Array:
    """Return the labels bit-sliced: ``uint64[slices * LABEL_PLANES * lanes]``; the last plane marks real images."""
    blocks = -(-len(samples) // BLOCK_IMAGES)
    sliced = aligned_words(blocks * LABEL_PLANES * BLOCK_WORDS)
    target = sliced.reshape(blocks, BLOCK_WORDS // lanes, LABEL_PLANES, lanes)
    for block in range(blocks):
        labels = samples.labels[block * BLOCK_IMAGES : (block + 1) * BLOCK_IMAGES]
        planes = np.ones((len(labels), LABEL_PLANES), np.uint8)
        planes[:, :LABEL_BITS] = labels[:, None] >> np.arange(LABEL_BITS, dtype=np.uint8) & 1
        target[block] = _slice_planes(planes, lanes)
    return sliced


def _slice_planes(planes: UInt8Array, lanes: int) -> UInt64Array:
    """Return ``uint64[slices, k, lanes]`` from ``uint8[up to 512, k]`` of zeros and ones."""
    whole = np.zeros((planes.shape[1], BLOCK_IMAGES), np.uint8)
    whole[:, : len(planes)] = planes.T
    words = np.packbits(whole, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)
    return np.ascontiguousarray(words.reshape(-1, BLOCK_WORDS // lanes, lanes).transpose(1, 0, 2))
