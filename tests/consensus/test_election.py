from __future__ import annotations

from dataclasses import replace

import pytest
from builders import ALICE, Builder, make_params, make_spec
from builders import made_up_family as family
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.consensus.election import election_order, is_open, join_offset, open_places, round_key
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, DatasetState, FamilyState, genesis_state, own_dataset
from bnnchain.consensus.types import BlockKind, DatasetId, Height

FOUND, EVOLVE = BlockKind.FOUND, BlockKind.EVOLVE
SECOND_DATASET = DatasetId(b"\2" * 32)


def genesis(**params: int) -> ChainState:
    return genesis_state(make_spec(**params))


def second_dataset(state: ChainState, **fields: object) -> DatasetState:
    """Return the state of an uploaded data set that is active."""
    return replace(own_dataset(state.spec.dataset), uploader=public_key(ALICE), added_height=Height(3), **fields)


def with_families(state: ChainState, *families: FamilyState, height: int = 0) -> ChainState:
    return replace(state, families=families, height=Height(height))


def places(state: ChainState, **params: int) -> list[tuple[BlockKind, int]]:
    return [(place.kind, place.family_id) for place in election_order(state, make_params(**params))]


def test_an_empty_chain_wants_its_first_family() -> None:
    assert places(genesis()) == [(FOUND, 0)]


def test_a_family_founds_until_its_population_is_complete_and_evolves_then() -> None:
    state = genesis()
    for founders, kind in ((1, FOUND), (2, FOUND), (3, EVOLVE), (4, EVOLVE)):
        grown = with_families(state, family(state, 0, founders=founders))
        assert places(grown, min_population=3) == [(kind, 0)]


def test_a_data_set_below_min_families_comes_first() -> None:
    state = genesis()
    one = with_families(state, family(state, 0, models=9))
    assert places(one, min_families=1) == [(EVOLVE, 0)]
    assert places(one, min_families=2) == [(FOUND, 1), (EVOLVE, 0)]


def test_the_papers_example_counters_5_5_and_1_tie_and_become_6_6_and_2() -> None:
    """Paper section 4.4: a newcomer's counter of 1 ranks as the round in which it joined."""
    params = make_params(min_families=3)
    state = genesis()
    state = with_families(state, family(state, 0, models=5), family(state, 1, models=5))
    assert join_offset(state, params) == -4
    newcomer = family(state, 2, models=1, offset=join_offset(state, params))
    state = with_families(state, *state.families, newcomer)
    assert [round_key(each) for each in state.families] == [5, 5, 5]
    counters = [[each.model_count for each in state.families]]
    for _ in range(6):
        place = election_order(state, params)[0]
        families = list(state.families)
        families[place.family_id] = replace(place.family, model_count=place.family.model_count + 1)
        state = with_families(state, *families)
        counters.append([each.model_count for each in families])
    assert counters == [[5, 5, 1], [6, 5, 1], [6, 6, 1], [6, 6, 2], [7, 6, 2], [7, 7, 2], [7, 7, 3]]


def test_the_first_family_of_a_chain_has_no_offset() -> None:
    assert join_offset(genesis(), make_params()) == 0


def test_the_round_is_the_least_key_of_the_open_families_alone() -> None:
    state = genesis()
    closed = family(state, 0, models=3, generation=64)
    late = family(state, 1, models=9, offset=2)
    later = family(state, 2, models=9, offset=1)
    assert join_offset(with_families(state, closed, late, later), make_params()) == 1 - 7


def test_a_family_closes_at_its_last_generation() -> None:
    state = genesis()
    params = make_params(max_family_generations=3)
    for generation, opened in ((2, True), (3, False), (4, False)):
        grown = with_families(state, family(state, 0, generation=generation))
        assert is_open(grown.families[0], grown, params) is opened
    assert places(grown, max_family_generations=3) == [(FOUND, 1)]


def test_a_family_closes_when_its_patience_has_passed() -> None:
    state = genesis()
    params = make_params(family_patience=5)
    for height, opened in ((10, True), (14, True), (15, False), (99, False)):
        grown = with_families(state, family(state, 0, last_height=10), height=height)
        assert is_open(grown.families[0], grown, params) is opened


