from __future__ import annotations

import numpy as np
import pytest

from bnnchain.mining.pareto import by_room, crowding, domination, fronts, survivors


def is_better(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.all(first <= second) and np.any(first < second))


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on a coarse grid, so that there are ties; some violate."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    objectives = rng.integers(0, 6, (count, 3)).astype(np.float64)
    violations = np.maximum(0, rng.integers(-3, 3, count)).astype(np.float64)
    return objectives, violations


@pytest.mark.parametrize("seed", range(50))
def test_domination_is_its_definition(seed: int) -> None:
    objectives, violations = draw(seed)
    dominates = domination(objectives, violations)
    for i in range(len(objectives)):
        for j in range(len(objectives)):
            if violations[i] == violations[j] == 0:
                wanted = is_better(objectives[i], objectives[j])
            else:
                wanted = violations[i] < violations[j]
            assert dominates[i, j] == wanted, (seed, i, j)


@pytest.mark.parametrize("seed", range(50))
def test_fronts_hold_every_point_once_and_only_earlier_ones_dominate(seed: int) -> None:
    objectives, violations = draw(seed)
    dominates = domination(objectives, violations)
    found = fronts(objectives, violations)
    assert sorted(index for front in found for index in front) == list(range(len(objectives)))
    for number, front in enumerate(found):
        assert not dominates[np.ix_(front, front)].any()
        if number:
            assert dominates[np.ix_(found[number - 1], front)].any(axis=0).all()


def test_a_line_of_points_by_hand() -> None:
    objectives = np.array([[0, 4], [1, 2], [2, 1], [4, 0], [4, 4], [2, 2]], np.float64)
    none = np.zeros(6)
    assert fronts(objectives, none) == [[0, 1, 2, 3], [5], [4]]
    assert crowding(objectives[:4]).tolist() == [np.inf, 2 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
    assert survivors(objectives, none, 5) == [0, 3, 1, 2, 5]
    assert survivors(objectives, none, 99) == [0, 3, 1, 2, 5, 4]
    assert survivors(objectives, np.array([1.0, 0, 0, 0, 0, 0]), 4) == [1, 3, 2, 5]


def test_what_stands_alone_survives_what_is_crowded() -> None:
    objectives = np.array([[0, 10], [4.9, 5.1], [5, 5], [5.1, 4.9], [8, 1], [10, 0]], np.float64)
    kept = survivors(objectives, np.zeros(6), 4)
    assert {0, 5, 4} < set(kept)
    assert 2 not in kept


def test_equal_points_and_few_points_have_room_without_division_by_zero() -> None:
    assert np.isinf(crowding(np.ones((1, 3)))).all()
    assert crowding(np.ones((4, 2))).tolist() == [np.inf, 0, 0, np.inf]
    assert by_room(np.ones((4, 2)), [0, 1, 2, 3]) == [0, 3, 1, 2]
