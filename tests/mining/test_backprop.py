"""Every gradient against the finite difference, or against the adjoint, of what it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnnchain.mining import backprop
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, LayerGeometry

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 1e-6
LAYERS = [
    pytest.param(Architecture(7, 6, 2, (Conv3x3(3, pool=True), Dense(2))).geometry[0], id="conv-pool-odd"),
    pytest.param(Architecture(6, 6, 1, (Conv3x3(4), Dense(2))).geometry[0], id="conv"),
    pytest.param(Architecture(3, 4, 2, (Dense(5), Dense(2))).geometry[0], id="dense"),
]


def numeric_gradient(function: Callable[[np.ndarray], float], point: np.ndarray) -> np.ndarray:
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        moved = point.copy()
        moved[index] += STEP
        above = function(moved)
        moved[index] -= 2 * STEP
        gradient[index] = (above - function(moved)) / (2 * STEP)
    return gradient


@pytest.mark.parametrize("layer", LAYERS)
def test_windows_order_is_the_weight_rows_order(layer: LayerGeometry) -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(layer.in_channels, layer.in_height, layer.in_width, 3))
    height, width = backprop.computed_size(layer)
    columns = backprop.windows(inputs, layer).reshape(layer.fan_in, height, width, 3)
    side = 3 if isinstance(layer.layer, Conv3x3) else None
    for y in range(height):
        for x in range(width):
            patch = inputs[:, y : y + side, x : x + side] if side else inputs
            np.testing.assert_array_equal(columns[:, y, x], patch.transpose(1, 2, 0, 3).reshape(layer.fan_in, 3))


@pytest.mark.parametrize("layer", LAYERS)
def test_windows_gradient_is_the_adjoint(layer: LayerGeometry) -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(layer.in_channels, layer.in_height, layer.in_width, 3))
    columns = backprop.windows(inputs, layer)
    gradient = rng.normal(size=columns.shape)
    back = backprop.windows_gradient(gradient, layer, 3)
    assert back.shape == inputs.shape
    assert np.sum(columns * gradient) == pytest.approx(np.sum(inputs * back))


def test_pool_takes_the_maximum_and_its_gradient() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 4, 6, 3))
    weights = rng.normal(size=(2, 2, 3, 3))
    pooled = backprop.max_pool(values)
    np.testing.assert_array_equal(pooled, values.reshape(2, 2, 2, 3, 2, 3).max((2, 4)))
    numeric = numeric_gradient(lambda moved: float(np.sum(weights * backprop.max_pool(moved))), values)
    np.testing.assert_allclose(backprop.max_pool_gradient(weights, values, pooled), numeric, atol=1e-8)


def test_pool_gradient_of_equal_maxima_goes_to_the_first_alone() -> None:
    values = np.zeros((1, 2, 2, 1), np.float32)
    gradient = backprop.max_pool_gradient(np.full((1, 1, 1, 1), 5, np.float32), values, backprop.max_pool(values))
    assert gradient.ravel().tolist() == [5, 0, 0, 0]


def test_normalise_and_its_gradient() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(3, 2, (2, 9))
    weights = rng.normal(size=values.shape)
    normalised, means, variances, scales = backprop.normalise(values)
    np.testing.assert_allclose(means, values.mean(1))
    np.testing.assert_allclose(variances, values.var(1))
    np.testing.assert_allclose(normalised.std(1), 1, atol=1e-3)
    numeric = numeric_gradient(lambda moved: float(np.sum(weights * backprop.normalise(moved)[0])), values)
    np.testing.assert_allclose(backprop.normalise_gradient(weights, normalised, scales), numeric, atol=1e-7)


def test_normalise_of_a_constant_is_finite() -> None:
    normalised, *_ = backprop.normalise(np.full((1, 4), 7, np.float32))
    assert normalised.tolist() == [[0, 0, 0, 0]]


def test_cross_entropy_and_its_gradient() -> None:
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(size=(4, 6)), np.array([0, 1, 2, 3, 0, 0], np.uint8)
    loss, gradient = backprop.cross_entropy(logits, labels)
    shares = np.exp(logits) / np.exp(logits).sum(0)
    assert loss == pytest.approx(-np.mean(np.log(shares[labels, np.arange(6)])))
    numeric = numeric_gradient(lambda moved: backprop.cross_entropy(moved, labels)[0], logits)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    loss, gradient = backprop.cross_entropy(np.array([[1e4], [-1e4]], np.float32), np.array([1], np.uint8))
    assert loss == pytest.approx(2e4)
    assert np.isfinite(gradient).all()
