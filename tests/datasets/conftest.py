"""Builders that the data set tests share: small IDX sets, samples, manifests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain.datasets.payload import pack_pixels
from bnnchain_kernels.evaluator import Samples

MNIST_DIRECTORY = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"


def idx_images(pixels: np.ndarray) -> bytes:
    return struct.pack(">4I", 0x0803, *pixels.shape) + pixels.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 0x0801, len(labels)) + labels.tobytes()


class IdxSet:
    """A random MNIST-like set as arrays; ``write`` puts its four files into a directory."""

    def __init__(self, pool_size: int = 30, heldout_size: int = 7, height: int = 5, width: int = 3) -> None:
        rng = np.random.default_rng(7)
        self.pool_pixels = rng.integers(0, 256, (pool_size, height, width)).astype(np.uint8)
        self.heldout_pixels = rng.integers(0, 256, (heldout_size, height, width)).astype(np.uint8)
        self.pool_labels = (np.arange(pool_size) % 4).astype(np.uint8)
        self.heldout_labels = (np.arange(heldout_size) % 3).astype(np.uint8)

    def write(self, directory: Path, *, compress: bool = False) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for stem, content in (
            ("train-images-idx3-ubyte", idx_images(self.pool_pixels)),
            ("train-labels-idx1-ubyte", idx_labels(self.pool_labels)),
            ("t10k-images-idx3-ubyte", idx_images(self.heldout_pixels)),
            ("t10k-labels-idx1-ubyte", idx_labels(self.heldout_labels)),
        ):
            name = f"{stem}.gz" if compress else stem
            (directory / name).write_bytes(gzip.compress(content) if compress else content)
        return directory


def make_samples(count: int, seed: int) -> Samples:
    height, width, planes, classes = 6, 5, 3, 4
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, height, width)).astype(np.uint8)
    packed = pack_pixels(pixels, bytes(range(60, 60 + 40 * planes, 40)))
    return Samples(height, width, planes, classes, packed, rng.integers(0, classes, count).astype(np.uint8))


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """A set whose pool has three chunks, the last one partial."""
    return build_dataset(
        "small",
        bytes([60, 100, 140]),
        make_samples(11_000, seed=1),
        make_samples(90, seed=2),
        licence="CC0-1.0",
        origin="made up",
    )


@pytest.fixture
def idx_set() -> IdxSet:
    return IdxSet()


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    if not MNIST_DIRECTORY.is_dir():
        pytest.skip("MNIST is not beside the repository")
    return MNIST_DIRECTORY
