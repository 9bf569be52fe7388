"""The trainer learns, and its integer model answers as the network it came from, tie by tie."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_architecture, random_samples

from bnnchain.bnn.encoding import encode_model
from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining import backprop, straight_through
from bnnchain.mining.straight_through import Network, StraightThroughFounder, exact_threshold, sign, signs
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples, count_correct
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, unpack_weights
from bnnchain_kernels.reference import ReferenceEvaluator, pool_or
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain.mining.founders import FoundProgress

MNIST = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"
EPSILON = float(backprop.VARIANCE_EPSILON)
SMALL = Architecture(8, 8, 4, (Conv3x3(8, pool=True), Dense(10)))


def is_active_exactly(accumulator: int, mean: float, variance: float, shift: float) -> bool:
    """Batch-norm then sign of one accumulator, in decimals long enough to tell any two float32 results apart."""
    with localcontext() as context:
        context.prec = 120
        root = (Decimal(variance) + Decimal(EPSILON)).sqrt()
        return Decimal(accumulator) - Decimal(mean) + Decimal(shift) * root >= 0


def assert_threshold_is_exact(fan_in: int, mean: float, variance: float, shift: float) -> None:
    threshold = exact_threshold(fan_in, mean, variance, shift)
    assert 0 <= threshold <= fan_in + 1
    for matches in range(fan_in + 1):
        wanted = is_active_exactly(2 * matches - fan_in, mean, variance, shift)
        assert (matches >= threshold) == wanted, (fan_in, mean, variance, shift, matches)


@given(
    fan_in=st.integers(1, 80),
    mean=st.floats(-90, 90, width=32),
    variance=st.floats(0, 1000, width=32),
    shift=st.floats(-8, 8, width=32),
)
def test_threshold_agrees_with_batch_norm_on_every_accumulator(
    fan_in: int, mean: float, variance: float, shift: float
) -> None:
    assert_threshold_is_exact(fan_in, mean, variance, shift)


@pytest.mark.parametrize("shift", [-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5])
@pytest.mark.parametrize("mean", [-3.0, -2.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("fan_in", [9, 10])
def test_threshold_on_exact_ties(fan_in: int, mean: float, shift: float) -> None:
    variance = 4.0 - EPSILON  # its root is exactly 2, so that accumulators fall onto the boundary itself
    assert variance + EPSILON == 4.0
    assert_threshold_is_exact(fan_in, mean, variance, shift)
    boundary = mean - 2 * shift
    matches = (boundary + fan_in) / 2
    if matches == int(matches) and 0 <= matches <= fan_in:
        assert exact_threshold(fan_in, mean, variance, shift) == matches


def test_threshold_is_clipped() -> None:
    assert exact_threshold(9, -100.0, 1.0, 0.0) == 0
    assert exact_threshold(9, 100.0, 1.0, 0.0) == 10
    assert exact_threshold(9, 9.0, 1.0, 0.0) == 9


def infer_in_floats(network: Network, samples: Samples) -> np.ndarray:
    """The network's answers with its moving statistics: matrix products, batch-norm in float64, sign, OR-pool."""
    activations = signs(samples, np.arange(len(samples))).astype(np.float64)
    for layer in network.hidden:
        place = layer.geometry
        unpooled = replace(place, layer=Dense(1)) if isinstance(place.layer, Dense) else place
        columns = backprop.windows(activations, unpooled)
        shape = (place.out_channels, *backprop.computed_size(place), len(samples))
        accumulators = (np.where(layer.latent >= 0, 1.0, -1.0) @ columns).reshape(shape)
        expand = (slice(None), None, None, None)
        scale = np.sqrt(layer.variance.astype(np.float64) + EPSILON)
        offset = (accumulators - layer.mean[expand].astype(np.float64)) / scale[expand] + layer.shift[expand]
        active = offset >= 0
        if backprop.is_pooled(place):
            active = pool_or(active.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
        activations = np.where(active, 1.0, -1.0)
    columns = backprop.windows(activations, network.architecture.geometry[-1])
    return (np.where(network.last_latent >= 0, 1, -1) @ columns).T


@pytest.mark.parametrize("seed", range(12))
def test_exported_model_answers_as_the_network_on_every_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    samples = random_samples(rng, shape, 200)
    network = Network(shape, rng)
    for _ in range(6):
        chosen = rng.integers(0, len(samples), 32)
        network.train_step(signs(samples, chosen), samples.labels[chosen], 0.02)
    model = network.export()
    assert not model.biases.any()
    logits = ReferenceEvaluator(samples).logits(model, 0, len(samples))
    np.testing.assert_array_equal(logits, infer_in_floats(network, samples))
    for layer, rows in zip(network.hidden, unpack_weights(model), strict=False):
        np.testing.assert_array_equal(rows, layer.latent >= 0)


def test_hidden_layer_gradient_is_that_of_real_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straight_through, "GRADIENT_WINDOW", np.inf)
    rng = np.random.default_rng(9)
    network = Network(Architecture(6, 5, 2, (Conv3x3(3, pool=True), Dense(2))), rng)
    layer = network.hidden[0]
    inputs = rng.normal(size=(2, 6, 5, 4)).astype(np.float32)  # reals: no ties in the pool
    trace = straight_through._forward(layer, inputs)
    weights = rng.normal(size=trace.offset.shape).astype(np.float32)
    latent, shift, back = straight_through._backward(layer, trace, weights, needs_inputs=True)

    def loss(rows: np.ndarray, images: np.ndarray) -> float:
        accumulators = (rows @ backprop.windows(images, layer.geometry)).reshape(3, 4, 2, 4)
        normalised = backprop.normalise(backprop.max_pool(accumulators).reshape(3, -1))[0]
        return float(np.sum(weights * normalised.reshape(weights.shape)))

    exact = sign(layer.latent).astype(np.float64)
    for index in [(0, 0), (1, 7), (2, 17)]:
        step = np.zeros_like(exact)
        step[index] = 1e-5
        numeric = (loss(exact + step, inputs.astype(float)) - loss(exact - step, inputs.astype(float))) / 2e-5
        assert latent[index] == pytest.approx(numeric, rel=1e-2, abs=1e-3)
    for place in [(0, 0, 0, 0), (1, 3, 2, 1)]:
        step = np.zeros(inputs.shape)
        step[place] = 1e-5
        numeric = (loss(exact, inputs + step) - loss(exact, inputs - step)) / 2e-5
        assert back[place] == pytest.approx(numeric, rel=1e-2, abs=1e-3)
    np.testing.assert_allclose(shift, weights.sum((1, 2, 3)), rtol=1e-4)


