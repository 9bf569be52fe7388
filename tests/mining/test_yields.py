"""An operator is drawn as often as it has lately gained for its work, and never given up."""

from __future__ import annotations

import numpy as np

from bnnchain.mining.operators import Crossover, FewFlips, Mutation
from bnnchain.mining.yields import Yields

FIRST, SECOND, THIRD = FewFlips(), Mutation(10, 0.05), Crossover(10)


def shares(yields: Yields) -> list[float]:
    rng = np.random.default_rng(1)
    drawn = [yields.draw(rng).name for _ in range(2000)]
    return [drawn.count(operator.name) / 2000 for operator in (FIRST, SECOND, THIRD)]


def test_untried_operators_have_equal_chances() -> None:
    assert np.allclose(shares(Yields([FIRST, SECOND, THIRD], 100)), 1 / 3, atol=0.04)


def test_more_gain_for_less_work_is_drawn_more() -> None:
    yields = Yields([FIRST, SECOND, THIRD], 100)
    yields.record(FIRST, 50, 100)
    yields.record(SECOND, 50, 1000)
    first, second, third = shares(yields)
    assert first > 3 * second > 0
    assert second > 2 * third > 0


def test_what_helped_long_ago_is_forgotten_but_not_given_up() -> None:
    yields = Yields([FIRST, SECOND, THIRD], 100)
    yields.record(FIRST, 1000, 100)
    assert shares(yields)[0] > 0.9
    for _ in range(60):
        yields.record(FIRST, 0, 100)
    assert 0.02 < shares(yields)[0] < 1 / 3
