from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_samples

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import BLOCK_IMAGES, MAX_IMAGES, Samples, predict, validate_range
from bnnchain_kernels.model import Architecture, Dense


def make(images: np.ndarray, labels: np.ndarray, size: tuple[int, int, int, int] = (3, 3, 1, 10)) -> Samples:
    return Samples(*size, images, labels)


IMAGES = np.zeros((4, 2), np.uint8)
LABELS = np.zeros(4, np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (IMAGES[:3], LABELS, "image array"),
        (IMAGES[:, :1], LABELS, "image array"),
        (IMAGES.astype(np.int8), LABELS, "image array"),
        (IMAGES, LABELS + 10, "labels"),
        (IMAGES, LABELS.astype(np.int64), "labels"),
        (IMAGES, LABELS.reshape(4, 1), "labels"),
        (IMAGES + np.uint8(2), LABELS, "unused image bits"),
    ],
)
def test_samples_that_break_a_rule(images: np.ndarray, labels: np.ndarray, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        make(images, labels)
    assert caught.value.code == "bad-samples"
    assert reason in str(caught.value)


def test_too_many_samples() -> None:
    labels = np.broadcast_to(np.uint8(0), (MAX_IMAGES + 1,))
    images = np.broadcast_to(np.uint8(0), (MAX_IMAGES + 1, 2))
    with pytest.raises(Invalid) as caught:
        make(images, labels)
    assert caught.value.code == "bad-samples"


def test_bits_are_in_row_column_plane_order() -> None:
    bits = np.zeros((1, 2, 3, 4), np.uint8)
    bits[0, 1, 0, 2] = 1
    packed = np.packbits(bits.reshape(1, -1), axis=1, bitorder="little")
    assert packed[0].tolist() == [0, 1 << ((1 * 3 + 0) * 4 + 2 - 8), 0]
    np.testing.assert_array_equal(make(packed, np.zeros(1, np.uint8), (2, 3, 4, 2)).unpack(0, 1), bits)


def test_take_repeats_and_reorders() -> None:
    samples = random_samples(np.random.default_rng(0), Architecture(3, 3, 1, (Dense(10),)), 9)
    taken = samples.take(np.array([8, 0, 8], np.int32))
    assert len(taken) == 3
    assert taken.labels.tolist() == samples.labels[[8, 0, 8]].tolist()
    np.testing.assert_array_equal(taken.images, samples.images[[8, 0, 8]])


def test_validate_range_accepts_whole_blocks() -> None:
    samples = random_samples(np.random.default_rng(0), Architecture(1, 1, 1, (Dense(2),)), BLOCK_IMAGES + 5)
    for bounds in ((0, 0), (0, BLOCK_IMAGES), (BLOCK_IMAGES, BLOCK_IMAGES + 5), (0, BLOCK_IMAGES + 5)):
        validate_range(samples, *bounds, blocks=True)
    with pytest.raises(ValueError, match="whole"):
        validate_range(samples, 0, 5, blocks=True)
    validate_range(samples, 0, 5, blocks=False)


def test_predict_takes_the_lowest_of_equals() -> None:
    logits = np.array([[1, 1, 0], [0, 2, 2], [-3, -4, -3], [0, 0, 0]], np.int32)
    assert predict(logits).tolist() == [0, 1, 0, 0]
    assert predict(logits).dtype == np.uint8
