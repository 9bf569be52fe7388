"""Pixels to packed samples to payload bytes, and back.

PROTOCOL.md, section "Data sets".  A payload is all images, then all labels: image i takes ``ceil(height * width *
planes / 8)`` bytes, bits in (y, x, plane) order, least significant bit first, unused high bits zero; a label is one
byte.  These are exactly the arrays of :class:`Samples`, so nothing is converted on load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from bnnchain.datasets.manifest import Manifest
    from bnnchain_kernels.model import UInt8Array

PACK_BLOCK_IMAGES = 2048
"""Images packed at a time: bounds the unpacked bits in memory and keeps them in cache."""


def pack_pixels(pixels: UInt8Array, thresholds: bytes) -> UInt8Array:
    """Return the thermometer planes of grey images, packed.

    pixels: ``uint8[n, height, width]``.  thresholds: one byte a plane; bit p of a pixel is ``pixel >= thresholds[p]``.
    Returns ``uint8[n, ceil(height * width * planes / 8)]``, as :class:`Samples` holds them.
    """
    count, height, width = pixels.shape
    levels = np.frombuffer(thresholds, np.uint8)
    packed = np.empty((count, -(-height * width * len(levels) // 8)), np.uint8)
    for start in range(0, count, PACK_BLOCK_IMAGES):
        block = pixels[start : start + PACK_BLOCK_IMAGES]
        bits = block[..., np.newaxis] >= levels
        packed[start : start + len(block)] = np.packbits(bits.reshape(len(block), -1), axis=1, bitorder="little")
    return packed


def encode_payload(samples: Samples) -> bytes:
    """Return the samples' payload bytes: images, then labels."""
    return samples.images.tobytes() + samples.labels.tobytes()


def decode_payload(manifest: Manifest, payload: bytes) -> Samples:
    """Return the samples of a payload, pool or held-out, of the shape the manifest states (read-only views).

    Raises ``bad-samples`` where the size, a label or unused bits are wrong.  Does not look at roots.
    """
    count, rest = divmod(len(payload), manifest.image_bytes + 1)
    if rest:
        raise Invalid("bad-samples", reason="payload size", size=len(payload), sample_bytes=manifest.image_bytes + 1)
    split = count * manifest.image_bytes
    return Samples(
        manifest.height,
        manifest.width,
        manifest.planes,
        manifest.classes,
        np.frombuffer(payload, np.uint8, split).reshape(count, manifest.image_bytes),
        np.frombuffer(payload, np.uint8, count, split),
    )
