from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_architecture, random_model

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import (
    MAX_ABS_BIAS,
    MAX_LAYERS,
    Architecture,
    Conv3x3,
    Dense,
    Layer,
    Model,
    build_model,
    pack_rows,
    unpack_rows,
    unpack_weights,
)

SMALL = Architecture(4, 4, 2, (Conv3x3(3), Dense(2)))


def code_of(caught: pytest.ExceptionInfo[Invalid]) -> str:
    return caught.value.code


@pytest.mark.parametrize(
    ("size", "layers", "reason"),
    [
        ((0, 4, 1), (Dense(2),), "input size"),
        ((4, 257, 1), (Dense(2),), "input size"),
        ((4, 4, 0), (Dense(2),), "input size"),
        ((4, 4, 65), (Dense(2),), "input size"),
        ((4, 4, 1), (), "layer count"),
        ((4, 4, 1), (Dense(2),) * (MAX_LAYERS + 1), "layer count"),
        ((4, 4, 1), (Dense(1),), "last layer"),
        ((4, 4, 1), (Dense(257),), "last layer"),
        ((4, 4, 1), (Conv3x3(2),), "last layer"),
        ((4, 4, 1), (Dense(0), Dense(2)), "channels"),
        ((4, 4, 1), (Conv3x3(4097), Dense(2)), "channels"),
        ((4, 4, 1), (Conv3x3(-1), Dense(2)), "channels"),
        ((2, 4, 1), (Conv3x3(2), Dense(2)), "no room"),
        ((4, 2, 1), (Conv3x3(2), Dense(2)), "no room"),
        ((9, 9, 1), (Dense(9), Conv3x3(2), Dense(2)), "no room"),
        ((3, 4, 1), (Conv3x3(2, True), Dense(2)), "after pooling"),
        ((256, 256, 17), (Dense(2),), "fan-in"),
    ],
)
def test_a_shape_that_the_types_do_not_allow(
    size: tuple[int, int, int], layers: tuple[Layer, ...], reason: str
) -> None:
    with pytest.raises(Invalid) as caught:
        Architecture(*size, layers)
    assert code_of(caught) == "bad-architecture"
    assert reason in str(caught.value)


def test_geometry_of_cnn_4k() -> None:
    shape = Architecture(28, 28, 1, (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)))
    assert [(place.out_height, place.out_width, place.out_channels) for place in shape.geometry] == [
        (13, 13, 4),
        (5, 5, 16),
        (1, 1, 24),
        (1, 1, 10),
    ]
    assert [place.fan_in for place in shape.geometry] == [9, 36, 144, 24]
    assert shape.weight_count == 36 + 576 + 3456 + 240
    assert shape.mac_count == 676 * 36 + 121 * 576 + 9 * 3456 + 240, "pooled-away positions count as work"
    assert (shape.classes, shape.input_bits) == (10, 784)


def good_parts() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    model = random_model(np.random.default_rng(0), SMALL)
    return [rows.copy() for rows in model.weights], [limits.copy() for limits in model.thresholds], model.biases.copy()


def build(weights: list[np.ndarray], thresholds: list[np.ndarray], biases: np.ndarray) -> Model:
    return Model(SMALL, tuple(weights), tuple(thresholds), biases)


def test_a_good_model_is_read_only() -> None:
    model = build(*good_parts())
    for array in (*model.weights, *model.thresholds, model.biases):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def refused(weights: list[np.ndarray], thresholds: list[np.ndarray], biases: np.ndarray) -> str:
    with pytest.raises(Invalid) as caught:
        build(weights, thresholds, biases)
    assert code_of(caught) == "bad-model"
    return str(caught.value)


def test_models_with_wrong_arrays() -> None:
    weights, thresholds, biases = good_parts()
    assert "layer count" in refused(weights[:1], thresholds, biases)
    assert "layer count" in refused(weights, thresholds * 2, biases)
    assert "weight shape" in refused([weights[0][:2], weights[1]], thresholds, biases)
    assert "weight shape" in refused([weights[0].astype(np.int64), weights[1]], thresholds, biases)
    assert "threshold shape" in refused(weights, [thresholds[0][:2]], biases)
    assert "threshold shape" in refused(weights, [thresholds[0].astype(np.int64)], biases)
    assert "bias shape" in refused(weights, thresholds, biases[:1])
    assert "bias shape" in refused(weights, thresholds, biases.astype(np.int16))


@pytest.mark.parametrize("bit", [18, 63])
def test_an_unused_weight_bit(bit: int) -> None:
    weights, thresholds, biases = good_parts()
    weights[0][1, 0] |= np.uint64(1 << bit)
    assert "unused" in refused(weights, thresholds, biases)


@pytest.mark.parametrize(("limit", "allowed"), [(-1, False), (0, True), (19, True), (20, False)])
def test_threshold_bounds(limit: int, *, allowed: bool) -> None:
    weights, thresholds, biases = good_parts()
    thresholds[0][2] = limit
    if allowed:
        build(weights, thresholds, biases)
    else:
        assert "threshold range" in refused(weights, thresholds, biases)


@pytest.mark.parametrize("bias", [MAX_ABS_BIAS + 1, -MAX_ABS_BIAS - 1, -(1 << 31)])
def test_bias_bounds(bias: int) -> None:
    weights, thresholds, biases = good_parts()
    biases[0] = bias
    assert "bias range" in refused(weights, thresholds, biases)
    biases[0] = MAX_ABS_BIAS if bias > 0 else -MAX_ABS_BIAS
    build(weights, thresholds, biases)


@settings(deadline=None)
@given(rows=st.integers(0, 5), count=st.integers(1, 200), seed=st.integers(0, 99))
def test_packing_is_invertible(rows: int, count: int, seed: int) -> None:
    bits = np.random.default_rng(seed).random((rows, count)) < 0.5
    words = pack_rows(bits)
    assert words.shape == (rows, -(-count // 64))
    np.testing.assert_array_equal(unpack_rows(words, count), bits)
    for row in range(rows):
        value = sum(int(word) << (64 * index) for index, word in enumerate(words[row]))
        assert value == sum(1 << k for k in range(count) if bits[row, k]), "bit k is at word k // 64, bit k % 64"


@pytest.mark.parametrize("seed", range(20))
def test_build_and_unpack_are_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(rng, random_architecture(rng))
    again = build_model(model.architecture, unpack_weights(model), model.thresholds, model.biases)
    for rows, copies in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(rows, copies)
