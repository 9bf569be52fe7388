"""Bits as small PNG pictures: samples of data sets, what a network sees of a drawing, weights."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bnnchain_kernels.model import unpack_weights

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model, UInt8Array

PAPER = 255
"""Ink is dark on light; the style sheet turns it round for dark screens."""
MAX_WEIGHT_ROWS = 256
MAX_WEIGHT_COLUMNS = 1_024


def sample_png(samples: Samples, index: int) -> bytes:
    """Return the picture of one sample: a pixel's darkness is the share of its planes that are set."""
    planes = samples.unpack(index, index + 1)[0]
    return _png(planes.sum(axis=-1, dtype=np.int64) * PAPER // samples.planes)


def weights_png(model: Model, layer: int) -> bytes:
    """Return one layer's weights as a picture: a row an output, a column an input, dark where the weight is +1.

    At most ``MAX_WEIGHT_ROWS`` by ``MAX_WEIGHT_COLUMNS``.
    """
    bits = unpack_weights(model)[layer][:MAX_WEIGHT_ROWS, :MAX_WEIGHT_COLUMNS]
    return _png(bits.astype(np.int64) * PAPER)


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that holds it: small pictures cost no request."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(ink: np.ndarray) -> bytes:
    paper: UInt8Array = (PAPER - ink).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(paper).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
