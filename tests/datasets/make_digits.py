"""Writes the embedded digits from scikit-learn's copy; run once, kept as documentation of how the file came to be.

    python tests/datasets/make_digits.py FILE

Needs ``scikit-learn`` (any version: its ``digits.csv.gz`` never changes) beside an installed ``bnnchain``.

1. 1,797 images of 8x8 pixels, levels 0..16, in the order of the file.
2. Samples are ordered by SHA-256("bnnchain digits" || u32 little-endian index): no random generator is involved.
3. The first 50 of every class in that order are held out (500), the others are the pool (1,297); both keep the order.
4. Four thermometer planes, pixel >= 3, 7, 11, 15.  The file is the pool's payload, then the held-out payload.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from bnnchain.datasets.digits import THRESHOLDS
from bnnchain.datasets.payload import encode_payload, pack_pixels
from bnnchain_kernels.evaluator import Samples

HELD_OUT_PER_CLASS = 50


def sort_key(index: int) -> bytes:
    return hashlib.sha256(b"bnnchain digits" + int(index).to_bytes(4, "little")).digest()


def split(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the indices of the pool and of the held-out samples."""
    order = sorted(range(len(labels)), key=sort_key)
    heldout = set()
    for label in np.unique(labels):
        heldout.update([index for index in order if labels[index] == label][:HELD_OUT_PER_CLASS])
    return [i for i in order if i not in heldout], [i for i in order if i in heldout]


def main() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.astype(np.uint8).reshape(-1, 8, 8)
    assert np.array_equal(images.reshape(-1, 64), pixels), "a level is not an integer"
    samples = Samples(8, 8, len(THRESHOLDS), 10, pack_pixels(images, THRESHOLDS), labels.astype(np.uint8))
    payloads = [encode_payload(samples.take(np.array(part, np.int32))) for part in split(labels)]
    Path(sys.argv[1]).write_bytes(b"".join(payloads))


if __name__ == "__main__":
    main()
