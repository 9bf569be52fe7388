from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from builders import Builder, open_chain, transfer

from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.codec import encode_block, encode_transaction
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockKind
from bnnchain.net import reads as reads_module
from bnnchain.net.intake import Intake
from bnnchain.net.messages import NewHead, TransactionState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    chain = open_chain(tmp_path / "chain.db")
    made = Intake(chain, Mempool(chain))
    yield made
    await made.close()
    chain.store.close()


async def test_only_new_heads_are_published(intake: Intake) -> None:
    builder = Builder(intake.chain)
    events = intake.events.subscribe()
    first, sibling = builder.idle(), builder.idle(nonce=1)
    assert (await intake.import_block(encode_block(first))).is_head
    assert not (await intake.import_block(encode_block(sibling))).is_head
    assert not (await intake.import_block(encode_block(first))).is_new
    with pytest.raises(Invalid):
        await intake.import_block(b"")
    intake.events.close()
    published = [event async for event in events]
    assert [event.header for event in published if isinstance(event, NewHead)] == [first.header]
    assert len(published) == 1


async def test_an_import_whose_caller_went_away_is_published(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode_block(Builder(intake.chain).idle())
    events, gate, real = intake.events.subscribe(), threading.Event(), intake.chain.import_block

    def slow(data: bytes) -> object:
        gate.wait(5)
        return real(data)

    monkeypatch.setattr(intake.chain, "import_block", slow)
    caller = asyncio.create_task(intake.import_block(raw))
    await asyncio.sleep(0.02)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    assert isinstance(await asyncio.wait_for(anext(events), 5), NewHead)


async def test_the_event_loop_runs_on_while_a_block_is_judged(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(intake.chain, "import_block", lambda _raw: gate.wait(5))
    judging = asyncio.create_task(intake.import_block(b""))
    for _ in range(5):
        await asyncio.sleep(0.01)
        assert await intake.read(lambda: 1) == 1
    assert not judging.done()
    gate.set()
    with pytest.raises(Fault):  # the stand-in's answer is no Import
        await judging


async def test_our_own_bug_is_a_fault(intake: Intake, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Fault, match="ZeroDivisionError"):
        await intake.read(lambda: 1 // 0)
    assert "internal error" in caplog.text


async def test_after_the_end_everything_is_unavailable(intake: Intake) -> None:
    await intake.close()
    for work in (intake.import_block(b""), intake.read(int), intake.add_transaction(encode_transaction(transfer()))):
        with pytest.raises(Unavailable, match="stopping"):
            await work


async def test_transaction_index_follows_a_reorg(intake: Intake) -> None:
    chain = intake.chain
    payment, builder = transfer(), Builder(chain)
    identity = transaction_id(payment)
    genesis = chain.head
    chain.import_block(encode_block(builder.idle(transactions=[payment])))
    assert intake.reads.transaction(identity).state == TransactionState.INCLUDED
    branch = Builder(genesis)
    for raw in branch.extend(2, kind=BlockKind.IDLE, nonce=9):
        chain.import_block(raw)
    assert chain.head.height == 2
    assert intake.reads.transaction(identity).state == TransactionState.UNKNOWN
    chain.import_block(encode_block(builder.idle(transactions=[payment])))
    status = intake.reads.transaction(identity)
    assert (status.state, status.height, status.confirmations) == (TransactionState.INCLUDED, 3, 1)


async def test_transaction_index_is_bounded(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "MAX_INDEXED_BLOCKS", 4)
    chain, builder = intake.chain, Builder(intake.chain)
    old, new = transfer(), transfer(nonce=1)
    builder.extend(kind=BlockKind.IDLE, transactions=[old])
    assert intake.reads.transaction(transaction_id(old)).confirmations == 1
    builder.extend(3, kind=BlockKind.IDLE)
    assert intake.reads.transaction(transaction_id(old)).confirmations == 4
    builder.extend(kind=BlockKind.IDLE, transactions=[new])
    assert intake.reads.transaction(transaction_id(old)).state == TransactionState.UNKNOWN
    status = intake.reads.transaction(transaction_id(new))
    assert (status.height, status.confirmations) == (5, 1)
    assert status.block_id == chain.head.head
