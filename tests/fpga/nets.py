"""Random models and images for the overlay's tests; every net is a function of its seed alone."""

from __future__ import annotations

import numpy as np

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples, predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Layer, Model, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

CNN_4K = Architecture(28, 28, 1, (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)))
CNN_94K = Architecture(28, 28, 1, (Conv3x3(32, True), Conv3x3(64, True), Conv3x3(64), Dense(64), Dense(10)))
CNN_DIGITS = Architecture(8, 8, 4, (Conv3x3(16, True), Conv3x3(24), Dense(10)))


def make_samples(rng: np.random.Generator, architecture: Architecture, count: int) -> Samples:
    bits = rng.random((count, architecture.input_bits)) < rng.uniform(0.2, 0.8)
    octets = np.packbits(bits, axis=1, bitorder="little")
    labels = rng.integers(0, architecture.classes, count).astype(np.uint8)
    return Samples(architecture.height, architecture.width, architecture.planes, architecture.classes, octets, labels)


def make_model(rng: np.random.Generator, architecture: Architecture) -> Model:
    """Thresholds sit mostly near K/2, where they matter, with both ends of the range mixed in."""
    geometry = architecture.geometry
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in geometry]
    thresholds = []
    for layer in geometry[:-1]:
        near = rng.normal(layer.fan_in / 2, max(1.0, layer.fan_in**0.5 / 2), layer.out_channels).round()
        limits = np.clip(near, 0, layer.fan_in + 1).astype(np.int32)
        ends = rng.random(layer.out_channels)
        limits[ends < 0.04] = 0
        limits[ends > 0.96] = layer.fan_in + 1
        limits[(ends > 0.48) & (ends < 0.5)] = layer.fan_in
        thresholds.append(limits)
    kind = rng.integers(0, 4)
    if kind == 0:
        biases = np.zeros(architecture.classes, np.int32)
    elif kind == 1:
        biases = rng.integers(-(1 << 20), (1 << 20) + 1, architecture.classes)
    else:
        biases = rng.integers(-3, 4, architecture.classes)
    return build_model(architecture, weights, thresholds, biases.astype(np.int32))


def make_tied_model(rng: np.random.Generator, architecture: Architecture) -> Model:
    """Classes in equal pairs, so that many logits tie."""
    model = make_model(rng, architecture)
    last = model.weights[-1].copy()
    last[1::2] = last[: len(last) // 2 * 2 : 2]
    biases = np.zeros(architecture.classes, np.int32)
    return Model(architecture, (*model.weights[:-1], last), model.thresholds, biases)


def draw_architecture(
    rng: np.random.Generator, *, max_side: int = 16, max_channels: int = 64, max_classes: int = 40
) -> Architecture:
    """Draw shapes until the types accept one."""
    while True:
        planes = int(rng.choice([1, 1, 1, 2, 3, 4, 33]))
        height, width = (int(side) for side in rng.integers(1, max_side + 1, 2))
        layers: list[Layer] = [
            Conv3x3(_draw_channels(rng, max_channels), bool(rng.integers(0, 2))) for _ in range(rng.integers(0, 4))
        ]
        layers += [Dense(_draw_channels(rng, max_channels)) for _ in range(rng.integers(0, 3))]
        classes = int(rng.choice([2, 3, 10, 10, 15, 16, 17, max_classes]))
        try:
            return Architecture(height, width, planes, (*layers, Dense(min(classes, max_classes))))
        except Invalid:
            continue


def _draw_channels(rng: np.random.Generator, max_channels: int) -> int:
    special = [channels for channels in (1, 15, 16, 17, 31, 32, 33, 48, 63, 64) if channels <= max_channels]
    return int(rng.choice(special)) if rng.random() < 0.5 else int(rng.integers(1, max_channels + 1))


def label_by_model(rng: np.random.Generator, model: Model, samples: Samples, share: float = 0.6) -> Samples:
    """Give about ``share`` of the images the label that the model predicts, so that the count says something."""
    predicted = predict(ReferenceEvaluator(samples).logits(model, 0, len(samples)))
    labels = np.where(rng.random(len(samples)) < share, predicted, samples.labels).astype(np.uint8)
    return Samples(samples.height, samples.width, samples.planes, samples.classes, samples.images, labels)
