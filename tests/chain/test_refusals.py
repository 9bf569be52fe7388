"""One block per rule that breaks this rule alone, refused at the one door with the rule's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import (
    BOB,
    CAROL,
    CLASSES,
    COINS,
    GENESIS_TIME,
    POOL_SIZE,
    SIDE,
    Builder,
    Clock,
    family_shape,
    founder,
    make_spec,
    open_chain,
    transfer,
)
from refusals import FOUNDED, Refusal, all_refusals

from bnnchain.consensus.codec import HEADER_BYTES, encode_block
from bnnchain.consensus.errors import CODES, Invalid, Unavailable
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, pack_rows, unpack_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnnchain.chain.chain import Chain


def snapshot(chain: Chain) -> tuple[object, ...]:
    store = chain.store
    return chain.head, store.head(), store.block_count(), store.active_blocks(1, 100)


JUDGED_ON_THE_POOL = {"bad-claim", "bad-family-diff"}
"""A bad block costs no inference on the pool but for these (PROTOCOL.md, order of validation)."""
JUDGED_WITHOUT_A_TICKET = {
    "bad-encoding", "bad-version", "bad-height", "time-too-old", "time-too-new", "bad-target", "bad-params",
    "bad-unused-field", "bad-place", "bad-generation", "bad-model-count", "bad-previous-model", "bad-parent-claim",
    "bad-eval-total", "bad-manifest", "bad-header-signature", "bad-kind", "bad-tx-kind",
}  # fmt: skip
"""And these cost no inference at all, unless they are found in the body."""


def watch_kernel(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that fills with what the kernel is asked for from now on."""
    asked: set[str] = set()
    validator = chain.validator
    for name, method in (("pool", validator.evaluator), ("tickets", validator.ticket_evaluator)):

        def record(*arguments: object, name: str = name, method: Callable[..., object] = method) -> object:
            asked.add(name)
            return method(*arguments)

        monkeypatch.setattr(validator, "evaluator" if name == "pool" else "ticket_evaluator", record)
    return asked


@pytest.mark.parametrize("refusal", all_refusals(), ids=str)
def test_a_block_that_breaks_one_rule_is_refused_with_its_code(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, the order of validation (cheapest first), and that nothing has changed."""
    chain = open_chain(tmp_path / "chain.db", make_spec(initial_target=refusal.target, **refusal.params))
    builder = Builder(chain)
    builder.extend(refusal.blocks)
    raw = refusal.make(builder)
    before = snapshot(chain)
    asked = watch_kernel(chain, monkeypatch)
    with pytest.raises(Invalid) as caught:
        chain.import_block(raw)
    assert caught.value.code == refusal.code, str(caught.value)
    is_judged_on_the_pool = refusal.code in JUDGED_ON_THE_POOL or "commonest_class" in str(refusal)
    assert ("pool" in asked) is is_judged_on_the_pool
    in_body = refusal.code == "bad-encoding" and refusal.make.__name__.startswith(("founder", "difference"))
    assert refusal.code not in JUDGED_WITHOUT_A_TICKET or in_body or asked == set()
    assert snapshot(chain) == before
    assert chain.head is before[0]
    chain.store.close()


NOT_OF_BLOCKS = {
    "bad-manifest",
    "bad-chunk",
    "bad-samples",
    "bad-spec",
    "mempool-full",
    "fee-too-low",
    "other-checkpoint",
}
"""Codes of other things that peers or their operators send."""
NOT_AT_THE_DOOR = {"bad-parent"}
"""The door looks the parent up by the block's own word; the rule guards whoever judges on a state of his choice."""


def test_every_code_is_reached() -> None:
    assert {refusal.code for refusal in all_refusals()} | NOT_OF_BLOCKS | NOT_AT_THE_DOOR == set(CODES)


def test_the_good_twins_of_the_bad_blocks_are_accepted(tmp_path: Path) -> None:
    """Every refused block above is one of these with one thing changed."""
    builder = Builder(open_chain(tmp_path / "chain.db"))
    builder.extend(FOUNDED + 2)
    builder.extend(kind=BlockKind.IDLE, transactions=[transfer(), transfer(nonce=1), transfer(BOB)])
    assert [family.model_count for family in builder.state.families] == [4]
    assert builder.state.height == 5
    assert builder.state.ledger.account(transfer(CAROL).sender).balance == 300


def test_what_stands_exactly_at_a_limit_is_accepted(tmp_path: Path) -> None:
    """The refused blocks above stand one beyond."""
    weights = family_shape(0).weight_count
    exact = {"max_connection_count": weights, "max_gate_macs": weights * POOL_SIZE, "max_block_transactions": 1}
    builder = Builder(open_chain(tmp_path / "exact.db", make_spec(**exact)))
    builder.extend(FOUNDED + 1)
    builder.extend(kind=BlockKind.IDLE, transactions=[transfer(amount=COINS - 1, fee=1, expiry_height=4)])
    assert builder.state.height == FOUNDED + 2
    small = Builder(open_chain(tmp_path / "small.db", make_spec(max_block_bytes=HEADER_BYTES + 4)))
    small.extend(kind=BlockKind.IDLE)
    second = Builder(open_chain(tmp_path / "second.db", make_spec(min_families=2)))
    second.extend(FOUNDED)
    second.extend(1, index=1, timestamp=second.state.timestamp + 5)
    assert second.state.height == FOUNDED + 1


def test_a_block_from_the_future_is_accepted_when_its_time_has_come(tmp_path: Path) -> None:
    clock = Clock(GENESIS_TIME)
    chain = open_chain(tmp_path / "chain.db", clock=clock)
    raw = encode_block(Builder(chain).idle(timestamp=GENESIS_TIME + 121))
    with pytest.raises(Invalid, match="time-too-new"):
        chain.import_block(raw)
    clock.now += 1
    assert chain.import_block(raw).is_head


def test_time_may_stand_still_but_never_falls(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    for offset in (0, 0, 50, 50, 51):
        block = builder.idle(timestamp=GENESIS_TIME + offset)
        with pytest.raises(Invalid, match="time-too-old"):
            chain.import_block(builder.tamper(block, timestamp=builder.state.timestamp - 1))
        chain.import_block(encode_block(block))
    assert chain.head.timestamp == GENESIS_TIME + 51


def test_a_block_on_an_unknown_parent_is_unavailable_not_invalid(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    before = snapshot(chain)
    with pytest.raises(Unavailable, match="unknown parent"):
        chain.import_block(builder.tamper(builder.idle(), previous_hash=b"\7" * 32))
    assert snapshot(chain) == before


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
