"""What the door never shows: the pure functions alone, and bytes drawn at random behind valid seals."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from builders import GENESIS_TIME, POOL_SIZE, Builder, describe, make_spec, make_validator, outcome, transfer
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain.consensus import transition
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import CODES, Invalid
from bnnchain.consensus.lottery import lottery_value
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import Block, BlockKind

NOW = GENESIS_TIME + 10**6


def evolving(blocks: int = 4, **params: int) -> Builder:
    builder = Builder(genesis_state(make_spec(**params)))
    builder.extend(blocks)
    return builder


def checked_block(builder: Builder) -> transition.CheckedBlock:
    raw = encode_block(builder.next())
    block = decode_block(raw)
    header = transition.check_header(builder.state, block.header, NOW)
    return transition.check_body(builder.state, header, block, len(raw))


@pytest.mark.parametrize("counts", [None, 0, POOL_SIZE])
def test_accept_trusts_no_caller_with_the_claim(counts: int | None) -> None:
    builder = evolving()
    checked = checked_block(builder)
    with pytest.raises(Invalid, match="bad-claim"):
        transition.accept(builder.state, checked, None if counts is None else transition.Counts(counts, None, (), 0))


def test_accept_compares_founders_where_predictions_are_given() -> None:
    builder = evolving(1)
    checked = checked_block(builder)
    same = np.zeros(POOL_SIZE, np.uint8)
    counts = transition.Counts(checked.block.header.correct_new, same, [same], 0)
    with pytest.raises(Invalid, match="bad-family-diff"):
        transition.accept(builder.state, checked, counts)


def test_judging_leaves_the_old_state_alone() -> None:
    builder = evolving()
    state = builder.state
    before = (state.head, state.height, state.families, state.coinbases, state.supply, dict(state.ledger))
    first, second = (builder.after(state, builder.next(transactions=[transfer()])) for _ in range(2))
    assert (state.head, state.height, state.families, state.coinbases, state.supply, dict(state.ledger)) == before
    assert first.families[0] is not state.families[0]
    assert first.head != second.head


def test_replay_without_inference_gives_the_judged_state() -> None:
    builder = Builder(genesis_state(make_spec()))
    validator = make_validator()
    replayed = builder.state
    for number in range(12):
        kind = BlockKind.IDLE if number % 5 == 4 else None
        raw = builder.extend(kind=kind, transactions=[transfer(nonce=number)])[0]
        replayed = validator.replay(replayed, raw)
        assert describe(replayed) == describe(builder.state)


def test_the_ticket_of_a_founder_is_played_on_the_specs_model_and_of_a_child_on_its_parent() -> None:
    builder = evolving(2)
    state = builder.state
    params = state.spec.params_at(3)
    found = replace(builder.idle().header, kind=BlockKind.FOUND)
    assert transition.lottery_task(state, found, params).base is state.spec.model
    assert transition.lottery_task(state, builder.idle().header, params).base is state.spec.model
    evolve = builder.next().header
    assert transition.lottery_task(state, evolve, params).base is state.families[0].best.model


def test_a_block_is_judged_as_a_child_of_its_own_parent_alone() -> None:
    builder = evolving(2)
    with pytest.raises(Invalid, match="bad-parent"):
        builder.after(builder.state, builder.idle(previous_hash=builder.state.families[0].founders[0].block_id))


def test_check_lottery_compares_the_whole_value() -> None:
    builder = evolving(0)
    block = builder.idle()
    checked = transition.check_header(builder.state, block.header, NOW)
    logits = np.zeros((64, 4), np.int32)
    y = lottery_value(checked.task.seed, logits)
    transition.check_lottery(replace(checked, header=replace(block.header, y=y)), logits)
    with pytest.raises(Invalid, match="bad-lottery-value"):
        transition.check_lottery(replace(checked, header=replace(block.header, y=y)), logits + 1)


@lru_cache
def ready(blocks: int) -> tuple[Builder, Block]:
    """Return a builder on a chain of ``blocks``, with its next block, the same at every call."""
    builder = evolving(blocks)
    return builder, builder.next(transactions=[transfer()])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([1, 6]), st.data())
def test_a_sealed_block_with_random_changes_is_judged_and_never_breaks_the_judge(
    blocks: int, data: st.DataObject
) -> None:
    """What an attacker with a key can send: any body and any fields under a right y and signature."""
    builder, block = ready(blocks)
    fields = {
        "height": st.integers(0, (1 << 64) - 1),
        "timestamp": st.integers(0, (1 << 64) - 1)
        | st.integers(block.header.timestamp - 9, block.header.timestamp + 99),
        "kind": st.sampled_from(BlockKind),
        "family_id": st.integers(0, 2) | st.just((1 << 32) - 1),
        "generation": st.integers(0, 9),
        "model_count": st.integers(0, 9),
        "correct_new": st.integers(0, (1 << 32) - 1),
        "eval_total": st.integers(0, (1 << 32) - 1),
        "nonce": st.integers(0, (1 << 64) - 1),
    }
    names = data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True))
    changes = {name: data.draw(fields[name]) for name in names}
    model = bytearray(block.model)
    for _ in range(data.draw(st.integers(0, 3))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    result = outcome(lambda: builder.after(builder.state, builder.seal(block, model=bytes(model), **changes)))
    assert isinstance(result, ChainState) or result in CODES


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_block_changed_in_transit_is_refused(data: st.DataObject) -> None:
    """Nothing is sealed again: whatever bits a relay changes, the block is another's work no longer."""
    builder, block = ready(6)
    raw = bytearray(encode_block(block))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    verdict = outcome(lambda: builder.after(builder.state, bytes(raw)))
    assert verdict in CODES
