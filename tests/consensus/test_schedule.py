"""Constants that change at stated heights of a chain: the paper's "updated throughout the blockchain's lifecycle"."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import GENESIS_TIME, Builder, make_params, make_spec, outcome, transfer
from hypothesis import given
from hypothesis import strategies as st
from uploads import IDLE, entry, mined, upload

from bnnchain.consensus import transition
from bnnchain.consensus.difficulty import next_target
from bnnchain.consensus.params import params_hash
from bnnchain.consensus.state import DatasetStatus, genesis_state
from bnnchain.consensus.types import BlockKind


def scheduled(height: int, then: dict[str, int], **first: int) -> Builder:
    return Builder(genesis_state(make_spec((height, make_params(**{**first, **then})), **first)))


def test_new_parameters_judge_from_their_height_on() -> None:
    builder = scheduled(3, {"max_block_transactions": 1, "subsidy": 9})
    both = [transfer(), transfer(nonce=1)]
    old, new = (builder.state.spec.params_at(height) for height in (2, 3))
    builder.extend(2)
    assert outcome(lambda: builder.take(builder.idle(transactions=both))) == "bad-tx-count"
    assert outcome(lambda: builder.take(builder.idle(params_hash=params_hash(old)))) == "bad-params"
    supply = builder.state.supply
    builder.extend()
    assert builder.state.supply == supply + 9
    assert new.subsidy == 9


def test_the_demanded_gain_changes_on_a_family_that_evolves() -> None:
    builder = scheduled(4, {"min_population_acc_bp": 5_000})
    builder.extend(3)
    weak = builder.evolve(builder.place(), replace_child(builder))
    assert outcome(lambda: builder.take(weak)) == "bad-gain"


def replace_child(builder: Builder) -> object:
    easy = replace(builder.state, spec=make_spec())
    return Builder(easy).child(builder.place(), on=easy)


def test_a_larger_population_makes_an_evolved_family_found_again() -> None:
    builder = scheduled(5, {"min_population": 3})
    builder.extend(4)
    assert builder.place().kind == BlockKind.FOUND
    builder.extend()
    assert len(builder.state.families[0].founders) == 3
    assert builder.place().kind == BlockKind.EVOLVE


@pytest.mark.parametrize(("window", "least", "blocks"), [(2, 2, 1), (8, 6, 5)])
def test_the_window_may_change_while_a_data_set_waits(window: int, least: int, blocks: int) -> None:
    """Started with 2 of 3: from height 3 on with another; what is remembered counts."""
    then = {"availability_window": window, "availability_least": least, "pending_blocks": 99}
    builder = scheduled(3, then, pending_blocks=99)
    builder.extend(kind=IDLE, transactions=[upload()])
    builder.extend(kind=IDLE, proofs=builder.proofs(0))
    for _ in range(blocks):
        assert entry(builder.state).status == DatasetStatus.PENDING
        builder.extend(kind=IDLE, proofs=builder.proofs(0))
    assert entry(builder.state).is_active


def test_rewards_that_wait_keep_their_height_when_maturity_changes() -> None:
    builder = scheduled(3, {"coinbase_maturity_blocks": 1}, coinbase_maturity_blocks=6)
    builder.extend(4, kind=IDLE)
    assert [coinbase.mature_height for coinbase in builder.state.coinbases] == [7, 8]


def test_a_deposit_given_is_the_deposit_that_comes_back() -> None:
    builder = scheduled(3, {"upload_deposit": 9, "pending_blocks": 3, "availability_least": 3})
    builder.extend(kind=IDLE, transactions=[upload()])
    supply = builder.state.supply
    builder.extend(3, kind=IDLE)
    assert entry(builder.state).is_closed
    assert builder.state.supply == supply + 3 * 1_250 - 1_000


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_claimed_waits_add_up_to_real_time(pauses: list[int]) -> None:
    """As time never falls, dating a block ahead takes away from the next one what it gave itself."""
    state = genesis_state(make_spec())
    waits = []
    for pause in pauses:
        stamp = state.timestamp + pause
        waits.append(transition.elapsed(state, stamp))
        state = replace(state, timestamp=stamp)
    assert sum(waits) == state.timestamp - GENESIS_TIME


def test_a_block_in_no_time_leaves_the_target_lower_than_one_on_time() -> None:
    targets = []
    for pause in (0, 60, 120):
        builder = Builder(genesis_state(make_spec(is_lottery_open=0, initial_target=1 << 253)))
        mined(builder, timestamp=GENESIS_TIME + pause)
        targets.append(next_target(builder.state, builder.state.spec.params_at(2)))
    assert targets == sorted(set(targets))
    assert targets[1] == 1 << 253
