from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

from bnnchain.datasets import digits
from bnnchain.datasets.digits import load_digits
from bnnchain_kernels.errors import Fault

GOLDEN_ID = "5f8c17ebe401466b0bc232c4cc73e3d8d42a3b662e83d8387a82d39c873dd0a2"
GOLDEN_FILE = "fb36c6bc06a1a215c95473126d36c4623d1083ddaa1ba20af29325827fdb2e5f"


def test_the_file_is_the_one_make_digits_wrote() -> None:
    data = resources.files("bnnchain.datasets").joinpath("digits.bin").read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN_FILE


def test_id_is_pinned() -> None:
    assert load_digits().manifest.dataset_id.hex() == GOLDEN_ID


def test_shape_and_split() -> None:
    loaded = load_digits()
    manifest = loaded.manifest
    assert (manifest.height, manifest.width, manifest.planes, manifest.classes) == (8, 8, 4, 10)
    assert (len(loaded.pool), len(loaded.heldout)) == (manifest.pool_size, manifest.hidden_size) == (1297, 500)
    assert np.bincount(loaded.heldout.labels).tolist() == [50] * 10
    # class counts of the UCI test partition
    both = np.concatenate([loaded.pool.labels, loaded.heldout.labels])
    assert np.bincount(both).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_planes_are_a_thermometer() -> None:
    loaded = load_digits()
    bits = loaded.pool.unpack(0, len(loaded.pool))
    assert np.all(bits[..., :-1] >= bits[..., 1:])
    assert 0.05 < bits[..., 3].mean() < bits[..., 0].mean() < 0.7


def test_images_look_like_their_digits() -> None:
    """The nearest mean image labels most held-out images right, so images and labels belong together."""
    loaded = load_digits()
    pool = loaded.pool.unpack(0, len(loaded.pool)).reshape(len(loaded.pool), -1).astype(np.float64)
    heldout = loaded.heldout.unpack(0, len(loaded.heldout)).reshape(len(loaded.heldout), -1).astype(np.float64)
    means = np.array([pool[loaded.pool.labels == label].mean(axis=0) for label in range(10)])
    nearest = np.argmin(((heldout[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert np.mean(nearest == loaded.heldout.labels) > 0.8


def test_a_pool_image_is_not_held_out() -> None:
    loaded = load_digits()
    pool = {row.tobytes() for row in loaded.pool.images}
    assert sum(row.tobytes() in pool for row in loaded.heldout.images) == 0


def test_licence_is_shipped() -> None:
    text = resources.files("bnnchain.datasets").joinpath("digits.LICENSE.txt").read_text()
    for part in ("Alpaydin", "10.24432/C50P49", "Attribution 4.0 International", "Section 8 -- Interpretation"):
        assert part in text


def test_a_damaged_file_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FILE_SHA256", "0" * 64)
    with pytest.raises(Fault, match=r"digits.bin is damaged"):
        load_digits()
