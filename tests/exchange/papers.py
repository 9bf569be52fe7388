"""What the tests of this room share: models without giant biases, their papers, MNIST's test images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from random_networks import random_model

from bnnchain.bnn.encoding import model_hash
from bnnchain.bnn.zoo import ZOO
from bnnchain.datasets import mnist
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.idx import parse_images, read_content
from bnnchain.datasets.payload import pack_pixels
from bnnchain.exchange.provenance import Provenance
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import Model, UInt8Array, build_model, unpack_weights
from bnnchain_kernels.native import NativeEvaluator

if TYPE_CHECKING:
    from bnnchain_kernels.model import Int32Array

MNIST = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"
THRESHOLDS = {"cnn-digits": (3, 7, 11, 15)}
IMAGES = 10_000


def papers(model: Model, **fields: object) -> Provenance:
    """Return a full provenance of a model."""
    known: dict[str, object] = {
        "chain": "regtest",
        "genesis_id": "ab" * 32,
        "block_id": "cd" * 32,
        "height": 17,
        "family": 2,
        "generation": 5,
        "miner": "ef" * 32,
        "dataset": "mnist",
        "dataset_id": "12" * 32,
        "licence": "CC-BY-SA-3.0",
        "origin": "somebody. http://example.org/",
        "correct": 54_321,
        "total": 60_000,
    }
    return Provenance(model_hash(model).hex(), **{**known, **fields})  # type: ignore[arg-type]


def zoo_model(name: str) -> Model:
    """Return a random model of a named shape whose answers differ from image to image."""
    model = random_model(np.random.default_rng(sorted(ZOO).index(name)), ZOO[name])
    return build_model(ZOO[name], unpack_weights(model), model.thresholds, np.arange(10) % 3 - 1)


def zoo_pixels(name: str) -> tuple[UInt8Array, tuple[int, ...]]:
    """Return 10,000 images for a named shape and their thresholds: MNIST's test images, or random 4-bit ones."""
    if name not in THRESHOLDS:
        if not MNIST.is_dir():
            pytest.skip(f"MNIST is not in {MNIST}")
        path = mnist.find_idx_file(MNIST, mnist.TEST_IMAGES)
        assert path is not None
        return parse_images(read_content(path), path.name), tuple(mnist.THRESHOLDS)
    assert tuple(load_digits().manifest.thresholds) == THRESHOLDS[name]
    return np.random.default_rng(1).integers(0, 17, (IMAGES, 8, 8)).astype(np.uint8), THRESHOLDS[name]


def wanted_scores(model: Model, pixels: UInt8Array, thresholds: tuple[int, ...]) -> Int32Array:
    """Return our kernel's scores of grey images."""
    shape = model.architecture
    packed, labels = pack_pixels(pixels, bytes(thresholds)), np.zeros(len(pixels), np.uint8)
    samples = Samples(shape.height, shape.width, shape.planes, shape.classes, packed, labels)
    return NativeEvaluator(samples).logits(model, 0, len(pixels))