def test_data_sets_with_fewer_families_go_first_then_older_ones() -> None:
    state = genesis()
    first = next(iter(state.datasets))
    both = {first: state.datasets[first], SECOND_DATASET: second_dataset(state)}
    state = replace(state, datasets=both)
    orders = []
    for families in ((), (first,), (first, SECOND_DATASET), (first, *[SECOND_DATASET] * 3)):
        members = [family(state, index, dataset_id=dataset_id) for index, dataset_id in enumerate(families)]
        order = election_order(with_families(state, *members), make_params(min_families=3))
        orders.append([place.dataset_id == first for place in order if place.family is None])
    assert orders == [[True, False], [False, True], [True, False], [True]]


def test_equal_keys_go_by_age_of_data_set_then_family() -> None:
    state = genesis()
    first = next(iter(state.datasets))
    state = replace(state, datasets={**state.datasets, SECOND_DATASET: second_dataset(state)})
    state = with_families(
        state, family(state, 0, dataset_id=SECOND_DATASET), family(state, 1), family(state, 2, dataset_id=first)
    )
    assert [family_id for _, family_id in places(state)] == [1, 2, 0]


@pytest.mark.parametrize(("elapsed_s", "count"), [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (10**6, 4)])
def test_another_place_opens_each_skip_s(elapsed_s: int, count: int) -> None:
    state = genesis()
    state = with_families(state, *(family(state, index) for index in range(3)))
    params = make_params(skip_s=5, min_families=4)
    assert open_places(state, elapsed_s, params) == election_order(state, params)[:count]


def test_places_can_be_filled_out_of_order_once_they_are_open() -> None:
    builder = Builder(genesis_state(make_spec(min_families=2)))
    builder.extend()
    assert places(builder.state, min_families=2) == [(FOUND, 1), (FOUND, 0)]
    late = builder.state.timestamp + 5
    builder.extend(1, index=1, timestamp=late)
    assert [each.model_count for each in builder.state.families] == [2]


families_drawn = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 4), st.integers(0, 4), st.integers(0, 12)), max_size=6
)


@given(families_drawn, st.integers(1, 4), st.integers(1, 4), st.integers(0, 12))
def test_the_order_is_complete_and_sorted(
    drawn: list[tuple[int, int, int, int]], min_families: int, min_population: int, height: int
) -> None:
    params = make_params(
        min_families=min_families, min_population=min_population, max_family_generations=4, family_patience=8
    )
    state = genesis()
    members = [
        family(state, index, models=models, founders=founders, generation=generation, last_height=last)
        for index, (models, founders, generation, last) in enumerate(drawn)
    ]
    state = with_families(state, *members, height=height)
    order = election_order(state, params)
    opened = [each.family_id for each in members if is_open(each, state, params)]
    assert sorted(place.family_id for place in order if place.family) == opened
    assert [place.family_id for place in order if not place.family] == [len(members)] * (len(opened) < min_families)
    assert order, "some place can always be filled"
    keys = [(round_key(place.family), place.family_id) for place in order if place.family]
    assert keys == sorted(keys)
    for place in order:
        complete = place.family is not None and len(place.family.founders) >= min_population
        assert place.kind == (EVOLVE if complete else FOUND)
    assert len({(place.kind, place.dataset_id, place.family_id) for place in order}) == len(order)


@given(st.integers(1, 3), st.integers(0, 40))
def test_turns_are_fair(family_count: int, blocks: int) -> None:
    """After any number of elected blocks no open family is more than one model ahead of another."""
    state = genesis()
    state = with_families(state, *(family(state, index) for index in range(family_count)))
    for _ in range(blocks):
        chosen = election_order(state, make_params(min_families=1))[0].family
        members = list(state.families)
        members[chosen.family_id] = replace(chosen, model_count=chosen.model_count + 1)
        state = with_families(state, *members)
    counts = [each.model_count for each in state.families]
    assert max(counts) - min(counts) <= 1
