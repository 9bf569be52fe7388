"""One block per rule that breaks this rule alone, refused at the one door with the rule's own code."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import (
    BOB,
    CAROL,
    CLASSES,
    GENESIS_TIME,
    SIDE,
    Builder,
    Clock,
    founder,
    make_spec,
    open_chain,
    transfer,
)
from refusals import FOUNDED, Refusal, all_refusals, evolved

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import CODES, Invalid, Unavailable
from bnnchain.consensus.types import BlockKind
from bnnchain.wire import ZERO_HASH
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, pack_rows, unpack_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain


def snapshot(chain: Chain) -> tuple[object, ...]:
    store = chain.store
    return chain.head, store.head(), store.block_count(), store.active_blocks(1, 100)


@pytest.mark.parametrize("refusal", all_refusals(), ids=str)
def test_a_block_that_breaks_one_rule_is_refused_with_its_code(refusal: Refusal, tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(initial_target=refusal.target, **refusal.params))
    builder = Builder(chain)
    builder.extend(refusal.blocks)
    raw = refusal.make(builder)
    before = snapshot(chain)
    with pytest.raises(Invalid) as caught:
        chain.import_block(raw)
    assert caught.value.code == refusal.code, str(caught.value)
    assert snapshot(chain) == before
    assert chain.head is before[0]
    chain.store.close()


NOT_OF_BLOCKS = {"bad-manifest", "bad-chunk", "bad-samples", "bad-spec", "mempool-full"}
"""Codes of other things that peers or their operators send."""


def test_every_code_is_reached() -> None:
    assert {refusal.code for refusal in all_refusals()} | NOT_OF_BLOCKS == set(CODES)


def test_the_good_twins_of_the_bad_blocks_are_accepted(tmp_path: Path) -> None:
    """Every refused block above is one of these with one thing changed."""
    builder = Builder(open_chain(tmp_path / "chain.db"))
    builder.extend(FOUNDED + 2)
    builder.extend(kind=BlockKind.IDLE, transactions=[transfer(), transfer(nonce=1), transfer(BOB)])
    assert [family.model_count for family in builder.state.families] == [4]
    assert builder.state.height == 5
    assert builder.state.ledger.account(transfer(CAROL).sender).balance == 300


def test_a_block_from_the_future_is_accepted_when_its_time_has_come(tmp_path: Path) -> None:
    clock = Clock(GENESIS_TIME)
    chain = open_chain(tmp_path / "chain.db", clock=clock)
    raw = encode_block(Builder(chain).idle(timestamp=GENESIS_TIME + 121))
    with pytest.raises(Invalid, match="time-too-new"):
        chain.import_block(raw)
    clock.now += 1
    assert chain.import_block(raw).is_head


def test_the_median_of_the_last_eleven_bounds_the_time_from_below(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    offsets = (10, 20, 30, 40, 50, 60, 45, 70, 55, 80, 46, 90, 56)
    # Genesis has offset 0; every offset here is above the median of what came before it.
    accepted = [0]
    for offset in offsets:
        median = sorted(accepted[-11:])[len(accepted[-11:]) // 2]
        block = builder.idle(timestamp=GENESIS_TIME + max(offset, median + 1))
        with pytest.raises(Invalid, match="time-too-old"):
            chain.import_block(builder.tamper(block, timestamp=GENESIS_TIME + median))
        chain.import_block(encode_block(block))
        accepted.append(block.header.timestamp - GENESIS_TIME)
    assert any(later < earlier for earlier, later in itertools.pairwise(accepted))


def test_a_block_on_an_unknown_parent_is_unavailable_not_invalid(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    before = snapshot(chain)
    with pytest.raises(Unavailable, match="unknown parent"):
        chain.import_block(builder.tamper(builder.idle(), previous_hash=b"\7" * 32))
    assert snapshot(chain) == before


@pytest.mark.parametrize("pool", [True, False])
def test_a_difference_never_reaches_the_kernel_past_a_cheaper_rule(
    pool: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad block costs no inference on the pool, and a bad header none at all (PROTOCOL.md, order of validation)."""
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    builder.extend(FOUNDED)
    block = evolved(builder)
    raw = builder.tamper(block, model_hash=ZERO_HASH) if pool else builder.tamper(block, signature=bytes(64))
    name = "evaluator" if pool else "ticket_evaluator"
    monkeypatch.setattr(chain.validator, name, lambda *_: pytest.fail("the kernel was asked"))
    with pytest.raises(Invalid):
        chain.import_block(raw)


def test_conv_founders_with_permuted_channels_are_clones_too(tmp_path: Path) -> None:
    shape = Architecture(SIDE, SIDE, 1, (Conv3x3(4, pool=True), Dense(CLASSES)))
    model = founder(shape, 5)
    rows, output = model.weights
    order = np.array([2, 0, 3, 1])
    columns = unpack_rows(output, 16).reshape(CLASSES, 2, 2, 4)[..., order].reshape(CLASSES, 16)
    clone = replace(model, weights=(rows[order].copy(), pack_rows(columns)), thresholds=(model.thresholds[0][order],))
    builder = Builder(open_chain(tmp_path / "chain.db", make_spec(min_family_acc_bp=1_000)))
    builder.chain.import_block(encode_block(builder.found(builder.place(), model)))
    with pytest.raises(Invalid, match="bad-family-diff"):
        builder.chain.import_block(encode_block(builder.found(builder.place(), clone)))
