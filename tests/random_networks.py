"""Seeded random architectures, models and samples that reach the corners of what the types allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.evaluator import Samples, predict
from bnnchain_kernels.model import MAX_ABS_BIAS, Architecture, Conv3x3, Dense, Layer, Model, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from numpy.random import Generator

TAIL_IMAGES = (1, 2, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 513, 700, 1023, 1025)


def random_architecture(rng: Generator) -> Architecture:
    """Return an architecture of up to four convolutions and three hidden dense layers, sides 1 to 16."""
    height, width = (int(side) for side in rng.integers(1, 17, 2))
    planes = int(rng.choice([1, 1, 1, 2, 3, 5]))
    layers: list[Layer] = []
    rows, columns = height, width
    for _ in range(int(rng.integers(0, 5))):
        pool = bool(rng.integers(0, 2))
        out_rows, out_columns = (rows - 2) >> pool, (columns - 2) >> pool
        if out_rows < 1 or out_columns < 1:
            break
        layers.append(Conv3x3(int(rng.choice([1, 1, 2, 3, 4, 7, 8, 11, 16, 33, 65, 70])), pool))
        rows, columns = out_rows, out_columns
    layers.extend(Dense(int(rng.choice([1, 2, 3, 5, 24, 64, 97]))) for _ in range(int(rng.integers(0, 4))))
    layers.append(Dense(int(rng.choice([2, 3, 10, 10, 17, 256]))))
    return Architecture(height, width, planes, tuple(layers))


def random_model(rng: Generator, architecture: Architecture) -> Model:
    """Return a model whose neurons both fire and stay silent, with thresholds at 0 and K+1, ties and all biases."""
    weights, thresholds = [], []
    for place in architecture.geometry:
        bits = rng.random((place.out_channels, place.fan_in)) < 0.5
        if rng.integers(0, 3) == 0:  # equal neurons: ties in the last layer
            bits[rng.integers(0, place.out_channels, place.out_channels // 2)] = bits[0]
        weights.append(bits)
        spread = max(1, int(place.fan_in**0.5))
        limits = place.fan_in // 2 + rng.integers(-spread, spread + 1, place.out_channels)
        extreme = rng.random(place.out_channels)
        limits = np.where(extreme < 0.04, 0, np.where(extreme > 0.96, place.fan_in + 1, limits))
        thresholds.append(np.clip(limits, 0, place.fan_in + 1))
    largest = int(rng.choice([0, 0, 1, 3, 100, MAX_ABS_BIAS]))
    biases = rng.integers(-largest, largest + 1, architecture.classes)
    return build_model(architecture, weights, thresholds[:-1], biases)


def random_samples(rng: Generator, architecture: Architecture, count: int, model: Model | None = None) -> Samples:
    """Return ``count`` random images; with a ``model``, about half of the labels are what it answers."""
    density = rng.choice([0.2, 0.5, 0.8])
    bits = rng.random((count, architecture.input_bits)) < density
    images = np.packbits(bits, axis=1, bitorder="little")
    labels = rng.integers(0, architecture.classes, count).astype(np.uint8)
    shape = (architecture.height, architecture.width, architecture.planes, architecture.classes)
    if model is not None and count:
        answers = predict(ReferenceEvaluator(Samples(*shape, images, labels)).logits(model, 0, count))
        labels = np.where(rng.random(count) < 0.5, answers, labels).astype(np.uint8)
    return Samples(*shape, images, labels)
