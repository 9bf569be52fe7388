from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnnchain.exchange import image_folder
from bnnchain.exchange.image_folder import load_folder
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

Image = pytest.importorskip("PIL.Image")


def picture(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; ``dogs`` before ``owls``."""
    for number, name in enumerate(("owls", "dogs")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(picture(10 * number + index)).save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


def refused(folder: Path, size: tuple[int, int] | None = None) -> Invalid:
    with pytest.raises(Invalid) as caught:
        load_folder(folder, size)
    assert "\n" not in str(caught.value)
    return caught.value


def test_sub_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    images = load_folder(folder, on_picture=lambda number, total: told.append((number, total)))
    assert images.class_names == ("dogs", "owls")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.names[0] == "dogs/0.png"
    assert np.array_equal(images.pixels, [picture(seed) for seed in (10, 11, 12, 0, 1, 2)])
    assert images.skipped == ()
    assert told == [(number, 6) for number in range(1, 7)]


@pytest.mark.parametrize("suffix", ["bmp", "pgm", "tif", "gif", "JPG", "jpeg"])
def test_further_kinds_of_pictures_are_read(folder: Path, suffix: str) -> None:
    Image.fromarray(picture(99)).save(folder / "owls" / f"new.{suffix}")
    images = load_folder(folder)
    assert len(images) == 7
    if suffix.lower() not in ("jpg", "jpeg"):
        assert np.array_equal(images.pixels[images.names.index(f"owls/new.{suffix}")], picture(99))


def test_everything_else_is_skipped_by_name(folder: Path) -> None:
    (folder / "owls" / "notes.txt").write_text("owls")
    (folder / "owls" / "deep").mkdir()
    (folder / "owls" / "3.png").symlink_to(folder / "dogs" / "0.png")
    (folder / "cats").symlink_to(folder / "dogs")
    (folder / "lone.png").write_bytes((folder / "dogs" / "0.png").read_bytes())
    (folder / ".cache").mkdir()
    (folder / "owls" / ".thumbnail.png").write_text("hidden")
    (folder / "owls" / "\x1b[2J.txt").write_text("terminal")
    images = load_folder(folder)
    assert len(images) == 6
    assert set(images.skipped) == {
        "'owls/notes.txt': not a picture",
        "'owls/deep': a folder",
        "'owls/3.png': a symbolic link",
        "'cats': a symbolic link",
        "'lone.png': not a picture",
        "'owls/\\x1b[2J.txt': not a picture",
    }


def test_a_broken_picture_is_refused_by_name_or_skipped(folder: Path) -> None:
    (folder / "owls" / "1.png").write_bytes(b"no picture")
    error = refused(folder)
    assert error.code == "bad-image"
    assert "1.png" in str(error)
    images = load_folder(folder, skip_broken=True)
    assert len(images) == 5
    assert "owls/1.png" in images.skipped[0]


def test_a_truncated_picture_is_broken(folder: Path) -> None:
    whole = (folder / "dogs" / "2.png").read_bytes()
    (folder / "dogs" / "2.png").write_bytes(whole[: len(whole) * 2 // 3])
    assert "2.png" in str(refused(folder))


def test_a_picture_of_another_size_is_refused_until_a_size_is_stated(folder: Path) -> None:
    Image.fromarray(picture(5, 12, 10)).save(folder / "owls" / "1.png")
    error = refused(folder)
    assert (error.code, "10x12, wanted 5x6" in str(error)) == ("bad-image", True)
    images = load_folder(folder, (6, 5))
    halves = picture(5, 12, 10).reshape(6, 2, 5, 2).mean(axis=(1, 3))
    assert np.abs(images.pixels[4].astype(float) - halves).max() <= 1


def test_dark_on_light_can_be_inverted(folder: Path) -> None:
    assert np.array_equal(load_folder(folder, invert=True).pixels, 255 - load_folder(folder).pixels)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it has side * side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_193, 30_000, 60_000])
def test_a_bomb_is_refused_by_its_header(folder: Path, side: int) -> None:
    (folder / "owls" / "1.png").write_bytes(bomb(side))
    error = refused(folder)
    assert error.code == "bad-image"
    assert "1.png" in str(error)


def test_folders_without_classes_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").values["reason"] == "no pictures in sub-folders"
    assert refused(folder / "owls").values["reason"] == "no pictures in sub-folders"
    for path in (folder / "dogs").iterdir():
        path.unlink()
    (folder / "dogs").rmdir()
    assert "1 classes" in str(refused(folder).values["reason"])
    with pytest.raises(Unavailable, match="cannot read"):
        load_folder(tmp_path / "none")


def test_limits_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(1, 6, 257)).save(folder / "dogs" / "0.png")
    assert "6x257" in str(refused(folder).values["reason"])
    monkeypatch.setattr(image_folder, "MAX_PIXEL_BYTES", 6 * 6 * 5 - 1)
    assert refused(folder, (6, 5)).values["limit_bytes"] == 179
    monkeypatch.setattr(image_folder, "MAX_FILES", 7)
    assert refused(folder).values["reason"] == "more than 7 files"
    monkeypatch.setattr(image_folder, "MAX_CLASSES", 1)
    assert "2 sub-folders" in str(refused(folder).values["reason"])


def test_without_pillow_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(Unavailable, match=r"bnnchain\[images\]"):
        load_folder(folder)
