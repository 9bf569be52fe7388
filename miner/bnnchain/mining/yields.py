"""Choosing among operators by what each has lately gained for its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.mining.operators import Operator

MEMORY = 0.8
"""What an operator's earlier rounds weigh after each further one: a search changes, and so does what helps."""


class Yields:
    """Measured yields, gain per block of images evaluated: work rather than seconds, so that a search repeats itself.

    round_work: blocks of the smallest round; an untried operator is taken to have had one, with a gain of one label.
    """

    def __init__(self, operators: Sequence[Operator], round_work: float) -> None:
        self._operators = operators
        self._gains = np.ones(len(operators))
        self._works = np.full(len(operators), round_work, np.float64)

    def draw(self, rng: np.random.Generator) -> Operator:
        """Return an operator, each with a chance in proportion to its yield; none is ever given up."""
        shares = self._gains / self._works
        return self._operators[int(rng.choice(len(shares), p=shares / shares.sum()))]

    def record(self, operator: Operator, gain: int, work: float) -> None:
        """Remember a round: what it gained, at least 0, in right labels, and its work in blocks, above 0."""
        index = self._operators.index(operator)
        self._gains[index] = 1 + MEMORY * (self._gains[index] - 1) + gain
        self._works[index] = MEMORY * self._works[index] + work