def test_gradient_stops_outside_the_window() -> None:
    rng = np.random.default_rng(10)
    network = Network(Architecture(3, 3, 1, (Dense(2), Dense(2))), rng)
    layer = network.hidden[0]
    layer.shift[:] = [5, 0]  # the first neuron lies far above its window everywhere
    trace = straight_through._forward(layer, sign(rng.normal(size=(1, 3, 3, 16)).astype(np.float32)))
    latent, shift, _ = straight_through._backward(layer, trace, np.ones_like(trace.offset), needs_inputs=False)
    assert shift[0] == 0
    assert not latent[0].any()
    assert shift[1] != 0


def test_sign_of_zero_is_plus_one() -> None:
    assert sign(np.array([0.0, -0.0, -1e-9], np.float32)).tolist() == [1, 1, -1]


def test_signs_unpack_the_images() -> None:
    rng = np.random.default_rng(6)
    samples = random_samples(rng, Architecture(3, 5, 2, (Dense(2),)), 9)
    indices = np.array([8, 0, 0])
    wanted = np.stack([samples.unpack(index, index + 1)[0] for index in indices]).transpose(3, 1, 2, 0)
    np.testing.assert_array_equal(signs(samples, indices), wanted.astype(np.float32) * 2 - 1)


def test_digits_are_learned_in_seconds() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    founded = StraightThroughFounder().found(architecture("cnn-digits"), pool, evaluator, seed=3, max_epochs=12)
    assert founded.correct == count_correct(ReferenceEvaluator(pool), founded.model, len(pool))
    assert founded.correct >= 0.85 * founded.pool_size
    assert founded.pool_size == len(pool)
    assert founded.epochs == 12
    heldout = load_digits().heldout
    assert count_correct(ReferenceEvaluator(heldout), founded.model, len(heldout)) >= 0.8 * len(heldout)


def test_same_seed_same_model_and_other_seed_another() -> None:
    pool = load_digits().pool.take(np.arange(200, dtype=np.int32))
    evaluator = ReferenceEvaluator(pool)
    models = [
        encode_model(StraightThroughFounder().found(SMALL, pool, evaluator, seed=seed, max_epochs=1).model)
        for seed in (1, 1, 2)
    ]
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_training_stops_at_its_target_and_keeps_the_best() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    reports: list[FoundProgress] = []
    founded = StraightThroughFounder().found(
        SMALL, pool, evaluator, seed=1, target_correct=700, max_epochs=50, on_progress=reports.append
    )
    assert founded.correct >= 700
    assert founded.epochs < 50
    assert reports[-1].best_correct == founded.correct
    assert all(report.best_correct < 700 for report in reports[:-1])
    assert founded.correct == max(report.correct for report in reports)
    assert reports[-1].loss < reports[0].loss


def test_training_can_be_stopped_at_any_step() -> None:
    pool = load_digits().pool.take(np.arange(100, dtype=np.int32))
    calls: list[None] = []

    def should_stop() -> bool:
        calls.append(None)
        return len(calls) == 3

    evaluator = ReferenceEvaluator(pool)
    founded = StraightThroughFounder().found(SMALL, pool, evaluator, seed=1, max_epochs=9, should_stop=should_stop)
    assert len(calls) == 3
    assert founded.epochs < 1
    assert founded.correct == count_correct(evaluator, founded.model, 100)


def test_a_pool_of_one_image_is_enough() -> None:
    pool = load_digits().pool.take(np.arange(1, dtype=np.int32))
    founded = StraightThroughFounder().found(SMALL, pool, ReferenceEvaluator(pool), seed=1, max_epochs=2)
    assert founded.pool_size == 1


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("bad-architecture", {"architecture": architecture("cnn-4k")}),
        ("bad-training", {"max_epochs": 0}),
        ("bad-training", {"target_correct": 11}),
        ("bad-training", {"samples": 0}),
    ],
)
def test_requests_without_sense_are_refused(code: str, changes: dict[str, object]) -> None:
    pool = load_digits().pool.take(np.arange(changes.pop("samples", 10), dtype=np.int32))
    options = {"architecture": SMALL, "max_epochs": 1, "target_correct": None} | changes
    with pytest.raises(Invalid) as refusal:
        StraightThroughFounder().found(samples=pool, evaluator=ReferenceEvaluator(pool), seed=1, **options)
    assert refusal.value.code == code


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST is not here")
def test_mnist_is_learned() -> None:
    dataset = load_mnist(MNIST)
    evaluator = select("auto")(dataset.pool)
    founded = StraightThroughFounder().found(architecture("cnn-4k"), dataset.pool, evaluator, seed=1, max_epochs=8)
    heldout = count_correct(select("auto")(dataset.heldout), founded.model, len(dataset.heldout))
    assert heldout >= 0.88 * len(dataset.heldout)
