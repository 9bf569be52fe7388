from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import family_shape, random_model
from hypothesis import given
from hypothesis import strategies as st
from strategies import architectures

from bnnchain.bnn.distance import (
    count_ones,
    hamming,
    near_rows,
    ones_by_arithmetic,
    prediction_difference,
    shape_distance,
)
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


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=50))
def test_bits_are_counted_with_and_without_numpy_2(words: list[int]) -> None:
    array = np.array([*words, 0, (1 << 64) - 1], np.uint64)
    expected = [word.bit_count() for word in [*words, 0, (1 << 64) - 1]]
    assert ones_by_arithmetic(array).tolist() == expected
    assert count_ones(array).tolist() == expected


def test_a_worst_case_of_rows_is_compared_in_cache_sized_pieces() -> None:
    """More rows than one piece holds; the one that is near stands in the last."""
    shape = Architecture(8, 8, 1, (Dense(4096), Dense(2)))
    others = [random_model(shape, seed) for seed in range(5)]
    model = random_model(Architecture(8, 8, 1, (Dense(3), Dense(2))), 9)
    rows = model.weights[0].copy()
    rows[1] = ~others[4].weights[0][4095]
    assert near_rows(replace(model, weights=(rows, *model.weights[1:])), others, 64) == (1, 3)
