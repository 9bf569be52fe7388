from __future__ import annotations

import gzip
import struct
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.datasets.idx import parse_images, parse_labels, read_content
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IMAGES = struct.pack(">4I", 0x0803, 2, 3, 4) + PIXELS.tobytes()
LABELS = struct.pack(">2I", 0x0801, 3) + bytes([0, 9, 4])


def refused(content: bytes, *, labels: bool = False, classes: int = 256) -> str:
    """The reason why the content is refused; the error names the file."""
    with pytest.raises(Invalid) as caught:
        parse_labels(content, "f.gz", classes) if labels else parse_images(content, "f.gz")
    assert caught.value.code == "bad-idx"
    assert caught.value.values["file"] == "f.gz"
    return str(caught.value.values["reason"])


def test_images_and_labels_are_read() -> None:
    images = parse_images(IMAGES, "f")
    assert images.dtype == np.uint8
    assert np.array_equal(images, PIXELS)
    assert parse_labels(LABELS, "f").tolist() == [0, 9, 4]
    assert parse_labels(LABELS, "f", 10).tolist() == [0, 9, 4]


def test_labels_for_images_and_the_reverse_are_refused_in_words() -> None:
    assert refused(LABELS + bytes(20)) == "labels found where images were expected"
    assert refused(IMAGES, labels=True) == "images found where labels were expected"


def test_other_magic_numbers_are_refused() -> None:
    assert "0x00000d03" in refused(b"\0\0\x0d\x03" + IMAGES[4:])
    assert "0x3c21444f" in refused(b"<!DOCTYPE html>" + bytes(20))


@pytest.mark.parametrize("size", range(len(IMAGES)))
def test_truncated_images_are_refused(size: int) -> None:
    assert "truncated" in refused(IMAGES[:size])


@pytest.mark.parametrize("size", range(len(LABELS)))
def test_truncated_labels_are_refused(size: int) -> None:
    assert "truncated" in refused(LABELS[:size], labels=True)


def test_trailing_bytes_are_refused() -> None:
    assert refused(IMAGES + b"x") == "trailing bytes: 25 bytes of data, the header says 24"
    assert "trailing" in refused(LABELS + b"x", labels=True)


def test_labels_out_of_range_are_refused() -> None:
    assert refused(LABELS, labels=True, classes=9) == "label 9, there are 9 classes"


def test_sizes_over_the_limits_are_refused() -> None:
    for shape, reason in (
        ((0, 3, 4), "0 images"),
        (((1 << 24) + 1, 1, 1), "images, the limit"),
        ((1, 0, 4), "image size 0x4"),
        ((1, 257, 1), "image size 257x1"),
        ((1, 1, 257), "image size 1x257"),
    ):
        data = bytes(min(1000, shape[0] * shape[1] * shape[2]))
        assert reason in refused(struct.pack(">4I", 0x0803, *shape) + data)
    # the largest dimensions a header can state neither overflow nor allocate
    assert "limit" in refused(struct.pack(">4I", 0x0803, *[0xFFFFFFFF] * 3))
    assert "truncated" in refused(struct.pack(">4I", 0x0803, 1 << 24, 0xFFFFFFFF, 0xFFFFFFFF))
    assert "0 labels" in refused(struct.pack(">2I", 0x0801, 0), labels=True)


def reject_code(parse: Callable[[bytes, str], object], content: bytes) -> str | None:
    """The code with which the content is refused, None where it is accepted."""
    try:
        parse(content, "f")
    except Invalid as error:
        return error.code
    return None


@given(st.binary(max_size=64), st.booleans())
def test_random_bytes_never_raise_anything_else(data: bytes, behind_a_header: bool) -> None:
    content = IMAGES[:4] + data if behind_a_header else data
    assert reject_code(parse_images, content) in {None, "bad-idx"}
    assert reject_code(parse_labels, content) == "bad-idx"


def test_content_is_unzipped_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.gz", tmp_path / "b"
    plain.write_bytes(IMAGES)
    zipped.write_bytes(gzip.compress(IMAGES))
    assert read_content(plain) == read_content(zipped) == IMAGES


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "f.gz"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", range(2, len(gzip.compress(IMAGES)), 5))
def test_truncated_gzip_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(Invalid, match=r"bad-idx .*truncated gzip"):
        read_content(write(tmp_path, gzip.compress(IMAGES)[:size]))


def test_broken_gzip_is_refused(tmp_path: Path) -> None:
    good = bytearray(gzip.compress(IMAGES))
    wrong_check = good[:-8] + bytes([good[-8] ^ 1]) + good[-7:]
    with pytest.raises(Invalid, match=r"bad-idx .*broken gzip.*check"):
        read_content(write(tmp_path, bytes(wrong_check)))
    with pytest.raises(Invalid, match=r"bad-idx .*broken gzip"):
        read_content(write(tmp_path, b"\x1f\x8b\xff" + good[3:]))
    with pytest.raises(Invalid, match=r"bad-idx .*after the gzip stream"):
        read_content(write(tmp_path, bytes(good) + b"x"))


def test_gzip_bomb_costs_no_more_than_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(bytes(1 << 26), 1))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match=r"bad-idx .*larger than 1048576 bytes uncompressed"):
            read_content(path, limit)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()


def test_limits_are_inclusive(tmp_path: Path) -> None:
    for data in (IMAGES, gzip.compress(IMAGES + bytes(1000))):
        limit = max(len(data), len(IMAGES) + (1000 if data[0] == 0x1F else 0))
        path = write(tmp_path, data)
        assert read_content(path, limit).startswith(IMAGES)
        with pytest.raises(Invalid, match=r"bad-idx .*larger"):
            read_content(path, limit - 1)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nothing does not exist"):
        read_content(tmp_path / "nothing")
    with pytest.raises(Fault, match=r"cannot read"):
        read_content(tmp_path)
