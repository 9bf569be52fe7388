"""The checks that need the heavy extras: collected where TensorFlow is installed, which `make test-train` sees to."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset

MNIST = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"

collect_ignore_glob = [] if find_spec("tensorflow") else ["*"]

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    """The directory with MNIST's files; tests that need them are skipped where they are not there."""
    if not MNIST.is_dir():
        pytest.skip(f"MNIST is not in {MNIST}")
    return MNIST


@pytest.fixture(scope="session")
def mnist(mnist_directory: Path) -> Dataset:
    from bnnchain.datasets.mnist import load_mnist

    return load_mnist(mnist_directory)
