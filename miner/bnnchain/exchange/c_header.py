"""A model as one C99 header for microcontrollers: constant tables, no memory allocation, no library but stdint.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain.exchange.provenance import validate_thresholds
from bnnchain_kernels.model import Conv3x3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.model import LayerGeometry, Model, UInt64Array

WORD_BITS = 32
WORDS_A_LINE = 8
NUMBERS_A_LINE = 16


def export_c(model: Model, provenance: Provenance, thresholds: tuple[int, ...] | None) -> str:
    """Return the header's text; with ``thresholds`` it can also pack grey values.

    ``int bnn_predict(const uint8_t *packed_image, int32_t *logits)`` answers what the kernel answers, to the bit.
    """
    validate_thresholds(thresholds, model.architecture)
    places = model.architecture.geometry
    rows_by_place = zip(model.weights, places, strict=True)
    tables = [_weight_table(index, rows, place) for index, (rows, place) in enumerate(rows_by_place)]
    tables += [
        _number_table(f"bnn_limits_{index}", (place.fan_in - limits).tolist())
        for index, (place, limits) in enumerate(zip(places, model.thresholds, strict=False))
    ]
    tables.append(_number_table("bnn_biases", model.biases.tolist()))
    parts = [
        _describe(model, provenance, thresholds),
        "#ifndef BNNCHAIN_MODEL_H\n#define BNNCHAIN_MODEL_H\n\n#include <stdint.h>\n",
        _sizes(model),
        *tables,
        _PRIMITIVES,
        _CONV if any(isinstance(place.layer, Conv3x3) for place in places) else "",
        _DENSE if len(places) > 1 and not isinstance(places[-2].layer, Conv3x3) else "",
        _pack_function(thresholds) if thresholds is not None else "",
        _predict_function(model),
        "#endif /* BNNCHAIN_MODEL_H */\n",
    ]
    return "\n".join(part for part in parts if part)


def stack_bytes(model: Model) -> int:
    """Return how many bytes of stack the header's buffers take: two layers' activations and one window."""
    buffers = min(2, len(model.weights))
    return 4 * (buffers * _activation_words(model) + _window_words(model))


def _activation_words(model: Model) -> int:
    bits = [model.architecture.input_bits]
    bits += [place.out_height * place.out_width * place.out_channels for place in model.architecture.geometry[:-1]]
    return max(-(-count // WORD_BITS) for count in bits)


def _window_words(model: Model) -> int:
    sizes = [place.fan_in for place in model.architecture.geometry if isinstance(place.layer, Conv3x3)]
    return max((-(-size // WORD_BITS) for size in sizes), default=0)


def _describe(model: Model, provenance: Provenance, thresholds: tuple[int, ...] | None) -> str:
    shape = model.architecture
    table_bytes = sum(4 * place.out_channels * (-(-place.fan_in // WORD_BITS) + 1) for place in shape.geometry)
    # A comment's end in a text from elsewhere would let that text become code.
    papers = [line.replace("*/", "* /").replace("/*", "/ *") for line in provenance.lines()]
    image_bytes = -(-shape.input_bits // 8)
    lines = [
        "A binary neural network of a bnnchain, for C99.  Include it in one source file.",
        "",
        *(papers),
        "",
        "int bnn_predict(const uint8_t *packed_image, int32_t *logits)",
        f"  packed_image: BNN_IMAGE_BYTES ({image_bytes}) bytes; bit i, lowest bit of a byte first, is input i of",
        f"    {shape.height} rows of {shape.width} pixels of {shape.planes} planes; left-over high bits are ignored.",
        f"  logits: BNN_CLASSES ({shape.classes}) exact scores are written there.",
        "  returns the class of the largest score, of equals the lowest.",
    ]
    if thresholds is not None:
        lines += [
            "void bnn_pack_image(const uint8_t *pixels, uint8_t *packed_image)",
            f"  pixels: {shape.height} rows of {shape.width} grey values; the planes of a pixel are set from these up:",
            f"    {' '.join(map(str, thresholds))}",
        ]
    lines += [
        "",
        f"Constant tables {table_bytes} bytes, stack {stack_bytes(model)} bytes and a few words; nothing is allocated.",
    ]
    return "/*\n" + "\n".join(f" * {line}".rstrip() for line in lines) + "\n */"


def _sizes(model: Model) -> str:
    shape = model.architecture
    sizes = {
        "BNN_HEIGHT": shape.height,
        "BNN_WIDTH": shape.width,
        "BNN_PLANES": shape.planes,
        "BNN_CLASSES": shape.classes,
        "BNN_IMAGE_BYTES": -(-shape.input_bits // 8),
    }
    return "".join(f"#define {name} {value}\n" for name, value in sizes.items())


def _weight_table(index: int, rows: UInt64Array, place: LayerGeometry) -> str:
    count = -(-place.fan_in // WORD_BITS)
    words = np.ascontiguousarray(rows.astype("<u8")).view("<u4").reshape(len(rows), -1)[:, :count].ravel()
    lines = _lines((f"0x{word:08x}u" for word in words.tolist()), WORDS_A_LINE)
    return f"static const uint32_t bnn_weights_{index}[{len(words)}] = {{\n{lines}\n}};\n"


def _number_table(name: str, numbers: list[int]) -> str:
    return f"static const int32_t {name}[{len(numbers)}] = {{\n{_lines(map(str, numbers), NUMBERS_A_LINE)}\n}};\n"


def _lines(texts: Iterable[str], count: int) -> str:
    every = list(texts)
    return ",\n".join("    " + ", ".join(every[start : start + count]) for start in range(0, len(every), count))


def _pack_function(thresholds: tuple[int, ...]) -> str:
    levels = ", ".join(map(str, thresholds))
    return _PACK.replace("{LEVELS}", f"{{{levels}}}")


def _predict_function(model: Model) -> str:
    places, words = model.architecture.geometry, _activation_words(model)
    body = [f"    uint32_t first[{words}]{f', second[{words}]' if len(places) > 1 else ''};"]
    if window := _window_words(model):
        body.append(f"    uint32_t window[{window}];")
    body += ["    int32_t i;", "    int best = 0;", ""]
    body.append(f"    bnn_load(packed_image, first, {model.architecture.input_bits});")
    source, target = "first", "second"
    for index, place in enumerate(places[:-1]):
        tables = f"bnn_weights_{index}, bnn_limits_{index}"
        if isinstance(place.layer, Conv3x3):
            sizes = f"{place.out_height}, {place.out_width}, {place.in_width}, {place.in_channels}"
            sizes += f", {place.out_channels}, {2 if place.layer.pool else 1}"
            body.append(f"    bnn_conv({source}, {tables}, {sizes}, window, {target});")
        else:
            body.append(f"    bnn_dense({source}, {tables}, {place.fan_in}, {place.out_channels}, {target});")
        source, target = target, source
    last, index = places[-1], len(places) - 1
    count = -(-last.fan_in // WORD_BITS)
    mismatches = f"bnn_mismatches({source}, bnn_weights_{index} + i * {count}, {count})"
    body += [
        "    for (i = 0; i < BNN_CLASSES; i++) {",
        f"        logits[i] = {last.fan_in} - 2 * {mismatches} + bnn_biases[i];",
        "        if (logits[i] > logits[best]) best = (int)i;",
        "    }",
        "    return best;",
    ]
    head = "static inline int bnn_predict(const uint8_t *packed_image, int32_t *logits) {"
    return "\n".join([head, *body, "}\n"])


_PRIMITIVES = """\
/* The ones of a word; compilers that know a population count see one here. */
static inline int32_t bnn_popcount(uint32_t x) {
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return (int32_t)((x * 0x01010101u & 0xffffffffu) >> 24);
}

