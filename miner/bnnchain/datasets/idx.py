"""IDX files, gzip or not, as MNIST and its likes come: images ``uint8[n, height, width]`` and labels ``uint8[n]``.

Source: http://yann.lecun.com/exdb/mnist/ (format).  Big-endian: u16 zero, u8 type (8 = unsigned byte), u8 dimensions,
u32 per dimension, data.  Anything else is refused as ``bad-idx`` with the file's name.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.errors import Fault, Invalid, Unavailable
from bnnchain_kernels.evaluator import MAX_IMAGES
from bnnchain_kernels.model import MAX_CLASSES, MAX_SIDE

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain_kernels.model import UInt8Array

MAX_IDX_BYTES = 1 << 27
"""Uncompressed: a payload of 16 MiB at one bit a pixel is never more."""

_IMAGES_MAGIC, _LABELS_MAGIC = 0x0803, 0x0801
_KINDS = {_IMAGES_MAGIC: "images", _LABELS_MAGIC: "labels"}
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31


def read_content(path: Path, limit_bytes: int = MAX_IDX_BYTES) -> bytes:
    """Return a file's content, uncompressed if it is gzip by its first bytes, never more than ``limit_bytes``.

    Raises ``bad-idx`` for a file that is too large or a broken gzip stream, :class:`Unavailable` where there is none,
    :class:`Fault` where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise Unavailable(f"{path} does not exist") from None
    except OSError as error:
        raise Fault(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise Invalid("bad-idx", file=path.name, reason=f"larger than {limit_bytes} bytes")
    return _gunzip(data, path.name, limit_bytes) if data.startswith(_GZIP_MAGIC) else data


def parse_images(content: bytes, file: str) -> UInt8Array:
    """Return the images of an IDX file's content, ``uint8[n, height, width]``, a read-only view; raises ``bad-idx``."""
    (count, height, width), data = _parse(content, file, _IMAGES_MAGIC)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise Invalid("bad-idx", file=file, reason=f"image size {height}x{width}, sides are 1 to {MAX_SIDE}")
    return data.reshape(count, height, width)


def parse_labels(content: bytes, file: str, classes: int = MAX_CLASSES) -> UInt8Array:
    """Return the labels of an IDX file's content, ``uint8[n]`` below ``classes``; raises ``bad-idx``."""
    _, labels = _parse(content, file, _LABELS_MAGIC)
    if labels.max() >= classes:
        raise Invalid("bad-idx", file=file, reason=f"label {labels.max()}, there are {classes} classes")
    return labels


def _parse(content: bytes, file: str, magic: int) -> tuple[tuple[int, ...], UInt8Array]:
    """Return the dimensions and the flat data of content with the given magic number."""
    dimensions = magic & 0xFF
    header_bytes = 4 + 4 * dimensions
    if len(content) < header_bytes:
        raise Invalid("bad-idx", file=file, reason=f"truncated: {len(content)} bytes")
    found, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    if found != magic:
        what = f"{_KINDS[found]}" if found in _KINDS else f"magic number {found:#010x}"
        raise Invalid("bad-idx", file=file, reason=f"{what} found where {_KINDS[magic]} were expected")
    if not 1 <= shape[0] <= MAX_IMAGES:
        raise Invalid("bad-idx", file=file, reason=f"{shape[0]} {_KINDS[magic]}, the limit is {MAX_IMAGES}")
    size = 1
    for side in shape:
        size *= side
    left = len(content) - header_bytes
    if left != size:
        fault = "truncated" if left < size else "trailing bytes"
        raise Invalid("bad-idx", file=file, reason=f"{fault}: {left} bytes of data, the header says {size}")
    return tuple(shape), np.frombuffer(content, np.uint8, size, header_bytes)


def _gunzip(data: bytes, file: str, limit_bytes: int) -> bytes:
    """Return the one gzip stream's content; a bomb costs no more memory than the limit."""
    stream = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        content = stream.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise Invalid("bad-idx", file=file, reason=f"broken gzip: {error}") from None
    if len(content) > limit_bytes:
        raise Invalid("bad-idx", file=file, reason=f"larger than {limit_bytes} bytes uncompressed")
    if not stream.eof:
        raise Invalid("bad-idx", file=file, reason="truncated gzip stream")
    if stream.unused_data:
        raise Invalid("bad-idx", file=file, reason="bytes after the gzip stream")
    return content
