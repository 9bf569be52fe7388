"""The bit-sliced layers, compiled by Numba; ``slicing.py`` describes the layout, ``numba_sliced.py`` calls them.

The threshold costs nothing: a counter of m bits starts at 2**m - threshold, so its carry-out (at most one, because
match counts are below 2**m) is the activation.  Pooling is OR.
"""

# ruff: noqa: FBT001, FBT003  (Numba compiles calls with positional arguments only)

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bnnchain_kernels.compiled import entry, inlined, stride_of
from bnnchain_kernels.slicing import (
    BLOCK_WORDS,
    CHUNK,
    CODE_START,
    COLUMNS,
    COUNTER_BITS,
    DENSE,
    FAN_IN,
    IN_CHANNELS,
    IN_WIDTH,
    INIT_START,
    IS_LAST,
    LABEL_BITS,
    LABEL_PLANES,
    NEURONS,
    OUT_WIDTH,
    POOL,
    REGISTER_BITS,
    ROWS,
    TRIPLE,
    TRIPLE_VECTORS,
)
from bnnchain_kernels.vector import (
    LANES,
    address,
    code_at,
    full_add,
    invert,
    load,
    load_splat,
    popcount,
    select,
    store,
    word_at,
    zeros,
)

if TYPE_CHECKING:
    from bnnchain_kernels.model import Int32Array, UInt64Array
    from bnnchain_kernels.slicing import Int64Array, UInt16Array
    from bnnchain_kernels.vector import Vector

    Counter = tuple[Vector, Vector, Vector, Vector, Vector]

HIGH: Final = LANES
"""Words from the low to the high bit of a table entry."""


@inlined
def half_add(one: Vector, two: Vector) -> tuple[Vector, Vector]:
    """Return (sum, carry) of two bits."""
    return one ^ two, one & two


@inlined
def add_one(table: int, codes: int, at: int, count: Counter) -> tuple[Counter, Vector]:
    """Return the counter's low five bits after one triple, and the carry out of them."""
    b0, b1, b2, b3, b4 = count
    word = code_at(codes, at)
    b0, ones = half_add(b0, load(table, word))
    b1, twos = full_add(b1, load(table, word + HIGH), ones)
    b2, fours = half_add(b2, twos)
    b3, eights = half_add(b3, fours)
    b4, carry = half_add(b4, eights)
    return (b0, b1, b2, b3, b4), carry


@inlined
def add_four(table: int, codes: int, at: int, count: Counter) -> tuple[Counter, Vector]:
    """Return the counter's low five bits after four triples, and the carry out of them."""
    b0, b1, b2, b3, b4 = count
    w0, w1, w2, w3 = code_at(codes, at), code_at(codes, at + 1), code_at(codes, at + 2), code_at(codes, at + 3)
    b0, ones0 = full_add(b0, load(table, w0), load(table, w1))
    b0, ones1 = full_add(b0, load(table, w2), load(table, w3))
    b1, twos0 = full_add(b1, load(table, w0 + HIGH), load(table, w1 + HIGH))
    b1, twos1 = full_add(b1, load(table, w2 + HIGH), load(table, w3 + HIGH))
    b1, twos2 = full_add(b1, ones0, ones1)
    b2, fours0 = full_add(b2, twos0, twos1)
    b2, fours1 = half_add(b2, twos2)
    b3, eights = full_add(b3, fours0, fours1)
    b4, carry = half_add(b4, eights)
    return (b0, b1, b2, b3, b4), carry


