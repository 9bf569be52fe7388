from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_samples

from bnnchain_kernels.evaluator import BLOCK_IMAGES
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.slicing import (
    COUNTER_BITS,
    LABEL_BITS,
    LABEL_PLANES,
    aligned_words,
    counter_bits,
    padded,
    plan_architecture,
    slice_images,
    slice_labels,
)

LANES = [1, 2, 4, 8]


def unslice(words: np.ndarray, vectors: int, lanes: int) -> np.ndarray:
    """Return ``uint8[images, vectors]`` from a sliced array, one bit at a time."""
    slices = words.reshape(-1, vectors, lanes)
    images = len(slices) * lanes * 64
    bits = np.zeros((images, vectors), np.uint8)
    for image in range(images):
        part, lane, bit = image // (lanes * 64), image // 64 % lanes, image % 64
        bits[image] = slices[part, :, lane] >> np.uint64(bit) & np.uint64(1)
    return bits


@pytest.mark.parametrize("lanes", LANES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), images=st.integers(0, 1100), side=st.integers(1, 5), planes=st.integers(1, 3))
def test_slices_hold_every_bit_once(lanes: int, seed: int, images: int, side: int, planes: int) -> None:
    architecture = Architecture(side, side, planes, (Dense(2),))
    samples = random_samples(np.random.default_rng(seed), architecture, images)
    vectors = padded(architecture.input_bits)
    bits = unslice(slice_images(samples, lanes), vectors, lanes)
    assert len(bits) == -(-images // BLOCK_IMAGES) * BLOCK_IMAGES
    flat = samples.unpack(0, images).reshape(images, architecture.input_bits)
    np.testing.assert_array_equal(bits[:images, : architecture.input_bits], flat)
    assert not bits[images:].any()
    assert not bits[:, architecture.input_bits :].any(), "inputs that pad a triple must be zero"


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("images", [0, 1, 63, 64, 511, 512, 513])
def test_labels_mark_real_images(lanes: int, images: int) -> None:
    architecture = Architecture(1, 1, 1, (Dense(256),))
    samples = random_samples(np.random.default_rng(images), architecture, images)
    bits = unslice(slice_labels(samples, lanes), LABEL_PLANES, lanes)
    assert bits[:, LABEL_BITS].sum() == images
    assert (bits[:images, :LABEL_BITS] @ (1 << np.arange(LABEL_BITS))).tolist() == samples.labels.tolist()


@given(st.integers(0, 1 << 23))
def test_counters_hold_the_largest_count(largest: int) -> None:
    assert 1 << counter_bits(largest) > largest


@given(st.integers(0, 10_000))
def test_padding_rounds_up_to_triples(count: int) -> None:
    assert padded(count) % 3 == 0
    assert 0 <= padded(count) - count < 3


@pytest.mark.parametrize("count", [1, 7, 8, 100])
def test_vectors_start_on_cache_lines(count: int) -> None:
    words = aligned_words(count)
    assert len(words) == count
    assert words.ctypes.data % 64 == 0
    assert not words.any()


def test_a_plan_does_no_work_that_pooling_drops() -> None:
    plan = plan_architecture(
        Architecture(28, 28, 1, (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)))
    )
    computed = [(int(row[3]), int(row[4])) for row in plan.layers]
    assert computed[:3] == [(26, 26), (10, 10), (2, 2)]


def test_plans_bound_the_last_counter_for_any_bias() -> None:
    plan = plan_architecture(Architecture(3, 3, 1, (Dense(2),)))
    assert plan.layers[-1, COUNTER_BITS] == counter_bits(9 + (1 << 20))
