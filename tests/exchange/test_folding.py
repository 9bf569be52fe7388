from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from bnnchain.exchange.folding import Affine
from bnnchain.mining.straight_through import exact_threshold


def active(value: Affine, fan_in: int, *, is_strict: bool) -> list[bool]:
    """Every attainable sum, in rational arithmetic of 200 bits: the square root is bounded from both sides."""
    answers = []
    for total in range(-fan_in, fan_in + 1, 2):
        scaled = (value.slope * total + value.offset) ** 2 / value.variance
        root = Fraction(isqrt(int(scaled * (1 << 400))), 1 << 200)
        signed = root if value.slope * total + value.offset >= 0 else -root
        answers.append(signed + value.shift > 0 if is_strict else signed + value.shift >= 0)
    return answers


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("is_strict", [False, True])
def test_thresholds_are_those_of_every_sum(seed: int, is_strict: bool) -> None:
    rng = np.random.default_rng(seed)
    fan_in = int(rng.integers(1, 70))
    value = Affine()
    if rng.random() < 0.5:
        value = value.times(float(np.float32(rng.normal()))).plus(float(np.float32(rng.normal() * 5)))
    gamma, beta, mean = (float(np.float32(each)) for each in rng.normal(0, (1, 2, 9)))
    value = value.normalised(gamma, beta, mean, float(np.float32(rng.random() * 50)), 1e-3)
    limit, is_flipped = value.threshold(fan_in, is_strict=is_strict)
    matches = np.arange(fan_in + 1)
    answers = [bool(each) for each in matches >= limit]
    assert active(value, fan_in, is_strict=is_strict) == (answers[::-1] if is_flipped else answers)


def test_it_agrees_with_the_founder_on_the_device() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        fan_in = int(rng.integers(1, 600))
        mean, shift = (float(np.float32(each)) for each in rng.normal(0, (20, 2)))
        variance = float(np.float32(rng.random() * 300))
        epsilon = float(np.float32(1e-3))
        limit, is_flipped = Affine().normalised(1.0, shift, mean, variance, epsilon).threshold(fan_in, is_strict=False)
        assert (limit, is_flipped) == (exact_threshold(fan_in, mean, variance, shift), False)


def test_zero_is_told_from_nearly_zero() -> None:
    on_tie = Affine().normalised(1.0, -2.0, 0.0, 9.0, 0.0)  # s / 3 - 2 is zero at s = 6
    assert on_tie.has_zero(10)
    assert not on_tie.has_zero(9)  # odd sums alone
    assert on_tie.threshold(10, is_strict=False)[0] + 1 == on_tie.threshold(10, is_strict=True)[0]
    nearly = Affine().normalised(1.0, float(np.nextafter(np.float32(-2), np.float32(0))), 0.0, 9.0, 0.0)
    assert not nearly.has_zero(10)


def test_neurons_that_always_or_never_answer() -> None:
    assert Affine().plus(100.0).threshold(9, is_strict=False) == (0, False)
    assert Affine().plus(-100.0).threshold(9, is_strict=False) == (10, False)
    assert Affine().times(0.0).plus(1.0).threshold(9, is_strict=False)[0] == 0
    assert Affine().times(0.0).threshold(9, is_strict=True)[0] == 10
    assert Affine().times(0.0).has_zero(9)


@pytest.mark.parametrize(("variance", "epsilon"), [(-1.0, 0.001), (0.0, 0.0)])
def test_variances_that_are_not_positive_are_refused(variance: float, epsilon: float) -> None:
    with pytest.raises(ValueError):
        Affine().normalised(1.0, 0.0, 0.0, variance, epsilon)
    with pytest.raises(ValueError):
        Affine().normalised(1.0, 0.0, 0.0, 1.0, 1.0).normalised(1.0, 0.0, 0.0, 1.0, 1.0)