/* How many inputs differ from their weights: xor and count.  Unused bits are zero on both sides. */
static inline int32_t bnn_mismatches(const uint32_t *inputs, const uint32_t *weights, int32_t words) {
    int32_t count = 0, i;
    for (i = 0; i < words; i++) count += bnn_popcount(inputs[i] ^ weights[i]);
    return count;
}

static inline void bnn_clear(uint32_t *words, int32_t bits) {
    int32_t i;
    for (i = 0; i < (bits + 31) / 32; i++) words[i] = 0;
}

static inline void bnn_load(const uint8_t *packed, uint32_t *words, int32_t bits) {
    int32_t i;
    bnn_clear(words, bits);
    for (i = 0; i < (bits + 7) / 8; i++) words[i / 4] |= (uint32_t)packed[i] << (8 * (i % 4));
    if (bits % 32) words[bits / 32] &= ((uint32_t)1 << (bits % 32)) - 1u;
}
"""

_CONV = """\
/* Appends bits start..start+count of inputs to a window that holds `filled` bits, its rest being zero. */
static inline void bnn_append(const uint32_t *inputs, int32_t start, int32_t count, uint32_t *window, int32_t filled) {
    while (count > 0) {
        const int32_t from = start % 32, to = filled % 32;
        int32_t step = 32 - (from > to ? from : to);
        uint32_t bits = inputs[start / 32] >> from;
        if (step > count) step = count;
        if (step < 32) bits &= ((uint32_t)1 << step) - 1u;
        window[filled / 32] |= bits << to;
        start += step;
        filled += step;
        count -= step;
    }
}

