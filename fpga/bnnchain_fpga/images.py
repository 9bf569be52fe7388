"""Packs labelled images into the words that the overlay streams in; fpga/README.md, section "Image stream"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain_fpga.compile import Capabilities, Plan, UInt32Array, pack_words
from bnnchain_fpga.registers import LABEL_WORDS, Operation

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples

PACK_IMAGES = 4096
"""Images unpacked at a time, which bounds the memory that packing needs."""


def pack_images(samples: Samples, plan: Plan, capabilities: Capabilities) -> UInt32Array:
    """Return ``uint32[n, 1 + image_words]``: the label, then the image in the layout the first layer reads."""
    words = np.zeros((len(samples), LABEL_WORDS + plan.image_words), np.uint32)
    words[:, 0] = samples.labels
    for start in range(0, len(samples), PACK_IMAGES):
        stop = min(start + PACK_IMAGES, len(samples))
        bits = samples.unpack(start, stop)
        words[start:stop, LABEL_WORDS:] = _pack_bits(bits, plan, capabilities.word_bits)
    return words


def _pack_bits(bits: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], plan: Plan, word_bits: int) -> UInt32Array:
    """Return ``uint32[n, image_words]`` from 0/1 ``uint8[n, height, width, planes]``."""
    count, height, width, planes = bits.shape
    operation = plan.layers[0].operation
    if operation is Operation.CONV_ROWS:
        return pack_words(bits.reshape(count, height, width))
    if operation is Operation.DENSE:
        rows = bits.reshape(count, 1, height * width * planes)
    else:
        rows = bits.reshape(count, height * width, planes)
    row_words = -(-rows.shape[2] // word_bits)
    padded = np.zeros((count, rows.shape[1], row_words * word_bits), np.uint8)
    padded[:, :, : rows.shape[2]] = rows
    return pack_words(padded.reshape(count, plan.image_words, word_bits))