@inlined
def add_eight(table: int, codes: int, at: int, count: Counter) -> tuple[Counter, Vector]:
    """Return the counter's low five bits after eight triples, and the carry out of them."""
    b0, b1, b2, b3, b4 = count
    w0, w1, w2, w3 = code_at(codes, at), code_at(codes, at + 1), code_at(codes, at + 2), code_at(codes, at + 3)
    w4, w5, w6, w7 = code_at(codes, at + 4), code_at(codes, at + 5), code_at(codes, at + 6), code_at(codes, at + 7)
    b0, ones0 = full_add(b0, load(table, w0), load(table, w1))
    b0, ones1 = full_add(b0, load(table, w2), load(table, w3))
    b1, twos0 = full_add(b1, load(table, w0 + HIGH), load(table, w1 + HIGH))
    b1, twos1 = full_add(b1, load(table, w2 + HIGH), load(table, w3 + HIGH))
    b1, twos2 = full_add(b1, ones0, ones1)
    b0, ones2 = full_add(b0, load(table, w4), load(table, w5))
    b0, ones3 = full_add(b0, load(table, w6), load(table, w7))
    b1, twos3 = full_add(b1, load(table, w4 + HIGH), load(table, w5 + HIGH))
    b1, twos4 = full_add(b1, load(table, w6 + HIGH), load(table, w7 + HIGH))
    b1, twos5 = full_add(b1, ones2, ones3)
    b2, fours0 = full_add(b2, twos0, twos1)
    b2, fours1 = full_add(b2, twos3, twos4)
    b2, fours2 = full_add(b2, twos2, twos5)
    b3, eights0 = full_add(b3, fours0, fours1)
    b3, eights1 = half_add(b3, fours2)
    b4, carry = full_add(b4, eights0, eights1)
    return (b0, b1, b2, b3, b4), carry


@inlined
def carry_on(
    work: int, counter: int, bits: int, high: tuple[Vector, Vector, Vector, Vector], carry: Vector
) -> tuple[Vector, Vector, Vector, Vector]:
    """Return bits 5, 6 and 7 and the activation after a carry out of bit 4 of a counter of ``bits`` bits."""
    b5, b6, b7, active = high
    b5, carry = half_add(b5, carry)
    b6, carry = half_add(b6, carry)
    b7, carry = half_add(b7, carry)
    if bits > REGISTER_BITS:
        carry = carry_in_memory(work, counter, bits, carry)
    return b5, b6, b7, active | carry


@inlined
def carry_one(work: int, word: int, carry: Vector) -> Vector:
    """Return the carry out of one counter bit in memory after adding a carry to it."""
    value, carry = half_add(load(work, word), carry)
    store(work, word, value)
    return carry


@inlined
def carry_in_memory(work: int, counter: int, bits: int, carry: Vector) -> Vector:
    """Return the carry out of a counter's bits beyond the registers, after adding one to those in memory."""
    carry = carry_one(work, counter + (REGISTER_BITS + 1) * LANES, carry)
    if bits > REGISTER_BITS + 1:
        carry = carry_one(work, counter + (REGISTER_BITS + 2) * LANES, carry)
    # Two steps stand alone because most counters end there, and LLVM unrolls the loop eightfold.
    for bit in range(REGISTER_BITS + 2, bits):
        carry = carry_one(work, counter + (bit + 1) * LANES, carry)
    return carry


