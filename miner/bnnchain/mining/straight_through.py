"""The founder on the device: back-propagation through binary weights and activations, in NumPy alone.

Forward, weights and activations are signs; backward, a sign passes the gradient on where its input lies within -1..1
(the straight-through estimator, Courbariaux and Bengio 2016).  A hidden layer is convolution or dense, max-pool, batch
normalisation without scale, sign.  The export folds the normalisation into integer thresholds, exactly.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bnnchain.mining import backprop
from bnnchain.mining.founders import FoundedModel, FoundProgress
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.model import build_model

if TYPE_CHECKING:
    from bnnchain.mining.backprop import Float32Array
    from bnnchain.mining.founders import ReportFound, ShouldStop
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture, Int32Array, LayerGeometry, Model, UInt8Array

BATCH_IMAGES = 128
MIN_BATCHES_PER_EPOCH = 20
"""A small pool is cut into smaller batches, so that an epoch still makes this many steps."""
CHECKS_PER_EPOCH = 16
"""Exact counts of the integer model in each epoch; rarer ones overshoot a target, which costs evolution its room."""
LEARNING_RATE = 1e-2
MOMENTUM = np.float32(0.9)
"""Of the moving mean and variance; slower ones lag behind binary weights and make accuracy swing wildly."""
GRADIENT_WINDOW = 1
"""A sign passes gradient on where its input lies within +- this."""


class StraightThroughFounder:
    """Trains founding models on the device, for every architecture the types allow."""

    name = "device"

    def found(
        self,
        architecture: Architecture,
        samples: Samples,
        evaluator: Evaluator,
        *,
        seed: int,
        target_correct: int | None = None,
        max_epochs: int,
        on_progress: ReportFound | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FoundedModel:
        """Return the best model seen in training; see :class:`~bnnchain.mining.founders.Founder`."""
        samples.validate_fits(architecture)
        size = len(samples)
        if size == 0 or max_epochs < 1 or (target_correct is not None and target_correct > size):
            raise Invalid("bad-training", pool_size=size, max_epochs=max_epochs, target_correct=target_correct)
        started = time.monotonic()
        rng = np.random.default_rng(seed)
        network = Network(architecture, rng)
        batch = max(1, min(BATCH_IMAGES, size // MIN_BATCHES_PER_EPOCH))
        steps_per_epoch = size // batch
        step_count = steps_per_epoch * max_epochs
        check_steps = {steps_per_epoch * check // CHECKS_PER_EPOCH for check in range(1, CHECKS_PER_EPOCH + 1)}

        best, best_correct, losses = network.export(), -1, []
        for step in range(step_count):
            in_epoch = step % steps_per_epoch
            if in_epoch == 0:
                order = rng.permutation(size)
            chosen = order[in_epoch * batch : (in_epoch + 1) * batch]
            rate = LEARNING_RATE * (1 + math.cos(math.pi * step / step_count)) / 2
            losses.append(network.train_step(signs(samples, chosen), samples.labels[chosen], rate))
            is_stopped = should_stop is not None and should_stop()
            if in_epoch + 1 not in check_steps and not is_stopped:
                continue
            model = network.export()
            correct = count_correct(evaluator, model, size)
            if correct > best_correct:
                best, best_correct = model, correct
            epochs, seconds = (step + 1) / steps_per_epoch, time.monotonic() - started
            if on_progress is not None:
                loss = sum(losses) / len(losses)
                on_progress(FoundProgress(epochs, max_epochs, loss, correct, best_correct, size, seconds))
            losses.clear()
            if is_stopped or (target_correct is not None and best_correct >= target_correct):
                break
        return FoundedModel(best, best_correct, size, epochs, seconds)


@dataclass(slots=True, eq=False)
class HiddenLayer:
    """A hidden layer in training; all arrays float32.

    latent: ``[out, K]`` in -1..1, the weight is its sign.  mean, variance, shift: ``[out]``, moving statistics of the
    pooled accumulator and the learned offset: active where (accumulator - mean) / sqrt(variance + eps) + shift >= 0.
    """

    geometry: LayerGeometry
    latent: Float32Array
    mean: Float32Array
    variance: Float32Array
    shift: Float32Array


class Network:
    """A binary network in training."""

    def __init__(self, architecture: Architecture, rng: np.random.Generator) -> None:
        self.architecture = architecture
        *hidden, last = architecture.geometry
        self.hidden = [
            HiddenLayer(
                layer,
                _initial_latent(layer, rng),
                np.zeros(layer.out_channels, np.float32),
                np.ones(layer.out_channels, np.float32),
                np.zeros(layer.out_channels, np.float32),
            )
            for layer in hidden
        ]
        self.last_latent = _initial_latent(last, rng)
        # A power of two near 1/sqrt(K) keeps the softmax in its working range and the export free of scales.
        self._logit_scale = np.float32(2.0 ** -max(1, round(math.log2(last.fan_in) / 2)))
        parameters = [layer.latent for layer in self.hidden] + [layer.shift for layer in self.hidden]
        self._optimiser = Adam([*parameters, self.last_latent])

    def train_step(self, inputs: Float32Array, labels: UInt8Array, learning_rate: float) -> float:
        """Take one step of gradient descent and return the loss before it.

        inputs: ``float32[planes, height, width, n]`` of -1 and +1, as :func:`signs` gives them.
        """
        count = len(labels)
        activations, traces = inputs, []
        for layer in self.hidden:
            trace = _forward(layer, activations)
            traces.append(trace)
            activations = sign(trace.offset)
        last = self.architecture.geometry[-1]
        columns = backprop.windows(activations, last)
        weights = sign(self.last_latent)
        loss, gradient = backprop.cross_entropy(weights @ columns * self._logit_scale, labels)
        gradient *= self._logit_scale
        last_gradient = gradient @ columns.T
        gradient = backprop.windows_gradient(weights.T @ gradient, last, count)

        latent_gradients, shift_gradients = [], []
        for index in reversed(range(len(self.hidden))):
            latent_gradient, shift_gradient, gradient = _backward(
                self.hidden[index], traces[index], gradient, needs_inputs=index > 0
            )
            latent_gradients.append(latent_gradient)
            shift_gradients.append(shift_gradient)
        self._optimiser.step([*latent_gradients[::-1], *shift_gradients[::-1], last_gradient], learning_rate)
        for latent in [*(layer.latent for layer in self.hidden), self.last_latent]:
            np.clip(latent, -1, 1, out=latent)
        return loss

    def export(self) -> Model:
        """Return the integer model that answers exactly as this network does with its moving statistics."""
        thresholds = [
            [
                exact_threshold(layer.geometry.fan_in, *map(float, parameters))
                for parameters in zip(layer.mean, layer.variance, layer.shift, strict=True)
            ]
            for layer in self.hidden
        ]
        latents = [*(layer.latent for layer in self.hidden), self.last_latent]
        biases = np.zeros(self.architecture.classes, np.int32)
        return build_model(self.architecture, [latent >= 0 for latent in latents], thresholds, biases)


class Adam:
    """Adam with bias correction (Kingma and Ba 2015); updates the parameter arrays it was given in place."""

    MEAN_DECAY = np.float32(0.9)
    SQUARE_DECAY = np.float32(0.999)
    EPSILON = np.float32(1e-7)

    def __init__(self, parameters: list[Float32Array]) -> None:
        self._parameters = parameters
        self._means = [np.zeros_like(parameter) for parameter in parameters]
        self._squares = [np.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self, gradients: list[Float32Array], learning_rate: float) -> None:
        """Move every parameter against its gradient."""
        self._steps += 1
        correction = math.sqrt(1 - float(self.SQUARE_DECAY) ** self._steps) / (
            1 - float(self.MEAN_DECAY) ** self._steps
        )
        rate = np.float32(learning_rate * correction)
        for index, gradient in enumerate(gradients):
            mean, square = self._means[index], self._squares[index]
            mean += (1 - self.MEAN_DECAY) * (gradient - mean)
            square += (1 - self.SQUARE_DECAY) * (gradient * gradient - square)
            self._parameters[index] -= rate * mean / (np.sqrt(square) + self.EPSILON)


def exact_threshold(fan_in: int, mean: float, variance: float, shift: float) -> int:
    """Return the smallest match count P in 0..K whose neuron is active, or K + 1 where none is.

    Active means 2P - K - mean + shift * sqrt(variance + eps) >= 0, decided in rational arithmetic on the very
    parameters: floats would differ from it on ties.  Without a scale the answer can only grow with P.
    """
    centre, offset = Fraction(mean), Fraction(shift)
    spread_squared = offset * offset * (Fraction(variance) + Fraction(float(backprop.VARIANCE_EPSILON)))

    def is_active(matches: int) -> bool:
        distance = 2 * matches - fan_in - centre
        if offset >= 0:
            return distance >= 0 or distance * distance <= spread_squared
        return distance >= 0 and distance * distance >= spread_squared

    return bisect_left(range(fan_in + 1), True, key=is_active)  # noqa: FBT003  (the value searched for)


def sign(values: Float32Array) -> Float32Array:
    """Return +1 where a value is at least 0, else -1."""
    result: Float32Array = np.where(values >= 0, np.float32(1), np.float32(-1))
    return result


def signs(samples: Samples, indices: npt.NDArray[np.int64] | Int32Array) -> Float32Array:
    """Return the images at ``indices`` as ``float32[planes, height, width, n]`` of -1 and +1."""
    bits = np.unpackbits(
        samples.images[indices], axis=1, count=samples.height * samples.width * samples.planes, bitorder="little"
    )
    images = bits.T.astype(np.float32) * 2 - 1
    images = images.reshape(samples.height, samples.width, samples.planes, len(indices))
    return np.ascontiguousarray(images.transpose(2, 0, 1, 3))


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """What the way forward leaves for the way back."""

    columns: Float32Array
    weights: Float32Array
    accumulators: Float32Array
    pooled: Float32Array
    normalised: Float32Array
    scales: Float32Array
    offset: Float32Array
    """``[channels, y, x, image]``: normalised plus shift; its sign is the activation."""


def _forward(layer: HiddenLayer, inputs: Float32Array) -> _Trace:
    geometry, count = layer.geometry, inputs.shape[-1]
    columns = backprop.windows(inputs, geometry)
    weights = sign(layer.latent)
    accumulators = (weights @ columns).reshape(geometry.out_channels, *backprop.computed_size(geometry), count)
    pooled = backprop.max_pool(accumulators) if backprop.is_pooled(geometry) else accumulators
    normalised, means, variances, scales = backprop.normalise(pooled.reshape(geometry.out_channels, -1))
    layer.mean += (1 - MOMENTUM) * (means - layer.mean)
    layer.variance += (1 - MOMENTUM) * (variances - layer.variance)
    offset = (normalised + layer.shift[:, None]).reshape(pooled.shape)
    return _Trace(columns, weights, accumulators, pooled, normalised, scales, offset)


def _backward(
    layer: HiddenLayer, trace: _Trace, gradient: Float32Array, *, needs_inputs: bool
) -> tuple[Float32Array, Float32Array, Float32Array]:
    # Returns the gradients of latent weights, shift and inputs; the first layer's inputs need none.
    geometry, count = layer.geometry, gradient.shape[-1]
    gradient = gradient * (np.abs(trace.offset) <= GRADIENT_WINDOW)
    rows = gradient.reshape(geometry.out_channels, -1)
    shift_gradient = rows.sum(axis=1)
    rows = backprop.normalise_gradient(rows, trace.normalised, trace.scales)
    if backprop.is_pooled(geometry):
        pooled_gradient = rows.reshape(trace.pooled.shape)
        rows = backprop.max_pool_gradient(pooled_gradient, trace.accumulators, trace.pooled)
        rows = rows.reshape(geometry.out_channels, -1)
    latent_gradient = rows @ trace.columns.T
    if needs_inputs:
        gradient = backprop.windows_gradient(trace.weights.T @ rows, geometry, count)
    return latent_gradient, shift_gradient, gradient


def _initial_latent(layer: LayerGeometry, rng: np.random.Generator) -> Float32Array:
    taps = layer.fan_in // layer.in_channels
    limit = math.sqrt(6 / (layer.fan_in + taps * layer.out_channels))
    return rng.uniform(-limit, limit, (layer.out_channels, layer.fan_in)).astype(np.float32)
