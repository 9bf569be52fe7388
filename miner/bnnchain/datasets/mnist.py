"""MNIST from its four IDX files, checked against the originals, and any other set in files of the same names.

MNIST: Y. LeCun, C. Cortes, C. J. C. Burges; 60,000 training and 10,000 test images of 28x28, CC BY-SA 3.0.
Ruling (PROTOCOL.md, section "Data sets"): the training images are the pool, the test images are held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain.datasets.idx import parse_images, parse_labels, read_content
from bnnchain.datasets.payload import pack_pixels
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import MIN_CLASSES

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain_kernels.model import UInt8Array

NAME = "mnist"
CLASSES = 10
THRESHOLDS = bytes([128])
LICENCE = "CC-BY-SA-3.0"
ORIGIN = (
    "Y. LeCun, C. Cortes, C. J. C. Burges. The MNIST database of handwritten digits. http://yann.lecun.com/exdb/mnist/"
)
UNKNOWN_LICENCE = "NOASSERTION"
UNKNOWN_ORIGIN = "local IDX files"


@dataclass(frozen=True, slots=True)
class IdxFile:
    """One original file.

    sha256 (hex), size_bytes: of the uncompressed content, because mirrors compress it differently.
    """

    stem: str
    sha256: str
    size_bytes: int


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def load_mnist(directory: Path) -> Dataset:
    """Return MNIST from its IDX files, gzip or not, in ``directory``: one plane at >= 128.

    Raises :class:`Unavailable` where a file is missing, ``bad-idx`` where one is broken or not MNIST's.
    """
    return _load(directory, NAME, CLASSES, licence=LICENCE, origin=ORIGIN, pinned=True)


def load_idx_directory(name: str, directory: Path) -> Dataset:
    """Return the data set ``name`` from IDX files named as MNIST's (Fashion-MNIST, say): one plane at >= 128.

    There are as many classes as the training labels name.  Raises as :func:`load_mnist` does, ``bad-manifest`` where
    the set is over a limit.
    """
    return _load(directory, name, None, licence=UNKNOWN_LICENCE, origin=UNKNOWN_ORIGIN, pinned=False)


def find_idx_file(directory: Path, file: IdxFile) -> Path | None:
    """Return the path of a file, plain or gzip, or None where ``directory`` has neither."""
    paths = (directory / file.stem, directory / f"{file.stem}.gz")
    return next((path for path in paths if path.is_file()), None)


def is_original(content: bytes, file: IdxFile) -> bool:
    """Answer whether uncompressed content is the original file's."""
    return len(content) == file.size_bytes and hashlib.sha256(content).hexdigest() == file.sha256


def _load(directory: Path, name: str, classes: int | None, *, licence: str, origin: str, pinned: bool) -> Dataset:
    missing = [file.stem for file in FILES if find_idx_file(directory, file) is None]
    if missing:
        hint = f"; run: bnnchain dataset fetch {name}" if pinned else " (.gz or not)"
        raise Unavailable(f"data set {name}: {directory} lacks {', '.join(missing)}{hint}")
    pool_labels = parse_labels(*_read(directory, TRAIN_LABELS, pinned=pinned))
    classes = classes or max(MIN_CLASSES, int(pool_labels.max()) + 1)
    heldout_labels = parse_labels(*_read(directory, TEST_LABELS, pinned=pinned), classes)
    heldout_images = parse_images(*_read(directory, TEST_IMAGES, pinned=pinned))
    pool_images = parse_images(*_read(directory, TRAIN_IMAGES, pinned=pinned))
    if pool_images.shape[1:] != heldout_images.shape[1:]:
        raise Invalid("bad-idx", file=TEST_IMAGES.stem, reason="image size differs from the training images'")
    pool = _pack(pool_images, pool_labels, classes, TRAIN_LABELS)
    heldout = _pack(heldout_images, heldout_labels, classes, TEST_LABELS)
    return build_dataset(name, THRESHOLDS, pool, heldout, licence=licence, origin=origin)


def _read(directory: Path, file: IdxFile, *, pinned: bool) -> tuple[bytes, str]:
    """Return the file's content and name; raises ``bad-idx`` where it should be the original and is not."""
    path = find_idx_file(directory, file)
    if path is None:
        raise Unavailable(f"{directory / file.stem} has gone")
    content = read_content(path)
    if pinned and not is_original(content, file):
        digest = hashlib.sha256(content).hexdigest()
        raise Invalid("bad-idx", file=path.name, reason=f"not MNIST's: SHA-256 {digest}, {len(content)} bytes")
    return content, path.name


def _pack(pixels: UInt8Array, labels: UInt8Array, classes: int, labels_file: IdxFile) -> Samples:
    if len(pixels) != len(labels):
        raise Invalid("bad-idx", file=labels_file.stem, reason=f"{len(labels)} labels for {len(pixels)} images")
    _, height, width = pixels.shape
    return Samples(height, width, len(THRESHOLDS), classes, pack_pixels(pixels, THRESHOLDS), labels)