@inlined
def count_matches(
    work: int,
    counter: int,
    bits: int,
    table: int,
    codes: int,
    at: int,
    triples: int,
    inits: int,
    init: int,
    begins: bool,
    stays: bool,
) -> Vector:
    """Return a neuron's activation after adding ``triples`` table entries to its counter.

    The counter starts from ``inits`` if it ``begins`` here, else from memory, and goes back to memory if it ``stays``.
    In memory it is: activation (or the lowest bit of a logit), bit 0, bit 1, ...
    """
    if begins:
        active = load_splat(inits, init)
        low = (
            load_splat(inits, init + 1),
            load_splat(inits, init + 2),
            load_splat(inits, init + 3),
            load_splat(inits, init + 4),
            load_splat(inits, init + 5),
        )
        b5, b6, b7 = load_splat(inits, init + 6), load_splat(inits, init + 7), load_splat(inits, init + 8)
        for word in range(REGISTER_BITS + 1, bits + 1):
            store(work, counter + word * LANES, load_splat(inits, init + word))
    else:
        active = load(work, counter)
        low = (
            load(work, counter + LANES),
            load(work, counter + 2 * LANES),
            load(work, counter + 3 * LANES),
            load(work, counter + 4 * LANES),
            load(work, counter + 5 * LANES),
        )
        b5, b6, b7 = (
            load(work, counter + 6 * LANES),
            load(work, counter + 7 * LANES),
            load(work, counter + 8 * LANES),
        )
    end = at + triples
    while at + 32 <= end:  # 96 taps: their count needs bit 6 at least
        low, carry0 = add_eight(table, codes, at, low)
        low, carry1 = add_eight(table, codes, at + 8, low)
        b5, carry4 = full_add(b5, carry0, carry1)
        low, carry2 = add_eight(table, codes, at + 16, low)
        low, carry3 = add_eight(table, codes, at + 24, low)
        b5, carry5 = full_add(b5, carry2, carry3)
        b6, carry = full_add(b6, carry4, carry5)
        b7, carry = half_add(b7, carry)
        if bits > REGISTER_BITS:
            carry = carry_in_memory(work, counter, bits, carry)
        active = active | carry
        at += 32
    while at + 8 <= end:
        low, carry = add_eight(table, codes, at, low)
        b5, b6, b7, active = carry_on(work, counter, bits, (b5, b6, b7, active), carry)
        at += 8
    if at + 4 <= end:
        low, carry = add_four(table, codes, at, low)
        b5, b6, b7, active = carry_on(work, counter, bits, (b5, b6, b7, active), carry)
        at += 4
    while at < end:
        low, carry = add_one(table, codes, at, low)
        b5, b6, b7, active = carry_on(work, counter, bits, (b5, b6, b7, active), carry)
        at += 1
    if stays:
        store(work, counter, active)
        store(work, counter + LANES, low[0])
        store(work, counter + 2 * LANES, low[1])
        store(work, counter + 3 * LANES, low[2])
        store(work, counter + 4 * LANES, low[3])
        store(work, counter + 5 * LANES, low[4])
        store(work, counter + 6 * LANES, b5)
        store(work, counter + 7 * LANES, b6)
        store(work, counter + 8 * LANES, b7)
    return active


@inlined
def count_single(table: int, codes: int, at: int, inits: int, init: int) -> Vector:
    """Return a neuron's activation where one input channel makes three triples, counted in four bits."""
    w0, w1, w2 = code_at(codes, at), code_at(codes, at + 1), code_at(codes, at + 2)
    b0, ones0 = full_add(load_splat(inits, init + 1), load(table, w0), load(table, w1))
    ones1 = b0 & load(table, w2)
    b1, twos0 = full_add(load_splat(inits, init + 2), load(table, w0 + HIGH), load(table, w1 + HIGH))
    b1, twos1 = full_add(b1, load(table, w2 + HIGH), ones0)
    twos2 = b1 & ones1
    b2, fours0 = full_add(load_splat(inits, init + 3), twos0, twos1)
    _, carry = full_add(load_splat(inits, init + 4), fours0, b2 & twos2)
    return load_splat(inits, init) | carry


@inlined
def build_triple(table: int, at: int, one: Vector, two: Vector, three: Vector) -> None:
    """Write a triple's table: for weight pattern p (bit set: the input is inverted) the two bits of its count."""
    for pattern in range(4):
        first, second = one, two
        if pattern & 1:
            first = invert(one)
        if pattern & 2:
            second = invert(two)
        low, high = full_add(first, second, three)
        word = at + pattern * 2 * LANES
        store(table, word, low)
        store(table, word + HIGH, high)
        word = at + (7 - pattern) * 2 * LANES  # all inverted: 3 - count
        store(table, word, invert(low))
        store(table, word + HIGH, invert(high))


