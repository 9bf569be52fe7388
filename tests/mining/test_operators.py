"""Operators keep to their percentages, draw everything from their generator, and moves change what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnnchain.bnn.encoding import flat_weights, flip_positions
from bnnchain.mining.operators import (
    FEW_FLIPS_MOVES,
    LARGE_MOVES,
    Crossover,
    FewFlips,
    Move,
    Mutation,
    Operator,
    Situation,
    apply_move,
    recombine,
)
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Model, build_model

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = Architecture(8, 8, 1, (Conv3x3(10, pool=True), Dense(20), Dense(10)))
ENDS = np.cumsum([layer.weight_count for layer in SHAPE.geometry])


def random_model(seed: int) -> Model:
    rng = np.random.default_rng(seed)
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in SHAPE.geometry]
    return build_model(SHAPE, weights, [[0] * 10, [20] * 20], [0] * 10)


BASE = random_model(0)
WEIGHTS = flat_weights(BASE)


def situation(*mates: np.ndarray, eligible: np.ndarray | None = None) -> Situation:
    return Situation(BASE, WEIGHTS, mates, np.arange(SHAPE.weight_count) if eligible is None else eligible)


@pytest.mark.parametrize(
    "operator", [FewFlips(), Mutation(10, 0.05), Crossover(10)], ids=lambda operator: operator.name
)
def test_same_generator_same_moves(operator: Operator) -> None:
    looked_at = situation(~WEIGHTS)
    runs = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        runs.append(operator.propose(looked_at, rng))
    first, second, other = ([(move.flips.tolist(), move.steps) for move in run] for run in runs)
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    "operator", [FewFlips(), Mutation(10, 0.05), Crossover(10)], ids=lambda operator: operator.name
)
def test_flips_are_increasing_and_applied_exactly(operator: Operator) -> None:
    rng = np.random.default_rng(3)
    for move in operator.propose(situation(~WEIGHTS), rng):
        assert np.all(np.diff(move.flips) > 0)
        np.testing.assert_array_equal(flip_positions(BASE, apply_move(BASE, move)), move.flips)


def test_few_flips_are_few_and_reach_everything() -> None:
    rng = np.random.default_rng(4)
    eligible = np.array([3, 50, 700])
    moves = [move for _ in range(6) for move in FewFlips().propose(situation(eligible=eligible), rng)]
    assert len(moves) == 6 * FEW_FLIPS_MOVES
    assert {len(move.flips) for move in moves} == {1, 2, 3}
    assert set(np.concatenate([move.flips for move in moves])) == {3, 50, 700}
    steps = [move.steps[0] for move in moves if move.steps]
    assert 384 < len(steps) < 538
    assert {step for _, step in steps} == {-1, 1}
    assert {position for position, _ in steps} == set(range(30))


def test_few_flips_with_nothing_eligible_flips_nothing() -> None:
    moves = FewFlips().propose(situation(eligible=np.zeros(0, np.int64)), np.random.default_rng(0))
    assert all(len(move.flips) == 0 for move in moves)


@pytest.mark.parametrize("percent", [0, 5, 10, 100])
def test_mutation_touches_its_share(percent: float) -> None:
    rng = np.random.default_rng(5)
    sure = Mutation(percent, 1.0).propose(situation(), rng)
    assert len(sure) == LARGE_MOVES
    assert {len(move.flips) for move in sure} == {round(SHAPE.weight_count * percent / 100)}
    flips = [len(move.flips) for _ in range(12) for move in Mutation(percent, 0.05).propose(situation(), rng)]
    assert np.mean(flips) == pytest.approx(SHAPE.weight_count * percent / 100 * 0.05, rel=0.15, abs=1e-9)
    assert all(not move.steps for move in sure)


@pytest.mark.parametrize("percent", [0, 10, 35, 100])
def test_crossover_takes_its_share_of_every_layer(percent: float) -> None:
    mate = ~WEIGHTS  # differs everywhere
    move = Crossover(percent).propose(situation(mate), np.random.default_rng(6))[0]
    counts = np.bincount(np.searchsorted(ENDS, move.flips, side="right"), minlength=len(ENDS))
    assert counts.tolist() == [round(layer.weight_count * percent / 100) for layer in SHAPE.geometry]


def test_crossover_copies_the_mate_and_nothing_else() -> None:
    mate = flat_weights(random_model(1))
    move = Crossover(30).propose(situation(mate), np.random.default_rng(7))[0]
    child = flat_weights(apply_move(BASE, move))
    assert len(move.flips) > 0
    np.testing.assert_array_equal(child[move.flips], mate[move.flips])
    untouched = np.delete(np.arange(len(child)), move.flips)
    np.testing.assert_array_equal(child[untouched], WEIGHTS[untouched])


def test_crossover_chooses_among_all_mates_and_does_nothing_alone() -> None:
    ones, zeros = np.ones_like(WEIGHTS), np.zeros_like(WEIGHTS)
    rng = np.random.default_rng(8)
    moves = Crossover(10).propose(situation(ones, zeros), rng)
    assert {bool(WEIGHTS[move.flips[0]]) for move in moves} == {True, False}
    assert Crossover(10).propose(situation(), rng) == []
    assert all(len(move.flips) == 0 for move in Crossover(10).propose(situation(WEIGHTS), rng))


def test_threshold_steps_move_one_threshold_and_stop_at_the_ends() -> None:
    none = np.zeros(0, np.int64)
    child = apply_move(BASE, Move(none, ((12, -1),)))
    assert child.thresholds[1].tolist() == [20, 20, 19, *[20] * 17]
    assert child.thresholds[0].tolist() == [0] * 10
    assert apply_move(BASE, Move(none, ((9, -1),))).thresholds[0][9] == 0
    full = build_model(
        SHAPE, [np.zeros((g.out_channels, g.fan_in), bool) for g in SHAPE.geometry], [[10] * 10, [91] * 20], [0] * 10
    )
    assert apply_move(full, Move(none, ((0, 1),))).thresholds[0][0] == 10
    assert BASE.thresholds[1][2] == 20


def test_recombined_moves_hold_the_first_two_three_and_so_on() -> None:
    moves = [
        Move(np.array([3, 9]), ((1, 1),)),
        Move(np.array([4, 9]), ((1, 1), (2, -1))),
        Move(np.array([0]), ((2, 1),)),
    ]
    both, three = recombine(moves)
    assert (both.flips.tolist(), both.steps) == ([3, 4, 9], ((1, 2), (2, -1)))
    assert (three.flips.tolist(), three.steps) == ([0, 3, 4, 9], ((1, 2),))
    assert recombine(moves[:1]) == []


@pytest.mark.parametrize(
    "build",
    [
        lambda: Mutation(-1, 0.5),
        lambda: Mutation(101, 0.5),
        lambda: Mutation(10, -0.1),
        lambda: Mutation(10, 1.1),
        lambda: Mutation(float("nan"), 0.5),
        lambda: Crossover(100.5),
        lambda: Crossover(-0.5),
    ],
)
def test_shares_out_of_range_are_refused(build: Callable[[], Operator]) -> None:
    with pytest.raises(Invalid) as refusal:
        build()
    assert refusal.value.code == "bad-search"
