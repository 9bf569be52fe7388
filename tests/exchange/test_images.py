from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bnnchain.exchange import images
from bnnchain.exchange.images import read_grey, samples_of
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.model import Architecture, Dense

if TYPE_CHECKING:
    from pathlib import Path

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def test_grey_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(read_grey(path, 6, 8), GREY)
    np.testing.assert_array_equal(read_grey(path, 6, 8, invert=True), 255 - GREY)


def test_colours_become_luma_and_transparency_lies_on_white(tmp_path: Path) -> None:
    colours = np.zeros((6, 8, 4), np.uint8)
    colours[..., 3] = 255
    colours[0, 0] = (255, 0, 0, 255)
    colours[1, 1] = (0, 0, 0, 0)
    found = read_grey(saved(tmp_path / "a.png", colours), 6, 8)
    assert (found[0, 0], found[1, 1], found[2, 2]) == (76, 255, 0)  # 0.299 red; clear; black
    palette = saved(tmp_path / "p.png", colours[..., :3], "P")
    assert read_grey(palette, 6, 8)[0, 0] == 76


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", GREY.astype(np.uint16) * 256 + 255)
    np.testing.assert_array_equal(read_grey(path, 6, 8), GREY)


def test_another_size_is_refused_or_scaled_in_its_proportions(tmp_path: Path) -> None:
    wide = np.full((10, 40), 200, np.uint8)
    wide[:, :10] = 20
    path = saved(tmp_path / "a.png", wide)
    with pytest.raises(Invalid, match=r"bad-image .*40x10, wanted 8x8; --resize scales it"):
        read_grey(path, 8, 8)
    found = read_grey(path, 8, 8, resize=True)
    assert found.shape == (8, 8)
    assert (found[3:5, :2] == 20).all()
    assert (found[3:5, 2:] == 200).all()
    assert (found[:3] == 20).all()  # filled with the corner's grey
    assert (found[5:] == 20).all()


def test_bits_follow_the_thresholds() -> None:
    shape = Architecture(1, 4, 2, (Dense(3),))
    samples = samples_of([np.array([[0, 9, 10, 20]], np.uint8)], shape, (10, 20))
    np.testing.assert_array_equal(samples.unpack(0, 1)[0, 0], [[0, 0], [0, 0], [1, 0], [1, 1]])
    with pytest.raises(Invalid, match="a plane"):
        samples_of([np.zeros((1, 4), np.uint8)], shape, (10,))


def test_what_is_no_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(Unavailable, match="cannot read"):
        read_grey(path, 6, 8)
    for data in (b"", b"text", b"GIF89a" + bytes(50)):
        path.write_bytes(data)
        with pytest.raises(Invalid, match="bad-image"):
            read_grey(path, 6, 8)
    whole = saved(path, np.random.default_rng(1).integers(0, 255, (60, 80)).astype(np.uint8)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Invalid, match="bad-image"):
        read_grey(path, 60, 80)
    path.write_bytes(whole)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 100)
    with pytest.raises(Invalid, match="file too large"):
        read_grey(path, 60, 80)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_bomb_is_refused_before_it_is_unpacked(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    with pytest.raises(Invalid, match="bad-image"):
        read_grey(path, 8, 8, resize=True)
