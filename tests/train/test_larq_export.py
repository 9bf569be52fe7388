"""The integer model answers as Larq does, image by image and logit by logit, also where rounding decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from random_networks import random_samples
from train.networks import evolved_architecture, larq_logits, leave_ties, set_statistics, train_briefly

from bnnchain.bnn.encoding import encode_model
from bnnchain.bnn.zoo import ZOO, architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.mining.larq.network import (
    build_network,
    count_tie_differences,
    export_network,
    normalisation_name,
    product_name,
)
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Model, build_model, unpack_weights
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset
    from bnnchain.mining.larq.network import Network
    from bnnchain_kernels.evaluator import Samples

BRIEF_IMAGES = 4096
LARGE_BRIEF_IMAGES = 512
DEEP = Architecture(28, 28, 1, (Conv3x3(9, pool=True), Conv3x3(17), Dense(33), Dense(10)))
KINDS = ("tiny-variance", "negative-shift", "tie", "near-tie")


def assert_equal_answers(network: Network, model: Model, samples: Samples) -> None:
    wanted = larq_logits(network, samples)
    logits = select("auto")(samples).logits(model, 0, len(samples))
    assert np.count_nonzero(logits != wanted) == 0
    some = samples.take(np.arange(0, len(samples), 97, dtype=np.int32))
    np.testing.assert_array_equal(ReferenceEvaluator(some).logits(model, 0, len(some)), wanted[::97])


def assert_equal_decisions(network: Network, model: Model) -> None:
    """Push every sum through the normalisation as TensorFlow runs it: plain, as a graph, and compiled by XLA."""
    import tensorflow as tf

    assert count_tie_differences(network, model) == 0
    for index, (place, limits) in enumerate(zip(model.architecture.geometry, model.thresholds, strict=False)):
        layer, matches = network.get_layer(normalisation_name(index)), np.arange(place.fan_in + 1)
        shape = (-1, 1, 1, len(limits)) if isinstance(place.layer, Conv3x3) else (-1, len(limits))
        sums = np.repeat((2 * matches - place.fan_in).astype(np.float32)[:, None], len(limits), axis=1).reshape(shape)
        for is_compiled in (False, True):
            normalise = tf.function(lambda values, layer=layer: layer(values, training=False), jit_compile=is_compiled)
            decisions = normalise(tf.constant(sums)).numpy().reshape(len(matches), -1) >= 0
            np.testing.assert_array_equal(decisions, matches[:, None] >= limits)


def first(samples: Samples, count: int) -> Samples:
    return samples.take(np.arange(count, dtype=np.int32))


@pytest.mark.parametrize("name", [name for name, shape in ZOO.items() if shape.height == 28])
def test_zoo_on_every_test_image(name: str, mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    count = LARGE_BRIEF_IMAGES if name == "cnn-1m" else BRIEF_IMAGES
    network, model = train_briefly(monkeypatch, ZOO[name], first(mnist.pool, count), seed=1)
    assert len(mnist.heldout) == 10_000
    assert_equal_decisions(network, model)
    assert_equal_answers(network, model, mnist.heldout)


def test_zoo_on_every_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits()
    network, model = train_briefly(monkeypatch, architecture("cnn-digits"), digits.pool, seed=1)
    for samples in (digits.pool, digits.heldout):
        assert_equal_answers(network, model, samples)


@pytest.mark.parametrize("seed", range(10))
def test_evolved_shapes_on_every_test_image(seed: int, mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = evolved_architecture(np.random.default_rng(seed), mnist.pool)
    network, model = train_briefly(monkeypatch, shape, first(mnist.pool, BRIEF_IMAGES), seed)
    assert model.architecture == shape
    assert_equal_decisions(network, model)
    assert_equal_answers(network, model, mnist.heldout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [ZOO["cnn-4k"], DEEP], ids=["cnn-4k", "deep"])
def test_provoking_statistics(kind: str, shape: Architecture, mnist: Dataset) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    network = build_network(shape)
    set_statistics(network, shape, kind, rng)
    model = export_network(network, shape)
    if kind in {"tiny-variance", "negative-shift"}:
        assert count_tie_differences(network, model) == 0
        assert_equal_answers(network, model, mnist.heldout)
    # On a boundary itself frameworks round as they please, the model does not: the same network a little off its
    # boundaries has the same integer model and answers as that does.
    leave_ties(network, model)
    assert encode_model(export_network(network, shape)) == encode_model(model)
    assert count_tie_differences(network, model) == 0
    assert_equal_answers(network, model, mnist.heldout)


def test_ties_are_met_and_decided_exactly() -> None:
    shape = Architecture(8, 8, 1, (Conv3x3(512), Dense(512), Dense(2)))
    network, rng = build_network(shape), np.random.default_rng(7)
    set_statistics(network, shape, "tie", rng)
    model = export_network(network, shape)
    for index, (place, limits) in enumerate(zip(shape.geometry, model.thresholds, strict=False)):
        mean = network.get_layer(normalisation_name(index)).get_weights()[1].astype(np.int64)
        np.testing.assert_array_equal(2 * limits - place.fan_in, np.clip(mean, -place.fan_in, place.fan_in + 2))
    set_statistics(network, shape, "near-tie", rng)
    model = export_network(network, shape)
    assert count_tie_differences(network, model) > 0  # else these statistics provoke nothing


def changed_threshold(model: Model, layer: int, by: int) -> Model:
    thresholds = [limits.copy() for limits in model.thresholds]
    neuron = int(np.argmax((thresholds[layer] > 1) & (thresholds[layer] < model.architecture.geometry[layer].fan_in)))
    thresholds[layer][neuron] += by
    return build_model(model.architecture, unpack_weights(model), thresholds, model.biases)


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_check_finds_a_threshold_that_is_one_off(layer: int, by: int) -> None:
    network = build_network(DEEP)
    set_statistics(network, DEEP, "negative-shift", np.random.default_rng(3))
    model = export_network(network, DEEP)
    with pytest.raises(Fault, match="differs from the network"):
        count_tie_differences(network, changed_threshold(model, layer, by))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_a_fault(value: float) -> None:
    network = build_network(DEEP)
    layer = network.get_layer(normalisation_name(1))
    layer.set_weights([*layer.get_weights()[:2], np.full_like(layer.get_weights()[2], value)])
    with pytest.raises(Fault, match="diverged"):
        export_network(network, DEEP)
    network = build_network(DEEP)
    layer = network.get_layer(product_name(0))
    layer.set_weights([np.full_like(layer.get_weights()[0], value)])
    with pytest.raises(Fault, match="diverged"):
        export_network(network, DEEP)


def test_a_latent_weight_of_zero_is_plus_one() -> None:
    network = build_network(DEEP)
    for index in range(len(DEEP.layers)):
        layer = network.get_layer(product_name(index))
        kernel = np.zeros_like(layer.get_weights()[0])
        kernel.flat[::2] = -0.0
        layer.set_weights([kernel])
    model = export_network(network, DEEP)
    assert all(bits.all() for bits in unpack_weights(model))
    assert_equal_answers(network, model, random_samples(np.random.default_rng(1), DEEP, 200))
