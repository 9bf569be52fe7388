"""A thousand MNIST images through the real driver and the simulated RTL, every logit against the reference."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fpga.nets import CNN_4K, CNN_94K, make_model

from bnnchain_fpga.evaluator import Accelerator, OverlayEvaluator
from bnnchain_fpga.simulated_board import SimulatedBoard
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from bnnchain_kernels.model import Architecture

MNIST = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mnist"
IMAGES = 1_024
THRESHOLD = 128


def read_idx(name: str) -> np.ndarray:
    for path in (MNIST / name, MNIST / f"{name}.gz"):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            shape = struct.unpack_from(f">{data[3]}I", data, 4)
            return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    pytest.skip(f"no MNIST at {MNIST}")


@pytest.fixture(scope="module")
def samples() -> Samples:
    pixels = read_idx("t10k-images-idx3-ubyte")[:IMAGES].reshape(IMAGES, -1)
    labels = read_idx("t10k-labels-idx1-ubyte")[:IMAGES].copy()
    octets = np.packbits(pixels >= THRESHOLD, axis=1, bitorder="little")
    return Samples(28, 28, 1, 10, octets, labels)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [CNN_4K, CNN_94K], ids=["cnn-4k", "cnn-94k"])
def test_mnist(simulator: Path, samples: Samples, architecture: Architecture) -> None:
    model = make_model(np.random.default_rng(9), architecture)
    accelerator = Accelerator(SimulatedBoard(simulator))
    evaluator = OverlayEvaluator(accelerator, samples)
    reference = ReferenceEvaluator(samples)
    assert np.array_equal(evaluator.logits(model, 0, IMAGES), reference.logits(model, 0, IMAGES))
    assert np.array_equal(evaluator.correct(model, 0, IMAGES), reference.correct(model, 0, IMAGES))
    accelerator.close()
