"""What stands between a neuron's sum and its sign, folded into an integer threshold, exactly.

Frameworks normalise, shift and scale in floats.  For a sum s the value is ``(p*s + q) / sqrt(v) + r`` with the floats'
own rational values, so its sign is decided in rational arithmetic; a float's rounding is never asked.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ONE, ZERO = Fraction(1), Fraction(0)


@dataclass(frozen=True, slots=True)
class Affine:
    """One neuron's value ``(slope*s + offset) / sqrt(variance) + shift`` as a function of its sum s."""

    slope: Fraction = ONE
    offset: Fraction = ZERO
    variance: Fraction = ONE
    """Positive; 1 until the value has been normalised."""
    shift: Fraction = ZERO

    def plus(self, number: float) -> Affine:
        """Return the value plus a number."""
        return replace(self, shift=self.shift + Fraction(number))

    def times(self, number: float) -> Affine:
        """Return the value times a number."""
        factor = Fraction(number)
        return Affine(self.slope * factor, self.offset * factor, self.variance, self.shift * factor)

    def normalised(self, gamma: float, beta: float, mean: float, variance: float, epsilon: float) -> Affine:
        """Return ``gamma * (value - mean) / sqrt(variance + epsilon) + beta``; once at most, variance not negative."""
        factor, spread = Fraction(gamma), Fraction(variance) + Fraction(epsilon)
        if self.variance != ONE or spread <= 0:
            raise ValueError
        return Affine(self.slope * factor, (self.offset + self.shift - Fraction(mean)) * factor, spread, Fraction(beta))

    def sign(self, total: int) -> int:
        """Return the sign of the value at the sum ``total``: -1, 0 or 1."""
        left, right = self.slope * total + self.offset, self.shift
        if (left >= 0) == (right >= 0) or not left or not right:
            return _sign(left) or _sign(right)
        # Of opposite signs: the larger square wins, left's against right's times the variance.
        difference = left * left - right * right * self.variance
        return _sign(left) * _sign(difference)

    def threshold(self, fan_in: int, *, is_strict: bool) -> tuple[int, bool]:
        """Return (T, flipped): the neuron is active iff at least T of its inputs agree with its weights.

        With ``flipped`` they agree with the inverted weights: the value falls where the sum rises.  Active means value
        >= 0, or > 0 where ``is_strict``.
        """
        is_flipped = self.slope < 0
        least = 1 if is_strict else 0

        def is_active(matches: int) -> bool:
            total = 2 * matches - fan_in
            return self.sign(-total if is_flipped else total) >= least

        return _first(fan_in, is_active), is_flipped

    def has_zero(self, fan_in: int) -> bool:
        """Answer whether some attainable sum (-K, -K + 2, ... K) has the value zero."""
        if not self.slope:
            return self.sign(0) == 0
        is_flipped = self.slope < 0

        def reaches(least: int) -> Callable[[int], bool]:
            return lambda matches: self.sign((fan_in - 2 * matches) if is_flipped else (2 * matches - fan_in)) >= least

        return _first(fan_in, reaches(0)) != _first(fan_in, reaches(1))


def _first(fan_in: int, is_active: Callable[[int], bool]) -> int:
    return bisect_left(range(fan_in + 1), True, key=is_active)  # noqa: FBT003  (the value searched for)


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)
