"""A drawing as a sample of a data set: cut out, scaled and centred as the data set's own images were.

MNIST's digits were scaled into a box of 20x20 in their own proportions and put with their centre of mass at the centre
of 28x28 (Y. LeCun et al. 1998, section III-A).  The small UCI digits fill their whole 8x8 frame; each pixel counts the
ink of its 4x4 cell, 0 to 16 (E. Alpaydin, C. Kaynak 1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bnnchain.datasets.digits import SIDE as DIGITS_SIDE
from bnnchain.datasets.digits import THRESHOLDS as DIGITS_THRESHOLDS
from bnnchain.datasets.payload import pack_pixels
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from bnnchain.datasets.manifest import Manifest
    from bnnchain_kernels.model import UInt8Array

DRAWING_SIDE = 112
"""Pixels of a drawing's side, four for one of MNIST's: scaling a finished 28x28 drawing would blur it."""
DRAWING_BYTES = DRAWING_SIDE * DRAWING_SIDE
WHITE = 255
FAINTEST_INK = 16
"""Grey below this is no ink."""
BOX_NUMERATOR, BOX_DENOMINATOR = 20, 28
SMALL_SIDE = 16
"""Frames below this have no room for a margin: what is drawn fills them."""
CELL_LEVELS = 16


def read_drawing(body: bytes) -> UInt8Array:
    """Return the grey values ``uint8[112, 112]`` of a request's bytes, 0 paper to 255 ink, rows from the top.

    Raises :class:`Invalid` ``bad-drawing`` where there are not as many bytes or nothing is drawn.
    """
    if len(body) != DRAWING_BYTES:
        raise Invalid("bad-drawing", bytes=len(body), wanted=DRAWING_BYTES)
    drawing = np.frombuffer(body, np.uint8).reshape(DRAWING_SIDE, DRAWING_SIDE)
    if not np.any(drawing >= FAINTEST_INK):
        raise Invalid("bad-drawing", reason="nothing is drawn")
    return drawing


def fit(drawing: UInt8Array, height: int, width: int) -> UInt8Array:
    """Return a drawing cut out, scaled and centred into ``uint8[height, width]`` as the data sets' images are."""
    rows, columns = (
        np.flatnonzero((drawing >= FAINTEST_INK).any(axis=1)),
        np.flatnonzero((drawing >= FAINTEST_INK).any(axis=0)),
    )
    cut = drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    is_small = min(height, width) < SMALL_SIDE
    box = min(height, width) if is_small else max(1, min(height, width) * BOX_NUMERATOR // BOX_DENOMINATOR)
    scale = box / max(cut.shape)
    size = max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    ink: UInt8Array = np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize(size, method), np.uint8)
    middle = _middle(ink) if is_small else _centre_of_mass(ink)
    return _place(ink, middle, height, width)


def sample_of(drawing: UInt8Array, manifest: Manifest) -> Samples:
    """Return a drawing as the one sample that a model of the data set reads; its label is 0 and means nothing."""
    ink = fit(drawing, manifest.height, manifest.width).astype(np.int64)
    levels: UInt8Array = ((ink * full_ink(manifest) + WHITE // 2) // WHITE).astype(np.uint8)
    packed = pack_pixels(levels[np.newaxis], manifest.thresholds)
    labels = np.zeros(1, np.uint8)
    return Samples(manifest.height, manifest.width, manifest.planes, manifest.classes, packed, labels)


def full_ink(manifest: Manifest) -> int:
    """Return the grey value of full ink in a data set's images: 16 in the UCI digits' shape, else 255."""
    is_digits = (manifest.height, manifest.width, manifest.thresholds) == (DIGITS_SIDE, DIGITS_SIDE, DIGITS_THRESHOLDS)
    return CELL_LEVELS if is_digits else WHITE


def _middle(ink: UInt8Array) -> tuple[float, float]:
    return (ink.shape[0] - 1) / 2, (ink.shape[1] - 1) / 2


def _centre_of_mass(ink: UInt8Array) -> tuple[float, float]:
    weights = ink.astype(np.float64)
    rows, columns = np.indices(ink.shape)
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


def _place(ink: UInt8Array, middle: tuple[float, float], height: int, width: int) -> UInt8Array:
    """Return a frame with ``middle`` of the ink at its centre, moved as little as needed to lie inside."""
    top = min(max(round((height - 1) / 2 - middle[0]), 0), height - ink.shape[0])
    left = min(max(round((width - 1) / 2 - middle[1]), 0), width - ink.shape[1])
    frame = np.zeros((height, width), np.uint8)
    frame[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return frame
