from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnnchain.datasets.mnist import FILES, find_idx_file, load_idx_directory, load_mnist
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN_ID = "6942af9a49d9abdd37fd3139471fd180657fb4e44b374afc4a74c3d983fe663b"


def test_mnist_is_pinned(mnist_directory: Path) -> None:
    loaded = load_mnist(mnist_directory)
    manifest = loaded.manifest
    assert manifest.dataset_id.hex() == GOLDEN_ID
    assert (manifest.pool_size, manifest.hidden_size, manifest.planes, manifest.thresholds) == (
        60_000,
        10_000,
        1,
        b"\x80",
    )
    assert manifest.pool_bytes == 60_000 * 99
    assert np.bincount(loaded.pool.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert loaded.heldout.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert loaded.pool.labels[0] == 5


@pytest.mark.parametrize("compress", [False, True])
def test_any_four_idx_files_load_under_their_own_name(tmp_path: Path, idx_set: Any, compress: bool) -> None:
    loaded = load_idx_directory("fashion", idx_set.write(tmp_path, compress=compress))
    manifest = loaded.manifest
    assert (manifest.name, manifest.height, manifest.width, manifest.classes) == ("fashion", 5, 3, 4)
    assert (manifest.licence, manifest.origin) == ("NOASSERTION", "local IDX files")
    assert np.array_equal(loaded.pool.unpack(0, 30)[..., 0], idx_set.pool_pixels >= 128)
    assert np.array_equal(loaded.heldout.unpack(0, 7)[..., 0], idx_set.heldout_pixels >= 128)
    assert np.array_equal(loaded.pool.labels, idx_set.pool_labels)
    assert np.array_equal(loaded.heldout.labels, idx_set.heldout_labels)


def test_files_that_are_not_mnists_are_refused_under_its_name(tmp_path: Path, idx_set: Any) -> None:
    with pytest.raises(Invalid, match=r"bad-idx .*train-labels.*not MNIST's: SHA-256"):
        load_mnist(idx_set.write(tmp_path))


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named_with_the_command_to_run(tmp_path: Path, idx_set: Any, file: Any) -> None:
    (idx_set.write(tmp_path) / file.stem).unlink()
    assert find_idx_file(tmp_path, file) is None
    with pytest.raises(Unavailable, match=rf"lacks {file.stem}; run: bnnchain dataset fetch mnist$"):
        load_mnist(tmp_path)
    with pytest.raises(Unavailable, match=rf"lacks {file.stem} "):
        load_idx_directory("fashion", tmp_path)


def test_counts_that_differ_are_refused(tmp_path: Path, idx_set: Any) -> None:
    idx_set.pool_labels = idx_set.pool_labels[:-1]
    with pytest.raises(Invalid, match=r"bad-idx .*train-labels.*29 labels for 30 images"):
        load_idx_directory("fashion", idx_set.write(tmp_path))


def test_heldout_images_of_another_size_are_refused(tmp_path: Path, idx_set: Any) -> None:
    idx_set.heldout_pixels = idx_set.heldout_pixels[:, :4]
    with pytest.raises(Invalid, match=r"bad-idx .*t10k-images.*image size differs"):
        load_idx_directory("fashion", idx_set.write(tmp_path))


def test_heldout_labels_that_the_pool_never_names_are_refused(tmp_path: Path, idx_set: Any) -> None:
    idx_set.heldout_labels[3] = 4
    with pytest.raises(Invalid, match=r"bad-idx .*t10k-labels.*label 4, there are 4 classes"):
        load_idx_directory("fashion", idx_set.write(tmp_path))


def test_swapped_files_are_refused(tmp_path: Path, idx_set: Any) -> None:
    idx_set.write(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes((tmp_path / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(Invalid, match=r"bad-idx .*train-images.*labels found where images were expected"):
        load_idx_directory("fashion", tmp_path)


def test_a_set_over_the_payload_limit_is_refused(tmp_path: Path, idx_set: Any) -> None:
    # one pixel takes a byte and its label another: 8,400,000 samples are 16.8 MB
    idx_set.pool_pixels = np.zeros((8_400_000, 1, 1), np.uint8)
    idx_set.heldout_pixels = np.zeros((7, 1, 1), np.uint8)
    idx_set.pool_labels = np.resize(np.arange(4, dtype=np.uint8), 8_400_000)
    with pytest.raises(Invalid, match=r"bad-manifest .*payload size.*16800000"):
        load_idx_directory("large", idx_set.write(tmp_path))


def test_all_256_classes_and_a_single_one(tmp_path: Path, idx_set: Any) -> None:
    idx_set.pool_labels[0] = 255
    assert load_idx_directory("many", idx_set.write(tmp_path / "a")).manifest.classes == 256
    idx_set.pool_labels[:] = 0
    idx_set.heldout_labels[:] = 0
    assert load_idx_directory("one", idx_set.write(tmp_path / "b")).manifest.classes == 2


def test_a_name_that_a_manifest_cannot_hold_is_refused(tmp_path: Path, idx_set: Any) -> None:
    with pytest.raises(Invalid, match=r"bad-manifest .*name"):
        load_idx_directory("Not A Name", idx_set.write(tmp_path))
