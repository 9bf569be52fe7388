from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnnchain.datasets.create import CreateRequest, create_dataset
from bnnchain.datasets.directory import is_dataset_directory, read_directory, write_directory
from bnnchain.datasets.labelled import LabelledImages, Source
from bnnchain.datasets.registry import load
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.datasets.create import CreatedDataset

REQUEST = CreateRequest("mine", "CC0-1.0", "tests", b"s" * 32)


@pytest.fixture
def created() -> CreatedDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5, 5)).astype(np.uint8)
    labels = np.repeat(np.arange(2, dtype=np.uint8), 20)
    return create_dataset(Source(LabelledImages(pixels, labels, ("cats", "d\no\x1bgs"))), REQUEST)


def test_what_is_written_is_read_back(tmp_path: Path, created: CreatedDataset) -> None:
    write_directory(tmp_path / "a" / "set", created)
    assert is_dataset_directory(tmp_path / "a" / "set")
    read = read_directory(tmp_path / "a" / "set")
    assert read.manifest == created.dataset.manifest
    for before, after in zip((created.dataset.pool, created.dataset.heldout), (read.pool, read.heldout), strict=True):
        assert np.array_equal(before.images, after.images)
        assert np.array_equal(before.labels, after.labels)
    assert (tmp_path / "a" / "set" / "classes.txt").read_text() == "cats\nd\\no\\x1bgs\n"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["set"]


def test_held_out_samples_are_the_owners_alone(tmp_path: Path, created: CreatedDataset) -> None:
    write_directory(tmp_path / "set", created)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "set").iterdir()}
    private = {"hidden.bin", "salt.bin"}
    assert all((modes[name] & 0o077 == 0) == (name in private) for name in modes)
    assert private < set(modes)
    for name in private:
        (tmp_path / "set" / name).unlink()
    assert len(read_directory(tmp_path / "set").heldout) == 0


def test_nothing_is_overwritten(tmp_path: Path, created: CreatedDataset) -> None:
    write_directory(tmp_path / "set", created)
    with pytest.raises(Invalid, match="nothing is overwritten"):
        write_directory(tmp_path / "set", created)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="nothing is overwritten"):
        write_directory(tmp_path / "link", created)
    (tmp_path / "file").write_text("")
    with pytest.raises(Fault, match="cannot write"):
        write_directory(tmp_path / "file" / "set", created)


@pytest.mark.parametrize("name", ["pool.bin", "hidden.bin", "salt.bin", "manifest.bin"])
def test_every_damaged_byte_file_is_refused(tmp_path: Path, created: CreatedDataset, name: str) -> None:
    write_directory(tmp_path / "set", created)
    path = tmp_path / "set" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    if name == "manifest.bin":  # its last byte is the origin's: another data set, with a hash of its own
        assert read_directory(tmp_path / "set").manifest.dataset_id != created.dataset.manifest.dataset_id
    else:
        with pytest.raises(Invalid, match="bad-samples"):
            read_directory(tmp_path / "set")
    path.write_bytes(bytes(data) + bytes(1 << 25))
    with pytest.raises(Invalid, match=r"bad-samples|bad-manifest|too large"):
        read_directory(tmp_path / "set")
    path.unlink()
    if name != "hidden.bin":
        with pytest.raises(Unavailable, match=name):
            read_directory(tmp_path / "set")


def test_a_data_set_without_held_out_samples_has_no_files_of_them(tmp_path: Path, created: CreatedDataset) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5, 5)).astype(np.uint8)
    images = LabelledImages(pixels, np.repeat(np.arange(2, dtype=np.uint8), 20), ("a", "b"))
    write_directory(tmp_path / "set", create_dataset(Source(images), replace(REQUEST, hidden_bp=0)))
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["classes.txt", "manifest.bin", "pool.bin"]
    assert len(read_directory(tmp_path / "set").pool) == 40


def test_the_registry_finds_created_sets_by_name(tmp_path: Path, created: CreatedDataset) -> None:
    write_directory(tmp_path / "mine", created)
    assert load("mine", None, tmp_path).manifest == created.dataset.manifest
    assert load("mine", tmp_path / "mine", tmp_path / "nothing").manifest == created.dataset.manifest
    with pytest.raises(Invalid, match=r"bad-dataset .*holds mine"):
        load("other", tmp_path / "mine", tmp_path)
    with pytest.raises(Unavailable):
        load("x" * 5_000, None, tmp_path)
