"""No neuron reuse across families (paper section 4.1): which rows count, how many may, and who is stopped by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Builder, founder, make_params, make_spec, outcome, random_model
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.bnn.distance import near_rows
from bnnchain.bnn.encoding import apply_flips, flip_positions
from bnnchain.consensus.election import Place
from bnnchain.consensus.learning import MAX_COMPARED_FAMILIES, validate_rows
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.transition import other_models
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.model import Architecture, Dense, Model, pack_rows, unpack_rows

K = 64
WIDE = Architecture(6, 6, 1, (Dense(K), Dense(20), Dense(4)))
"""36 inputs are too few to compare; 20 rows of 64 weights, of which 5 % are one; 4 rows of 20 are not compared."""
OTHER = Architecture(6, 6, 1, (Dense(K), Dense(9), Dense(4)))
PARAMS = make_params()


def with_rows(model: Model, rows: dict[int, np.ndarray]) -> Model:
    """Return the model with rows of its second layer replaced by ``bool[64]``."""
    bits = unpack_rows(model.weights[1], K).copy()
    for number, row in rows.items():
        bits[number] = row
    return replace(model, weights=(model.weights[0], pack_rows(bits), model.weights[2]))


def rows_of(model: Model) -> np.ndarray:
    return unpack_rows(model.weights[1], K)


def flipped(row: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    changed = row.copy()
    positions = np.random.default_rng(seed).choice(len(row), count, replace=False)
    changed[positions] = ~changed[positions]
    return changed


MODEL, THEIRS = random_model(WIDE, 1), random_model(OTHER, 2)


@pytest.mark.parametrize(
    ("distance", "is_near"),
    [(0, True), (1, True), (8, True), (9, False), (32, False), (55, False), (56, True), (64, True)],
)
def test_a_row_is_near_within_an_eighth_of_it_or_of_its_negation(distance: int, is_near: bool) -> None:
    row = rows_of(THEIRS)[4]
    model = with_rows(MODEL, {7: flipped(row, distance)})
    assert near_rows(model, [THEIRS], 64) == (int(is_near), 20)


def test_rows_of_another_length_and_short_rows_are_not_compared() -> None:
    narrow = random_model(Architecture(6, 6, 1, (Dense(63), Dense(4))), 3)
    assert near_rows(narrow, [narrow], 64) == (0, 0)
    longer = random_model(Architecture(6, 6, 1, (Dense(65), Dense(4))), 3)
    assert near_rows(longer, [MODEL, THEIRS], 64) == (0, 4)
    assert near_rows(longer, [longer], 64) == (4, 4)
    assert near_rows(MODEL, [], 64) == (0, 20)


def test_rows_are_compared_across_layers_and_models() -> None:
    deep = random_model(Architecture(6, 6, 1, (Dense(K), Dense(K), Dense(4))), 5)
    model = with_rows(MODEL, {0: unpack_rows(deep.weights[2], K)[1], 1: rows_of(THEIRS)[0]})
    assert near_rows(model, [THEIRS, deep], 64) == (2, 20)


@given(st.integers(0, 10**6), st.integers(0, 64))
def test_near_rows_is_what_a_plain_loop_says(seed: int, distance: int) -> None:
    model = with_rows(random_model(WIDE, seed), {3: flipped(rows_of(THEIRS)[2], distance, seed)})
    expected = sum(
        any(min(int((mine != theirs).sum()), K - int((mine != theirs).sum())) <= 8 for theirs in rows_of(THEIRS))
        for mine in rows_of(model)
    )
    assert near_rows(model, [THEIRS], 64) == (expected, 20)


def test_exactly_five_percent_may_be_shared() -> None:
    one = with_rows(MODEL, {0: rows_of(THEIRS)[0]})
    two = with_rows(one, {1: ~rows_of(THEIRS)[1]})
    validate_rows(one, [THEIRS], PARAMS)
    assert outcome(lambda: validate_rows(two, [THEIRS], PARAMS)) == "bad-row-reuse"
    assert outcome(lambda: validate_rows(one, [THEIRS], replace(PARAMS, max_shared_rows_bp=499))) == "bad-row-reuse"
    validate_rows(two, [THEIRS], replace(PARAMS, max_shared_rows_bp=1_000))


def test_a_family_is_not_stopped_by_another_that_copies_it() -> None:
    """The copier may have as many rows as five percent of its own are; the one copied goes on, but takes no more."""
    thief = with_rows(THEIRS, {number: rows_of(MODEL)[number] for number in range(3)})
    assert near_rows(MODEL, [thief], 64) == (3, 20)
    child = apply_flips(MODEL, np.array([1, 2, 3], np.int64))
    assert outcome(lambda: validate_rows(child, [thief], PARAMS)) == "bad-row-reuse", "as a founder"
    validate_rows(child, [thief], PARAMS, parent=MODEL)
    more = with_rows(child, {9: rows_of(thief)[8]})
    assert outcome(lambda: validate_rows(more, [thief], PARAMS, parent=MODEL)) == "bad-row-reuse"
    swapped = with_rows(more, {0: rows_of(random_model(WIDE, 9))[0]})
    validate_rows(swapped, [thief], PARAMS, parent=MODEL)


def test_the_latest_models_of_all_other_families_are_compared() -> None:
    builder = Builder(genesis_state(make_spec(min_families=3, min_population=1)))
    for _ in range(3):
        builder.extend()
    state = builder.state
    latest = [family.latest.model for family in state.families]
    new = Place(BlockKind.FOUND, state.families[0].dataset_id, 3, None)
    assert other_models(state, new) == latest
    second = Place(BlockKind.EVOLVE, state.families[0].dataset_id, 1, state.families[1])
    assert other_models(state, second) == [latest[0], latest[2]]
    many = replace(state, families=tuple(replace(state.families[0], family_id=n) for n in range(300)))
    assert len(other_models(many, new)) == MAX_COMPARED_FAMILIES == 256


def test_an_evolved_child_may_not_take_a_neuron_over() -> None:
    spec = make_spec(min_families=2, min_population=1, min_family_acc_bp=1_000, skip_s=1)
    builder = Builder(genesis_state(spec))
    builder.take(builder.found(builder.place(), founder(OTHER, 2)))
    builder.take(builder.found(builder.place(), founder(WIDE, 3)))
    place = next(place for place in (builder.place(0), builder.place(1)) if place.family_id == 1)
    assert place.family is not None
    parent, theirs = place.family.best.model, builder.state.families[0].latest.model
    thief = with_rows(parent, {0: rows_of(theirs)[0], 1: rows_of(theirs)[1]})
    assert len(flip_positions(parent, thief)) >= 20
    late = builder.state.timestamp + 9
    block = builder.evolve(place, thief, correct_new=700, timestamp=late)
    assert outcome(lambda: builder.after(builder.state, block)) == "bad-row-reuse"
    one = with_rows(parent, {0: rows_of(theirs)[0]})
    good = builder.evolve(place, one, correct_new=700, timestamp=late)
    assert outcome(lambda: builder.after(builder.state, good)) == "bad-claim", "as far as the rows go it is fine"
