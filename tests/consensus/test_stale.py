"""Stale headers: what they pay, how long they are worth something, and that they pay once."""

from __future__ import annotations

import pytest
from builders import (
    ALICE,
    BOB,
    COINS,
    Builder,
    family_shape,
    make_params,
    make_spec,
    outcome,
    private_key,
    random_model,
)
from uploads import IDLE, INTERVAL_S, loser, mined

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.header import block_id
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import MAX_TARGET, BlockKind

CLOSED = {"is_lottery_open": 0}


def closed_chain(**params: int) -> Builder:
    return Builder(genesis_state(make_spec(**{**CLOSED, **params})))


def including(builder: Builder, header: object) -> str | ChainState:
    """Return the state after a block that carries ``header``, or the code of its refusal."""
    block = builder.mine(builder.idle(stale=header, timestamp=builder.state.timestamp + INTERVAL_S))
    return outcome(lambda: builder.after(builder.state, block))


def test_who_includes_a_stale_header_is_paid_a_share_of_the_subsidy() -> None:
    builder = closed_chain(coinbase_maturity_blocks=1)
    parent = builder.state
    mined(builder)
    header = loser(parent)
    before = builder.state
    mined(builder, key=BOB, stale=header)
    assert builder.state.supply == before.supply + 1_250 + 5_000 // 32
    account = builder.state.ledger.account(public_key(BOB))
    assert account.balance == COINS + 1_250 + 156
    assert builder.state.included_stale == ((2, block_id(header)),)


def test_the_full_share_is_paid_beside_a_model_too() -> None:
    builder = closed_chain()
    parent = builder.state
    mined(builder)
    before = builder.state
    block = builder.next(stale=loser(parent), timestamp=builder.state.timestamp + INTERVAL_S)
    builder.take(builder.mine(block))
    assert builder.state.supply == before.supply + 5_000 + 156


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_a_header_is_worth_something_for_so_many_blocks(depth: int) -> None:
    builder = closed_chain(stale_depth=depth)
    parent = builder.state
    mined(builder)
    header = loser(parent)
    for _ in range(depth):
        assert isinstance(including(builder, header), ChainState)
        mined(builder)
    assert including(builder, header) == "bad-stale"


def test_a_header_pays_once_as_long_as_it_could_pay_at_all() -> None:
    builder = closed_chain(stale_depth=3)
    parent = builder.state
    mined(builder)
    headers = [loser(parent, key) for key in (ALICE, BOB)]
    mined(builder, stale=headers[0])
    assert including(builder, headers[0]) == "bad-stale"
    assert isinstance(including(builder, headers[1]), ChainState)
    mined(builder, stale=headers[1])
    for _ in range(4):
        assert [including(builder, header) for header in headers] == ["bad-stale"] * 2
        mined(builder)
    assert builder.state.included_stale == ()


@pytest.mark.parametrize(("first", "second"), [(2, 6), (6, 2)])
def test_a_header_pays_once_though_the_depth_changes(first: int, second: int) -> None:
    spec = make_spec((5, make_params(**CLOSED, stale_depth=second)), **CLOSED, stale_depth=first)
    for height in range(1, 7):
        builder = Builder(genesis_state(spec))
        parent = builder.state
        mined(builder)
        mined(builder, height - 1)
        header = loser(parent) if height <= 2 else loser(builder.state.ancestors[-1])
        if not isinstance(including(builder, header), ChainState):
            continue
        mined(builder, stale=header)
        for _ in range(8):
            assert including(builder, header) == "bad-stale"
            mined(builder)


def test_a_state_remembers_the_last_states_without_theirs() -> None:
    builder = closed_chain(stale_depth=4)
    heads = [builder.state.head]
    for _ in range(9):
        mined(builder)
        heads.append(builder.state.head)
    assert [ancestor.head for ancestor in builder.state.ancestors] == heads[-5:-1]
    assert all(ancestor.ancestors == () for ancestor in builder.state.ancestors)
    forgetful = closed_chain(stale_depth=0)
    mined(forgetful, 3)
    assert forgetful.state.ancestors == ()


def test_a_model_that_lost_its_race_is_a_stale_header_too() -> None:
    """Its ticket is played on its own parent's state: there the elected model was another."""
    builder = closed_chain()
    for _ in range(2):
        builder.take(builder.mine(builder.next(timestamp=builder.state.timestamp + INTERVAL_S)))
    rival = Builder(builder.state, key=ALICE, seed=4)
    lost = rival.mine(rival.next(timestamp=rival.state.timestamp + INTERVAL_S)).header
    builder.take(builder.mine(builder.next(timestamp=builder.state.timestamp + INTERVAL_S)))
    assert lost.kind == BlockKind.EVOLVE
    assert isinstance(including(builder, lost), ChainState)


def test_a_stale_headers_body_is_nobodys_business() -> None:
    """Only its work counts: a founder that was never shown is as much of a ticket as an IDLE block."""
    builder = closed_chain()
    rival = Builder(builder.state, key=ALICE)
    place, on_time = rival.place(), rival.state.timestamp + INTERVAL_S
    lost = rival.mine(rival.found(place, random_model(family_shape(9), 3), correct_new=700, timestamp=on_time)).header
    mined(builder)
    assert isinstance(including(builder, lost), ChainState)


def test_reporting_and_including_the_same_loser_are_two_different_things() -> None:
    """A miner that sealed both the winner and the loser may lose its reward; the ticket was drawn all the same."""
    builder = closed_chain(coinbase_maturity_blocks=9)
    parent = builder.state
    mined(builder, key=private_key(1))
    own = loser(parent, private_key(1), timestamp=parent.timestamp + INTERVAL_S + 1)
    assert isinstance(including(builder, own), ChainState)


def test_where_the_lottery_is_open_no_header_is_worth_anything() -> None:
    builder = Builder(genesis_state(make_spec()))
    parent = builder.state
    builder.extend(2, kind=IDLE)
    header = Builder(parent, key=ALICE).idle().header
    assert outcome(lambda: builder.after(builder.state, builder.idle(stale=header))) == "bad-stale"
    assert header.target == MAX_TARGET


def test_a_block_with_a_stale_header_is_replayed_without_inference() -> None:
    builder = closed_chain()
    parent = builder.state
    mined(builder)
    state = builder.state
    block = builder.mine(builder.idle(stale=loser(parent), timestamp=state.timestamp + INTERVAL_S))
    judged = builder.after(state, block)
    replayed = builder._validator.replay(state, encode_block(block))
    assert (replayed.head, replayed.supply, replayed.included_stale) == (
        judged.head,
        judged.supply,
        judged.included_stale,
    )
