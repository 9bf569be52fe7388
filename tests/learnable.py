"""The data sets that tests learn on, small enough for milliseconds, and models that know something of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bnnchain.bnn.encoding import apply_flips
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.chunks import ChunkTree
from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain.datasets.payload import encode_payload
from bnnchain_kernels.evaluator import Samples, count_correct
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Model, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

SIDE, CLASSES = 6, 4
POOL_SIZE, HELDOUT_SIZE = 700, 60
"""700 images: one full 512-image block and a tail."""
UPLOADED_POOL_SIZE = 300
CLIMB_STEPS = 80


@lru_cache
def tiny_dataset(pool_size: int = POOL_SIZE, seed: int = 2024) -> Dataset:
    """Return 6x6 images of noise in which one quadrant, the label, is brighter."""
    rng = np.random.default_rng(seed)
    half = SIDE // 2

    def draw(count: int) -> Samples:
        labels = rng.integers(0, CLASSES, count).astype(np.uint8)
        pixels = rng.random((count, SIDE, SIDE)) < 0.35
        for image, label in zip(pixels, labels, strict=True):
            top, left = (label // 2) * half, (label % 2) * half
            image[top : top + half, left : left + half] |= rng.random((half, half)) < 0.35
        packed = np.packbits(pixels.reshape(count, -1), axis=1, bitorder="little")
        return Samples(SIDE, SIDE, 1, CLASSES, packed, labels)

    pool, heldout = draw(pool_size), draw(HELDOUT_SIZE)
    return build_dataset("tiny", b"\x80", pool, heldout, licence="CC0-1.0", origin="tests")


def uploaded_dataset(number: int = 0) -> Dataset:
    """Return the data set that tests upload, or another one like it."""
    return tiny_dataset(UPLOADED_POOL_SIZE, 1 + number)


@lru_cache
def known_datasets() -> dict[DatasetId, Dataset]:
    """Return the data sets that builders can learn on and prove, by id."""
    datasets = [tiny_dataset(), *(uploaded_dataset(number) for number in range(3))]
    return {DatasetId(dataset.manifest.dataset_id): dataset for dataset in datasets}


OWN = DatasetId(tiny_dataset().manifest.dataset_id)
"""The data set of all the tests' chains."""


@lru_cache
def payload_tree(dataset_id: DatasetId) -> ChunkTree:
    """Return the tree of a known data set's pool payload."""
    return ChunkTree(encode_payload(known_datasets()[dataset_id].pool))


@lru_cache
def evaluator(dataset_id: DatasetId = OWN) -> ReferenceEvaluator:
    """Return the reference evaluator on a known data set's pool."""
    return ReferenceEvaluator(known_datasets()[dataset_id].pool)


def count(model: Model, dataset_id: DatasetId = OWN) -> int:
    """Return the exact count of a model on a whole pool."""
    return count_correct(evaluator(dataset_id), model, known_datasets()[dataset_id].manifest.pool_size)


def family_shape(family_id: int) -> Architecture:
    """Return the shape that tests give to family ``family_id``: all different; every second one convolves."""
    first = Conv3x3(2 + family_id, pool=True) if family_id % 2 else Dense(8 + family_id)
    return Architecture(SIDE, SIDE, 1, (first, Dense(CLASSES)))


def random_model(architecture: Architecture, seed: int) -> Model:
    """Return a model of random bits with middling thresholds and no biases."""
    rng = np.random.default_rng(seed)
    geometry = architecture.geometry
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in geometry]
    thresholds = [rng.integers(layer.fan_in // 2, layer.fan_in // 2 + 2, layer.out_channels) for layer in geometry[:-1]]
    return build_model(architecture, weights, thresholds, np.zeros(architecture.classes, np.int32))


@lru_cache(maxsize=256)
def founder(architecture: Architecture, seed: int, dataset_id: DatasetId = OWN) -> Model:
    """Return a random model after a short hill climb on the pool: about 40 % right."""
    rng = np.random.default_rng([seed, 1])
    model = random_model(architecture, seed)
    best = count(model, dataset_id)
    for _ in range(CLIMB_STEPS):
        flips = rng.choice(architecture.weight_count, 3, replace=False).astype(np.int64)
        candidate = apply_flips(model, flips)
        correct = count(candidate, dataset_id)
        if correct >= best:
            model, best = candidate, correct
    return model
