from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnnchain.datasets import arrays
from bnnchain.datasets.arrays import is_idx_directory, load_idx, load_npz
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 2, 1, 0])


def save(path: Path, **members: Any) -> Path:
    np.savez(path / "set.npz", **members)
    return path / "set.npz"


def refused(path: Path, code: str = "bad-npz") -> str:
    with pytest.raises(Invalid) as caught:
        load_npz(path)
    assert caught.value.code == code
    return str(caught.value.values["reason"])


def test_images_and_labels_are_read(tmp_path: Path) -> None:
    source = load_npz(save(tmp_path, images=PIXELS, labels=LABELS, other=np.zeros(3)))
    assert np.array_equal(source.images.pixels, PIXELS)
    assert source.images.labels.tolist() == LABELS.tolist()
    assert source.images.class_names == ("0", "1", "2")
    assert source.images.skipped == ("'other': not used",)
    assert source.hidden is None


@pytest.mark.parametrize("keys", arrays.LAYOUTS[1:])
def test_a_held_out_split_of_its_own_is_kept_apart(tmp_path: Path, keys: tuple[str, ...]) -> None:
    members = dict(zip(keys, (PIXELS, LABELS, PIXELS[:2] + 1, LABELS[:2]), strict=True))
    source = load_npz(save(tmp_path, **members))
    assert len(source.images) == 6
    assert source.hidden is not None
    assert np.array_equal(source.hidden.pixels, PIXELS[:2] + 1)


def test_columns_channels_orders_and_integer_types_are_accepted(tmp_path: Path) -> None:
    members = {"images": np.asfortranarray(PIXELS[..., None]), "labels": LABELS[:, None].astype(">i2")}
    source = load_npz(save(tmp_path, **members))
    assert np.array_equal(source.images.pixels, PIXELS)
    assert source.images.labels.tolist() == LABELS.tolist()


def test_colours_become_the_grey_that_pillow_makes_of_them(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    colours = np.random.default_rng(5).integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
    grey = load_npz(save(tmp_path, images=colours, labels=LABELS)).images.pixels
    assert np.array_equal(grey, [np.asarray(image.fromarray(each).convert("L")) for each in colours])


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (PIXELS.astype(np.float32), LABELS, "not integers"),
        (PIXELS.astype(np.int16), LABELS, "not uint8"),
        (PIXELS[0], LABELS, r"not \[n, height, width\]"),
        (np.repeat(PIXELS[..., None], 4, axis=3), LABELS, r"not \[n, height, width\]"),
        (PIXELS, LABELS.astype(np.float64), "not integers"),
        (PIXELS, LABELS.astype(np.complex64), "not integers"),
        (PIXELS, LABELS.astype(bool), r"not \[n\]"),
        (PIXELS, LABELS.reshape(2, 3), r"not \[n\]"),
        (PIXELS, LABELS - 1, r"outside 0\.\.255"),
        (PIXELS, LABELS + 254, r"outside 0\.\.255"),
        (PIXELS, LABELS.astype(np.uint64) + np.uint64(1 << 63), r"outside 0\.\.255"),
        (PIXELS, LABELS[:0], r"not \[n\]"),
    ],
)
def test_other_types_and_shapes_are_refused(tmp_path: Path, images: Any, labels: Any, reason: str) -> None:
    assert re.search(reason, refused(save(tmp_path, images=images, labels=labels)))


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    assert refused(save(tmp_path, images=PIXELS, labels=LABELS[:5]), "bad-source") == "5 labels for 6 images"
    empty = np.zeros((6, 0, 2), np.uint8)
    assert "image size 0x2" in refused(save(tmp_path, images=empty, labels=LABELS), "bad-source")
    wide = np.zeros((6, 1, 257), np.uint8)
    assert refused(save(tmp_path, images=wide, labels=LABELS), "bad-source") == "image size 1x257, sides are 1 to 256"
    hidden = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:, :3], "y_test": LABELS}
    assert refused(save(tmp_path, **hidden), "bad-source") == "the held-out images' size differs"
    unknown = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS + 1}
    assert refused(save(tmp_path, **unknown), "bad-source") == "label 3 of 3 classes"


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("unpickled",))

    pickled = np.empty(6, object)
    pickled[:] = [Trap()] * 6
    assert "not integers" in refused(save(tmp_path, images=PIXELS, labels=pickled))


