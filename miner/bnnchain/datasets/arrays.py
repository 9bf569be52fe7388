"""Labelled images from NumPy's ``.npz`` and from IDX files, read without trusting a byte of them.

An ``.npz`` holds ``images`` and ``labels``; or, with a held-out split of its own, ``x_train, y_train, x_test, y_test``
as Keras names them, or ``train_images, train_labels, test_images, test_labels`` as MedMNIST does.  Images are
``uint8[n, height, width]``, with a last axis of 1 (grey) or 3 (colours, made grey by ITU-R 601 luma); labels are
integers ``[n]`` or ``[n, 1]``.  Nothing is unpickled.
"""

from __future__ import annotations

import errno
import io
import math
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.datasets.idx import parse_images, parse_labels, read_content
from bnnchain.datasets.labelled import MAX_PIXEL_BYTES, LabelledImages, Source
from bnnchain.datasets.mnist import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, IdxFile, find_idx_file
from bnnchain_kernels.errors import Fault, Invalid, Unavailable
from bnnchain_kernels.model import MAX_CLASSES, MIN_CLASSES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from bnnchain_kernels.model import UInt8Array

LAYOUTS = (
    ("images", "labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
COLOURS = 3
MAX_MEMBERS = 64
MAX_MEMBER_BYTES = COLOURS * MAX_PIXEL_BYTES
MAX_HEADER_BYTES = 1_024
LUMA = np.array([19_595, 38_470, 7_471], np.uint32)
"""Red, green, blue in 65,536ths: Pillow's, so that an array and a picture of the same colours give the same grey."""


def load_npz(path: Path) -> Source:
    """Return the samples of an ``.npz``; raises ``bad-npz`` or ``bad-source``, :class:`Unavailable` without a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path.name)
    except FileNotFoundError:
        raise Unavailable(f"{path} does not exist") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the file's beginning, where the archive sends its reader
            raise Invalid("bad-npz", file=path.name, reason="broken archive") from None
        raise Fault(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Invalid("bad-npz", file=path.name, reason=str(error) or "broken archive") from None


def load_idx(directory: Path) -> Source:
    """Return the samples of IDX files named as MNIST's; without the test files there is no split of their own.

    Raises ``bad-idx`` or ``bad-source``, :class:`Unavailable` where the training files are missing.
    """
    pixels, labels = _read_idx(directory, TRAIN_IMAGES, TRAIN_LABELS)
    given = [find_idx_file(directory, file) for file in (TEST_IMAGES, TEST_LABELS)]
    if given == [None, None]:
        return _source(pixels, labels, None, None, ())
    return _source(pixels, labels, *_read_idx(directory, TEST_IMAGES, TEST_LABELS), ())


def is_idx_directory(path: Path) -> bool:
    """Tell whether a directory holds IDX training images named as MNIST's."""
    return find_idx_file(path, TRAIN_IMAGES) is not None


def _read_idx(directory: Path, images: IdxFile, labels: IdxFile) -> tuple[UInt8Array, UInt8Array]:
    paths = [find_idx_file(directory, file) for file in (images, labels)]
    if paths[0] is None or paths[1] is None:
        raise Unavailable(f"{directory} lacks {images.stem if paths[0] is None else labels.stem} (.gz or not)")
    return (
        parse_images(read_content(paths[0]), paths[0].name),
        parse_labels(read_content(paths[1]), paths[1].name),
    )


def _read_archive(archive: zipfile.ZipFile, file: str) -> Source:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()[: MAX_MEMBERS + 1]}
    if len(archive.infolist()) > MAX_MEMBERS or len(members) != len(archive.infolist()):
        raise Invalid("bad-npz", file=file, reason=f"repeated names, or more than {MAX_MEMBERS} arrays")
    for layout in LAYOUTS:
        if not set(layout) <= set(members):
            continue
        arrays = [_read_member(archive, members[key], key, file) for key in layout]
        images = [_to_grey(array, key, file) for array, key in zip(arrays[::2], layout[::2], strict=True)]
        labels = [_to_labels(array, key, file) for array, key in zip(arrays[1::2], layout[1::2], strict=True)]
        skipped = tuple(f"{key!a}: not used" for key in members if key not in layout)
        if len(layout) == len(LAYOUTS[0]):
            return _source(images[0], labels[0], None, None, skipped)
        return _source(images[0], labels[0], images[1], labels[1], skipped)
    wanted = "; or ".join(", ".join(layout) for layout in LAYOUTS)
    raise Invalid("bad-npz", file=file, reason=f"holds neither {wanted}", found=ascii(sorted(members)[:8]))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, file: str) -> npt.NDArray[np.generic]:
    """Return one array; its size is checked before a byte of it is unpacked, its header before it is believed."""
    if info.file_size > MAX_MEMBER_BYTES:
        raise Invalid("bad-npz", file=file, array=key, reason=f"larger than {MAX_MEMBER_BYTES} bytes")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Invalid("bad-npz", file=file, array=key, reason="neither stored nor deflated")
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](stream, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, KeyError, SyntaxError, TypeError):
        raise Invalid("bad-npz", file=file, array=key, reason="not a NumPy array") from None
    if dtype.hasobject or dtype.kind not in "uib":
        raise Invalid("bad-npz", file=file, array=key, reason=f"elements are {dtype!a}, not integers")
    if len(content) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise Invalid("bad-npz", file=file, array=key, reason="size differs from its header", shape=shape)
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _to_grey(array: npt.NDArray[np.generic], key: str, file: str) -> UInt8Array:
    grey_axes, colour_axes = 3, 4
    if array.dtype != np.uint8:
        raise Invalid("bad-npz", file=file, array=key, reason=f"images are {array.dtype}, not uint8 grey values 0..255")
    pixels = array.astype(np.uint8, copy=False)
    if pixels.ndim == colour_axes and pixels.shape[-1] == COLOURS:
        grey = np.empty(pixels.shape[:-1], np.uint8)
        for index, picture in enumerate(pixels):  # one at a time: the sums are four bytes wide
            grey[index] = (picture @ LUMA + 0x8000) >> 16
        return grey
    if pixels.ndim == colour_axes and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != grey_axes:
        raise Invalid(
            "bad-npz", file=file, array=key, reason="not [n, height, width] or that by 1 or 3", shape=pixels.shape
        )
    return np.ascontiguousarray(pixels)