/* A valid 3x3 convolution; pool 2 takes the OR of each 2x2 square of its answers, pool 1 takes each. */
static inline void bnn_conv(const uint32_t *inputs, const uint32_t *weights, const int32_t *limits, int32_t height,
                            int32_t width, int32_t in_width, int32_t channels, int32_t filters, int32_t pool,
                            uint32_t *window, uint32_t *outputs) {
    const int32_t fan_in = 9 * channels, words = (fan_in + 31) / 32;
    int32_t y, x, ky, filter;
    bnn_clear(outputs, height * width * filters);
    for (y = 0; y < height * pool; y++) {
        for (x = 0; x < width * pool; x++) {
            const int32_t place = ((y / pool) * width + x / pool) * filters;
            bnn_clear(window, fan_in);
            for (ky = 0; ky < 3; ky++) {
                bnn_append(inputs, ((y + ky) * in_width + x) * channels, 3 * channels, window, 3 * channels * ky);
            }
            for (filter = 0; filter < filters; filter++) {
                const int32_t bit = place + filter;
                if (bnn_mismatches(window, weights + filter * words, words) <= limits[filter]) {
                    outputs[bit / 32] |= (uint32_t)1 << (bit % 32);
                }
            }
        }
    }
}
"""

_DENSE = """\
static inline void bnn_dense(const uint32_t *inputs, const uint32_t *weights, const int32_t *limits, int32_t fan_in,
                             int32_t units, uint32_t *outputs) {
    const int32_t words = (fan_in + 31) / 32;
    int32_t unit;
    bnn_clear(outputs, units);
    for (unit = 0; unit < units; unit++) {
        if (bnn_mismatches(inputs, weights + unit * words, words) <= limits[unit]) {
            outputs[unit / 32] |= (uint32_t)1 << (unit % 32);
        }
    }
}
"""

_PACK = """\
static inline void bnn_pack_image(const uint8_t *pixels, uint8_t *packed_image) {
    static const uint8_t levels[BNN_PLANES] = {LEVELS};
    int32_t i, bit = 0;
    int plane;
    for (i = 0; i < BNN_IMAGE_BYTES; i++) packed_image[i] = 0;
    for (i = 0; i < (int32_t)BNN_HEIGHT * BNN_WIDTH; i++) {
        for (plane = 0; plane < BNN_PLANES; plane++, bit++) {
            if (pixels[i] >= levels[plane]) packed_image[bit / 8] |= (uint8_t)(1u << (bit % 8));
        }
    }
}
"""