def test_other_arrays_than_known_are_named(tmp_path: Path) -> None:
    assert "x_train, y_train" in refused(save(tmp_path, pictures=PIXELS, labels=LABELS))


def test_a_missing_file_is_not_here_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not exist"):
        load_npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("images, labels")
    assert "zip" in refused(tmp_path / "text.npz")
    whole = save(tmp_path, images=PIXELS, labels=LABELS).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-30])
    refused(tmp_path / "cut.npz")
    (tmp_path / "headless.npz").write_bytes(whole[13:])  # its directory points before the beginning
    refused(tmp_path / "headless.npz")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_are_refused_or_read_and_never_a_traceback(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    np.savez_compressed(tmp_path / "set.npz", images=PIXELS, labels=LABELS)
    data = bytearray((tmp_path / "set.npz").read_bytes())
    for place in rng.integers(0, len(data), 3):
        data[place] = rng.integers(0, 256)
    (tmp_path / "set.npz").write_bytes(data)
    with suppress(Invalid):  # anything else is a failure
        load_npz(tmp_path / "set.npz")


def npy(shape: tuple[int, ...], data: bytes, descr: str = "|u1") -> bytes:
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
    return stream.getvalue() + data


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "z.npz", "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path / "z.npz"


def test_a_header_that_promises_more_than_there_is_costs_no_memory(tmp_path: Path) -> None:
    path = write_zip(tmp_path, {"images.npy": npy((1 << 30, 256, 256), b"x" * 99), "labels.npy": npy((6,), bytes(6))})
    tracemalloc.start()
    assert refused(path) == "size differs from its header"
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_MEMBER_BYTES", 1 << 20)
    path = write_zip(tmp_path, {"images.npy": npy((1 << 22, 1, 1), bytes(1 << 22)), "labels.npy": npy((1,), b"0")})
    assert path.stat().st_size < 1 << 14
    tracemalloc.start()
    assert refused(path) == "larger than 1048576 bytes"
    assert tracemalloc.get_traced_memory()[1] < 1 << 19
    tracemalloc.stop()


def test_a_directory_that_understates_a_size_unpacks_no_more_than_that(tmp_path: Path) -> None:
    path = write_zip(tmp_path, {"images.npy": npy((6, 4, 5), PIXELS.tobytes()), "labels.npy": npy((6,), bytes(6))})
    data = path.read_bytes()
    size = len(npy((6, 4, 5), PIXELS.tobytes()))
    assert data.count(struct.pack("<I", size)) == 2
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", size - 50)))
    assert refused(path)


def test_other_compressions_and_too_many_members_are_refused(tmp_path: Path) -> None:
    members = {"images.npy": npy((6, 4, 5), PIXELS.tobytes()), "labels.npy": npy((6,), bytes(6))}
    assert refused(write_zip(tmp_path, members, zipfile.ZIP_LZMA)) == "neither stored nor deflated"
    many = {**members, **{f"a{number}.npy": b"" for number in range(arrays.MAX_MEMBERS)}}
    assert "more than 64" in refused(write_zip(tmp_path, many))
    assert "repeated" in refused(write_zip(tmp_path, {**members, "images": b""}))


def test_idx_files_with_and_without_a_split_of_their_own(tmp_path: Path, idx_set: Any) -> None:
    directory = idx_set.write(tmp_path)
    assert is_idx_directory(directory)
    source = load_idx(directory)
    assert source.hidden is not None
    for path in directory.glob("t10k-*"):
        path.unlink()
    alone = load_idx(directory)
    assert alone.hidden is None
    assert np.array_equal(alone.images.pixels, source.images.pixels)
    for path in directory.glob("*labels*"):
        path.unlink()
    with pytest.raises(Unavailable, match="lacks train-labels"):
        load_idx(directory)
