"""Larq networks to export: briefly trained ones, and ones with batch-norm statistics made to provoke."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.mining.larq import worker
from bnnchain.mining.larq.messages import Request
from bnnchain.mining.larq.network import EPSILON, Network, build_network, normalisation_name
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Layer

if TYPE_CHECKING:
    import pytest
    from numpy.random import Generator

    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Int32Array, Model

PREDICT_IMAGES = 500


def evolved_architecture(rng: Generator, samples: Samples) -> Architecture:
    """Return a random shape for the samples, as an evolution of shapes meets them: up to 4 convolutions, 2 dense."""
    height, width = samples.height, samples.width
    layers: list[Layer] = []
    for _ in range(int(rng.integers(0, 5))):
        pool = bool(rng.integers(0, 2))
        height, width = (height - 2) >> pool, (width - 2) >> pool
        if height < 1 or width < 1:
            break
        layers.append(Conv3x3(int(rng.integers(1, 40)), pool))
    layers.extend(Dense(int(rng.integers(1, 80))) for _ in range(int(rng.integers(0, 3))))
    return Architecture(samples.height, samples.width, samples.planes, (*layers, Dense(samples.classes)))


def train_briefly(
    monkeypatch: pytest.MonkeyPatch, shape: Architecture, samples: Samples, seed: int
) -> tuple[Network, Model]:
    """Return a network after one epoch on the samples, and the model of its last checkpoint."""
    made: list[Any] = []
    monkeypatch.setattr(
        worker, "build_network", lambda architecture: made.append(build_network(architecture)) or made[0]
    )
    may_train = threading.Event()
    may_train.set()
    *_, last = worker.train(Request(shape, samples, seed, 1, 2), may_train)
    return made[0], last.model


def set_statistics(network: Network, shape: Architecture, kind: str, rng: Generator) -> None:
    """Give every normalisation statistics of a kind: ``tiny-variance``, ``negative-shift``, ``tie`` or ``near-tie``.

    They lie where the sums do, so that neurons both fire and stay silent.
    """
    for index, place in enumerate(shape.geometry[:-1]):
        count, spread = place.out_channels, max(1, round(2 * place.fan_in**0.5))
        # A sum has the parity of its fan-in: only there can it meet a boundary.
        boundary = place.fan_in % 2 + 2 * rng.integers(-spread // 2, spread // 2 + 1, count).astype(np.float64)
        variance = rng.uniform(1, 4 * place.fan_in, count).astype(np.float32)
        shift = rng.normal(0, 1, count).astype(np.float32)
        if kind == "tiny-variance":
            variance = rng.choice(np.array([0, 1e-38, 1e-12, 1e-6], np.float32), count)
            boundary += rng.uniform(-0.9, 0.9, count)
        elif kind == "negative-shift":
            shift = -np.abs(shift) * rng.choice([1, 5], count).astype(np.float32)
            boundary += rng.uniform(-0.9, 0.9, count)
        elif kind == "tie":
            shift[:] = 0  # the sum that equals an integer mean: exactly on the boundary, and active
        mean = boundary + shift * np.sqrt(variance.astype(np.float64) + EPSILON)
        network.get_layer(normalisation_name(index)).set_weights([shift, mean.astype(np.float32), variance])


def leave_ties(network: Network, model: Model) -> None:
    """Move every boundary of a network to the middle between two sums, where no rounding decides."""
    for index, (place, limits) in enumerate(zip(model.architecture.geometry, model.thresholds, strict=False)):
        mean = (2 * limits - place.fan_in - 1).astype(np.float32)
        zeros, ones = np.zeros_like(mean), np.ones_like(mean)
        network.get_layer(normalisation_name(index)).set_weights([zeros, mean, ones])


def larq_logits(network: Network, samples: Samples) -> Int32Array:
    """Return the network's own answers as integers, ``int32[n, classes]``; they must be integers to the last bit."""
    size = len(samples)
    inputs = samples.unpack(0, size).astype(np.float32) * 2 - 1
    answers = network.predict(inputs, batch_size=PREDICT_IMAGES, verbose=0)
    sums = answers / np.float32(logit_scale_of(network))
    logits = sums.astype(np.int32)
    assert np.array_equal(logits.astype(np.float32), sums)
    np.testing.assert_array_equal(predict(logits), answers.argmax(1))
    return logits


def logit_scale_of(network: Network) -> float:
    return float(network.layers[-1].scale)
