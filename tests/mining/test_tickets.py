"""The winning ticket is the first that consensus would call so, with consensus's own y, on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import Builder, make_spec, tiny_dataset

from bnnchain.chain.validator import Validator
from bnnchain.consensus.header import core_hash
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import Block, BlockKind, DatasetId
from bnnchain.mining import tickets
from bnnchain.mining.tickets import draw_winning_ticket
from bnnchain_kernels.select import select

CLOSED = {"is_lottery_open": 0, "block_interval_s": 60}
HARD = 1 << 252


def never() -> bool:
    return False


def make_validator(backend: str) -> Validator:
    validator = Validator(select(backend))
    validator.add_dataset(DatasetId(tiny_dataset().manifest.dataset_id), tiny_dataset().pool)
    return validator


def next_block(kind: BlockKind, **params: int) -> tuple[Builder, ChainState, Block]:
    """Return an unmined block of a kind, hard to win, and the state below it."""
    builder = Builder(genesis_state(make_spec(**params)))
    while kind == BlockKind.EVOLVE and builder.place().kind != kind:
        builder.extend()
    state = builder.state
    block = builder.idle() if kind == BlockKind.IDLE else builder.next()
    return builder, state, replace(block, header=replace(block.header, target=HARD))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("together", [1, 7, 64])
@pytest.mark.parametrize("flips", [1, 3])
@pytest.mark.parametrize("kind", [BlockKind.FOUND, BlockKind.EVOLVE, BlockKind.IDLE])
def test_first_winning_nonce_with_the_y_of_consensus(
    kind: BlockKind, flips: int, together: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "TICKETS_TOGETHER", together)
    # The open lottery builds the chain below; a closed one is drawn on top.
    builder, state, block = next_block(kind, ticket_flips=flips, n_eval=600)
    closed = replace(state, spec=make_spec(ticket_flips=flips, n_eval=600, **CLOSED))
    header = draw_winning_ticket(closed, block.header, make_validator(backend), never)
    wanted = builder.mine(block, on=closed).header
    assert header is not None
    assert (header.nonce, header.y) == (wanted.nonce, wanted.y)
    assert core_hash(header) == core_hash(block.header)

    builder, state, block = next_block(BlockKind.FOUND)
    header = draw_winning_ticket(state, block.header, make_validator("auto"), never)
    assert header is not None
    assert header.nonce == 0
    assert header.y == builder.seal(replace(block, header=replace(block.header, nonce=0)), on=state).header.y


def test_drawing_stops_when_told() -> None:
    _, state, block = next_block(BlockKind.FOUND, **CLOSED)
    hopeless = replace(block.header, target=0)
    answers = iter([False, False, True])
    assert draw_winning_ticket(state, hopeless, make_validator("auto"), lambda: next(answers)) is None
    assert next(answers, None) is None