@entry
def convolve(
    layer: Int64Array,
    source: int,
    source_at: int,
    work: int,
    target_at: int,
    table: int,
    counters: int,
    codes: int,
    inits: int,
) -> None:
    """Write the activations of one 3x3 convolution, pooled if it pools, for one slice of images."""
    in_width, channels, neurons, pool = layer[IN_WIDTH], layer[IN_CHANNELS], layer[NEURONS], layer[POOL]
    rows, columns, out_width, bits = layer[ROWS], layer[COLUMNS], layer[OUT_WIDTH], layer[COUNTER_BITS]
    chunk, stride = layer[CHUNK], stride_of(layer[COUNTER_BITS])
    for x in range(columns):
        for start in range(0, channels, chunk):
            width = min(chunk, channels - start)
            begins, stays = start == 0, start + width < channels
            for row in range(rows + 2):
                pixel = source_at + ((row * in_width + x) * channels + start) * LANES
                build_row(table, (row % 3) * width, source, pixel, channels, width)
                y = row - 2
                if y < 0:
                    continue
                at = layer[CODE_START] + (9 * start + (y % 3) * 3 * width) * neurons
                counter = counters
                if chunk < channels:
                    counter += y * neurons * stride * LANES
                target = target_at + ((y >> pool) * out_width + (x >> pool)) * neurons * LANES
                is_first = pool == 0 or (y | x) & 1 == 0
                for neuron in range(neurons):
                    init = layer[INIT_START] + neuron * stride
                    if channels == 1:
                        active = count_single(table, codes, at, inits, init)
                    elif chunk >= channels:
                        active = count_matches(
                            work, counter, bits, table, codes, at, 3 * width, inits, init, True, False
                        )
                    else:
                        active = count_matches(
                            work, counter, bits, table, codes, at, 3 * width, inits, init, begins, stays
                        )
                    if not stays:
                        if not is_first:
                            active = active | load(work, target)
                        store(work, target, active)
                    at += 3 * width
                    target += LANES
                    if chunk < channels:
                        counter += stride * LANES


@inlined
def build_row(table: int, slot: int, source: int, pixel: int, channels: int, width: int) -> None:
    """Write the tables of three neighbouring pixels' first ``width`` channels, from table position ``slot``."""
    for channel in range(width):
        word = pixel + channel * LANES
        one, two = load(source, word), load(source, word + channels * LANES)
        three = load(source, word + 2 * channels * LANES)
        build_triple(table, (slot + channel) * TRIPLE_VECTORS * LANES, one, two, three)


@entry
def connect(
    layer: Int64Array,
    source: int,
    source_at: int,
    work: int,
    target_at: int,
    table: int,
    counters: int,
    codes: int,
    inits: int,
) -> None:
    """Write the activations of one dense layer for one slice of images; the last layer leaves its counters instead."""
    neurons, bits, chunk = layer[NEURONS], layer[COUNTER_BITS], layer[CHUNK]
    triples, stride = (layer[FAN_IN] + TRIPLE - 1) // TRIPLE, stride_of(layer[COUNTER_BITS])
    several = layer[IS_LAST] != 0 or chunk < triples
    for start in range(0, triples, chunk):
        width = min(chunk, triples - start)
        ends = start + width == triples
        for triple in range(width):
            word = source_at + (start + triple) * TRIPLE * LANES
            one, two, three = load(source, word), load(source, word + LANES), load(source, word + 2 * LANES)
            build_triple(table, triple * TRIPLE_VECTORS * LANES, one, two, three)
        at = layer[CODE_START] + start * neurons
        counter = counters
        for neuron in range(neurons):
            active = count_matches(
                work,
                counter,
                bits,
                table,
                codes,
                at,
                width,
                inits,
                layer[INIT_START] + neuron * stride,
                start == 0,
                layer[IS_LAST] != 0 or not ends,
            )
            if ends and layer[IS_LAST] == 0:
                store(work, target_at + neuron * LANES, active)
            at += width
            if several:
                counter += stride * LANES


