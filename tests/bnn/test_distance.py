from __future__ import annotations

import numpy as np
from builders import family_shape, random_model
from hypothesis import given
from strategies import architectures

from bnnchain.bnn.distance import hamming, prediction_difference, shape_distance
from bnnchain.bnn.encoding import apply_flips
from bnnchain_kernels.model import Architecture, Conv3x3, Dense


@given(architectures(), architectures())
def test_shape_distance_is_zero_only_for_equal_shapes_and_symmetric(first: Architecture, second: Architecture) -> None:
    assert shape_distance(first, first) == 0
    assert (shape_distance(first, second) == 0) == (first == second)
    assert shape_distance(first, second) == shape_distance(second, first) >= 0


@given(architectures(), architectures(), architectures())
def test_shape_distance_keeps_the_triangle_inequality(a: Architecture, b: Architecture, c: Architecture) -> None:
    assert shape_distance(a, c) <= shape_distance(a, b) + shape_distance(b, c)


def test_shape_distance_counts_weights_pools_and_layers() -> None:
    base = Architecture(8, 8, 1, (Conv3x3(4), Dense(2)))
    assert shape_distance(base, Architecture(8, 8, 1, (Conv3x3(5), Dense(2)))) == 1 + 9 + 2 * 36
    assert shape_distance(base, Architecture(8, 8, 1, (Conv3x3(4, pool=True), Dense(2)))) == 1 + 1 + 2 * (144 - 36)
    assert shape_distance(base, Architecture(8, 8, 1, (Conv3x3(4), Dense(3), Dense(2)))) == 1 + 144 + 6 + 1


def test_hamming_counts_weights() -> None:
    model = random_model(family_shape(1), 0)
    assert hamming(model, model) == 0
    assert hamming(model, apply_flips(model, np.array([5, 0, 26]))) == 3


def test_prediction_difference_counts_samples() -> None:
    assert prediction_difference(np.array([1, 2, 3], np.uint8), np.array([1, 0, 0], np.uint8)) == 2