def _to_labels(array: npt.NDArray[np.generic], key: str, file: str) -> UInt8Array:
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004  (a column)
        array = array[:, 0]
    if array.ndim != 1 or not len(array) or array.dtype == np.bool_:
        raise Invalid("bad-npz", file=file, array=key, reason=f"labels are {array.dtype}{list(array.shape)}, not [n]")
    numbers = array.astype(np.int64)
    if array.dtype == np.uint64 and np.any(array > np.uint64(MAX_CLASSES)):
        numbers = np.full(1, MAX_CLASSES)
    if numbers.min() < 0 or numbers.max() >= MAX_CLASSES:
        raise Invalid("bad-npz", file=file, array=key, reason=f"labels outside 0..{MAX_CLASSES - 1}")
    return numbers.astype(np.uint8)


def _source(
    pixels: UInt8Array,
    labels: UInt8Array,
    hidden_pixels: UInt8Array | None,
    hidden_labels: UInt8Array | None,
    skipped: tuple[str, ...],
) -> Source:
    # A class is a label of the pool: one that only held-out samples have cannot be learned and is refused.
    names = tuple(map(str, range(max(MIN_CLASSES, int(labels.max()) + 1))))
    images = LabelledImages(pixels, labels, names, skipped=skipped)
    if hidden_pixels is None or hidden_labels is None:
        return Source(images)
    return Source(images, LabelledImages(hidden_pixels, hidden_labels, names))