@entry
def forward(
    layers: Int64Array,
    images: int,
    image_at: int,
    work: int,
    parts: Int64Array,
    codes: int,
    inits: int,
) -> None:
    """Leave the last layer's counters, the logits' bits, for one slice of images in the workspace.

    parts: the first word of the second activation map, of the tables, of the counters and of the arg-max state.
    """
    table, counters = work + 8 * parts[1], parts[2]
    source, source_at, target_at = images, image_at, 0
    for index in range(len(layers)):
        layer = layers[index]
        if layer[DENSE] == 0:
            convolve(layer, source, source_at, work, target_at, table, counters, codes, inits)
        else:
            if index > 0:
                for unit in range(layer[FAN_IN], (layer[FAN_IN] + TRIPLE - 1) // TRIPLE * TRIPLE):
                    store(work, source_at + unit * LANES, zeros())
            connect(layer, source, source_at, work, target_at, table, counters, codes, inits)
        source, source_at = work, target_at
        target_at = parts[0] - target_at


@inlined
def count_right(work: int, layer: Int64Array, parts: Int64Array, labels: int, label_at: int) -> int:
    """Return how many images of a slice have their label's logit the largest; ties go to the lowest class."""
    counters, best, planes = parts[2], parts[3], layer[COUNTER_BITS] + 1
    stride = stride_of(layer[COUNTER_BITS])
    winner = best + planes * LANES
    for plane in range(planes):
        store(work, best + plane * LANES, load(work, counters + plane * LANES))
    for bit in range(LABEL_BITS):
        store(work, winner + bit * LANES, zeros())
    for neuron in range(1, layer[NEURONS]):
        counter = counters + neuron * stride * LANES
        larger = zeros()
        for plane in range(planes):  # from the lowest: the highest difference decides
            one, two = load(work, counter + plane * LANES), load(work, best + plane * LANES)
            larger = select(one ^ two, one, larger)
        for plane in range(planes):
            word = best + plane * LANES
            store(work, word, select(larger, load(work, counter + plane * LANES), load(work, word)))
        for bit in range(LABEL_BITS):
            word = winner + bit * LANES
            if neuron >> bit & 1:
                store(work, word, load(work, word) | larger)
            else:
                store(work, word, load(work, word) & invert(larger))
    right = load(labels, label_at + LABEL_BITS * LANES)
    for bit in range(LABEL_BITS):
        right = right & invert(load(work, winner + bit * LANES) ^ load(labels, label_at + bit * LANES))
    count: int = popcount(right)
    return count


@entry
def count_blocks(
    layers: Int64Array,
    images: UInt64Array,
    input_vectors: int,
    labels: UInt64Array,
    work: UInt64Array,
    parts: Int64Array,
    codes: UInt16Array,
    inits: UInt64Array,
    first: int,
    counts: Int32Array,
) -> None:
    """Fill ``counts`` with the right labels of the 512-image blocks ``first`` and following."""
    slices = BLOCK_WORDS // LANES
    at, code, init, label = address(images), address(codes), address(inits), address(labels)
    scratch = address(work)
    for block in range(len(counts)):
        total = 0
        for part in range(slices):
            index = (first + block) * slices + part
            forward(layers, at, index * input_vectors * LANES, scratch, parts, code, init)
            total += count_right(scratch, layers[len(layers) - 1], parts, label, index * LABEL_PLANES * LANES)
        counts[block] = total


@entry
def write_logits(
    layers: Int64Array,
    images: UInt64Array,
    input_vectors: int,
    work: UInt64Array,
    parts: Int64Array,
    codes: UInt16Array,
    inits: UInt64Array,
    base: int,
    start: int,
    logits: Int32Array,
) -> None:
    """Fill ``logits`` (``int32[images, classes]``) for the images from ``start`` on; ``base`` is added to each."""
    size, last = LANES * 64, layers[len(layers) - 1]
    planes, stride = last[COUNTER_BITS] + 1, stride_of(last[COUNTER_BITS])
    stop = start + logits.shape[0]
    at, code, init, scratch = address(images), address(codes), address(inits), address(work)
    for index in range(start // size, (stop + size - 1) // size):
        forward(layers, at, index * input_vectors * LANES, scratch, parts, code, init)
        low, high = max(start - index * size, 0), min(stop - index * size, size)
        for neuron in range(last[NEURONS]):
            counter = parts[2] + neuron * stride * LANES
            for image in range(low, high):
                value = 0
                for plane in range(planes):
                    word = word_at(scratch, counter + plane * LANES + image // 64)
                    value |= (word >> (image % 64) & 1) << plane
                logits[index * size + image - start, neuron] = base + value
