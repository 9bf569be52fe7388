"""The embedded data set: the UCI optical recognition of handwritten digits, so that everything runs with no network.

1,797 images of 8x8 pixels with levels 0..16 (E. Alpaydin and C. Kaynak, CC BY 4.0, licence and citation in
``digits.LICENSE.txt``), taken from scikit-learn's copy.  ``tests/datasets/make_digits.py`` wrote ``digits.bin`` and
says how the samples were split.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np

from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import Samples

NAME = "digits"
SIDE = 8
CLASSES = 10
THRESHOLDS = bytes([3, 7, 11, 15])
POOL_SIZE = 1297
HELDOUT_SIZE = 500
LICENCE = "CC-BY-4.0"
ORIGIN = (
    "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning Repository. "
    "https://doi.org/10.24432/C50P49"
)
FILE_SHA256 = "fb36c6bc06a1a215c95473126d36c4623d1083ddaa1ba20af29325827fdb2e5f"

_IMAGE_BYTES = SIDE * SIDE * len(THRESHOLDS) // 8


def load_digits() -> Dataset:
    """Return the embedded digits: 4 planes of 8x8, pool of 1,297, 500 held out with 50 of every class.

    Raises :class:`Fault` where the installed file is damaged.
    """
    data = resources.files("bnnchain.datasets").joinpath("digits.bin").read_bytes()
    if hashlib.sha256(data).hexdigest() != FILE_SHA256:
        raise Fault("the installed digits.bin is damaged; install bnnchain again")
    pool_bytes = POOL_SIZE * (_IMAGE_BYTES + 1)
    pool = _samples(data[:pool_bytes], POOL_SIZE)
    heldout = _samples(data[pool_bytes:], HELDOUT_SIZE)
    return build_dataset(NAME, THRESHOLDS, pool, heldout, licence=LICENCE, origin=ORIGIN)


def _samples(payload: bytes, count: int) -> Samples:
    images = np.frombuffer(payload, np.uint8, count * _IMAGE_BYTES).reshape(count, _IMAGE_BYTES)
    labels = np.frombuffer(payload, np.uint8, count, count * _IMAGE_BYTES)
    return Samples(SIDE, SIDE, len(THRESHOLDS), CLASSES, images, labels)
