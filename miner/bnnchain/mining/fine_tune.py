"""Straight-through fine-tuning from a finished model: the way out of a local optimum of single flips."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flip_positions
from bnnchain.mining import backprop
from bnnchain.mining.operators import Move
from bnnchain.mining.straight_through import BATCH_IMAGES, Network, sign, signs
from bnnchain_kernels.model import unpack_weights

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model

LEARNING_RATE = 3e-3
MAX_LATENT = 0.1
"""Real weights start evenly within +- this, on their bit's side: the nearer to 0, the more of them flip early."""
JUDGING_IMAGES = 1024
"""Images whose mean and variance stand for the pool's when thresholds are turned into normalisation."""


class FineTune:
    """A training of ``steps`` steps that starts from ``model``, its learning rate falling to zero.

    Biases stay as they are and are not trained with: they are rare, and whatever comes out is counted exactly.
    """

    def __init__(self, model: Model, samples: Samples, steps: int, seed: int) -> None:
        self._model = model
        self._samples = samples
        self._steps = steps
        self._done = 0
        self._rng = np.random.default_rng(seed)
        self._network = warm_start(model, samples, self._rng)

    def train(self, steps: int) -> None:
        """Take up to ``steps`` further steps."""
        size = len(self._samples)
        for step in range(self._done, min(self._done + steps, self._steps)):
            chosen = self._rng.integers(0, size, min(BATCH_IMAGES, size))
            rate = LEARNING_RATE * (1 + math.cos(math.pi * step / self._steps)) / 2
            self._network.train_step(signs(self._samples, chosen), self._samples.labels[chosen], rate)
            self._done = step + 1

    def move(self) -> Move:
        """Return the move from the model at the start to the model trained so far."""
        child = self._network.export()
        changes = np.concatenate([np.zeros(0, np.int32), *child.thresholds]).astype(np.int64)
        changes -= np.concatenate([np.zeros(0, np.int32), *self._model.thresholds])
        steps = tuple((int(position), int(changes[position])) for position in np.flatnonzero(changes))
        return Move(flip_positions(self._model, child), steps)


def warm_start(model: Model, samples: Samples, rng: np.random.Generator) -> Network:
    """Return a network in training whose export has the model's weights and thresholds."""
    network = Network(model.architecture, rng)
    latents = [*(layer.latent for layer in network.hidden), network.last_latent]
    for latent, rows in zip(latents, unpack_weights(model), strict=True):
        size = rng.uniform(1e-6, MAX_LATENT, latent.shape)
        latent[:] = np.where(rows, size, -size)
    count = min(JUDGING_IMAGES, len(samples))
    activations = signs(samples, rng.choice(len(samples), count, replace=False))
    for layer, limits in zip(network.hidden, model.thresholds, strict=True):
        geometry = layer.geometry
        accumulators = sign(layer.latent) @ backprop.windows(activations, geometry)
        accumulators = accumulators.reshape(geometry.out_channels, *backprop.computed_size(geometry), count)
        pooled = backprop.max_pool(accumulators) if backprop.is_pooled(geometry) else accumulators
        # Halfway between the accumulators of T - 1 and T matches, so that rounding moves no threshold.
        boundary = (2 * limits - geometry.fan_in - 1).astype(np.float32)
        _, layer.mean[:], layer.variance[:], scales = backprop.normalise(pooled.reshape(geometry.out_channels, -1))
        layer.shift[:] = (layer.mean - boundary) * scales
        activations = sign(pooled - boundary[:, None, None, None])
    return network
