"""When a node mines, and that nothing it does can make its key sign two blocks that both leave the machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, Builder, make_spec, open_chain, transfer
from net.running import eventually

from bnnchain import producer as producer_module
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.producer import Producer, ProducerOptions
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.chain import Import

CHILD = Path(__file__).with_name("seal_child.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHILD.parent)}
CHILD_TIMEOUT_S = 60


@dataclass
class Works:
    """A producer whose blocks cost nothing, with everything it does on record."""

    chain: Chain
    options: ProducerOptions = field(default_factory=lambda: ProducerOptions(hold_s=0))
    failures: list[Exception] = field(default_factory=list)
    """What the door raises next, before it judges."""
    mined: list[bytes] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mempool = Mempool(self.chain)
        self.producer = Producer(self.chain, self.mempool, self.mine, self.submit, self.options, self.told.append)

    def mine(self, is_outdated: Callable[[], bool]) -> bytes | None:
        if is_outdated():
            return None
        self.mined.append(encode_block(Builder(self.chain).idle(nonce=len(self.mined))))
        return self.mined[-1]

    async def submit(self, raw: bytes) -> Import:
        self.submitted.append(raw)
        if self.failures:
            raise self.failures.pop(0)
        imported = self.chain.import_block(raw)
        self.mempool.refresh()
        return imported

    async def run_until(self, condition: Callable[[], object]) -> None:
        running = asyncio.create_task(self.producer.run())
        try:
            await eventually(condition)
        finally:
            self.producer.stop()
            await running


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "PAUSE_S", 0.02)


def short(**options: object) -> ProducerOptions:
    return ProducerOptions(**{"hold_s": 0, **options})  # type: ignore[arg-type]


async def test_blocks_are_made_up_to_the_height_asked_for(tmp_path: Path) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=4))
    await works.run_until(lambda: "not mining: height 4 is reached" in works.told)
    assert works.chain.head.height == 4
    assert works.mined == works.submitted
    assert works.told == ["mining: this chain always takes a block", "not mining: height 4 is reached"]


async def test_a_fresh_tip_is_held_and_a_rival_starts_the_hold_anew(tmp_path: Path) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(hold_s=0.3, max_height=2))
    running = asyncio.create_task(works.producer.run())
    clock = asyncio.get_running_loop().time
    started = clock()
    await asyncio.sleep(0.2)
    works.chain.import_block(encode_block(Builder(works.chain, key=ALICE).idle()))
    await eventually(lambda: works.mined)
    waited = clock() - started
    works.producer.stop()
    await running
    assert 0.2 + 0.3 <= waited < 3
    assert decode_block(works.mined[0]).header.height == 2


async def test_stopping_does_not_wait_for_the_hold(tmp_path: Path) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(hold_s=60))
    running = asyncio.create_task(works.producer.run())
    await asyncio.sleep(0.05)
    works.producer.stop()
    await asyncio.wait_for(running, 2)
    assert works.mined == []


async def test_where_idle_blocks_are_forbidden_a_blocks_worth_starts_it(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(is_idle_allowed=0, max_block_transactions=3))
    works = Works(chain)
    works.mine = lambda is_outdated: (  # type: ignore[method-assign]
        None if is_outdated() else encode_block(Builder(chain).next(transactions=works.mempool.select(3, 1 << 18)))
    )
    works.producer = Producer(chain, works.mempool, works.mine, works.submit, works.options, works.told.append)
    running = asyncio.create_task(works.producer.run())
    works.mempool.add(transfer())
    works.mempool.add(transfer(nonce=1))
    await asyncio.sleep(0.2)
    assert works.submitted == []
    works.mempool.add(transfer(nonce=2))
    await eventually(lambda: works.submitted)
    await asyncio.sleep(0.1)
    works.producer.stop()
    await running
    assert chain.head.height == 1, "one block's worth waited, one block was made"
    waiting = "not mining: fewer than 3 transactions wait; --blocks N mines on demand"
    assert works.told == [waiting, "mining: 3 transactions, a block's worth, wait", waiting]


async def test_on_demand_needs_no_transactions(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(is_idle_allowed=0))
    works = Works(chain, short(is_on_demand=True, max_height=1))
    works.mine = lambda _: encode_block(Builder(chain).next())  # type: ignore[method-assign]
    works.producer = Producer(chain, works.mempool, works.mine, works.submit, works.options, works.told.append)
    await works.run_until(lambda: chain.head.height == 1)
    assert works.told[0] == "mining: on demand"


async def test_without_the_chains_data_set_nothing_is_mined(tmp_path: Path) -> None:
    store = Store(tmp_path / "chain.db", make_spec())
    works = Works(Chain(store, ReferenceEvaluator))
    await works.run_until(lambda: works.told)
    assert works.told == ["not mining: data set tiny is not here yet"]
    assert works.mined == []
    store.close()


@pytest.mark.parametrize("failure", [Unavailable("this node is busy"), Fault("the disk is full")])
async def test_a_block_that_could_not_be_submitted_is_submitted_again(failure: Exception, tmp_path: Path) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=1), failures=[failure])
    await works.run_until(lambda: works.chain.head.height == 1)
    assert len(works.mined) == 1, "no second signature on the parent"
    assert works.submitted == works.mined * 2


async def test_a_block_that_the_own_door_refuses_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=1), failures=[Invalid("bad-claim")])
    await works.run_until(lambda: works.chain.head.height == 1)
    assert len(works.mined) == 2
    assert "own block refused: bad-claim" in caplog.text


async def test_after_a_crash_the_sealed_block_is_submitted_first(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    works = Works(open_chain(path), failures=[Unavailable("this node is stopping")])
    await works.run_until(lambda: works.submitted)
    [sealed] = works.mined
    works.chain.store.close()
    again = Works(open_chain(path), short(max_height=1))
    await again.run_until(lambda: again.chain.head.height == 1)
    assert again.mined == []
    assert again.submitted == [sealed]


async def test_a_sealed_block_is_left_where_the_chain_went_on_without_it(tmp_path: Path) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=2), failures=[Unavailable("busy")])
    await works.run_until(lambda: works.submitted)
    works.chain.import_block(encode_block(Builder(works.chain, key=ALICE).idle()))
    again = Works(works.chain, short(max_height=2))
    await again.run_until(lambda: again.chain.head.height == 2)
    assert len(again.mined) == 1
    assert again.submitted == again.mined


async def test_a_fault_while_mining_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=1))
    real, faults = works.mine, [Fault("the trainer died"), Unavailable("a data set is missing")]

    def mine(is_outdated: Callable[[], bool]) -> bytes | None:
        if faults:
            raise faults.pop()
        return real(is_outdated)

    works.producer = Producer(works.chain, works.mempool, mine, works.submit, works.options)
    await works.run_until(lambda: works.chain.head.height == 1)
    assert "the trainer died" in caplog.text
    assert "a data set is missing" in caplog.text


async def test_nothing_is_submitted_where_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = Works(open_chain(tmp_path / "chain.db"), short(max_height=1))

    def full(*_: object) -> bytes:
        raise Fault("the store failed: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(works.chain.store, "put_sealed", full)
        await works.run_until(lambda: len(works.mined) >= 2)
    assert works.submitted == []


def test_only_the_first_block_sealed_on_a_parent_counts(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    store, builder = chain.store, Builder(chain)
    first, second = (encode_block(builder.idle(nonce=nonce)) for nonce in range(2))
    assert store.sealed(chain.head.head) is None
    assert store.put_sealed(chain.head.head, first) == first
    assert store.put_sealed(chain.head.head, second) == first
    for number in range(30):
        store.put_sealed(block_id(decode_block(builder.extend(nonce=number)[0]).header), b"x")
    assert store.sealed(chain.spec.genesis_id) is None, "only the last parents are remembered"
    store.put_sealed(chain.head.head, first)
    store.drop_sealed(chain.head.head)
    assert store.put_sealed(chain.head.head, second) == second


def left_the_machine(path: Path, *arguments: object) -> tuple[list[str], bool]:
    """Run the child to its end; return (parent, block) lines and whether it was killed."""
    command = [sys.executable, str(CHILD), str(path), *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=CHILD_TIMEOUT_S, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    return [line for line in lines if not line.startswith("done")], done.returncode != 0


def doubles(lines: list[str]) -> set[str]:
    """Return the parents on which two different blocks left the machine."""
    blocks: dict[str, set[str]] = {}
    for line in lines:
        with suppress(ValueError):  # a line torn by the kill
            parent, raw = line.split()
            blocks.setdefault(parent, set()).add(raw)
    return {parent for parent, raws in blocks.items() if len(raws) > 1}


@pytest.mark.slow
@pytest.mark.parametrize("forget", [False, True])
def test_killed_at_every_statement_no_parent_has_two_blocks(tmp_path: Path, forget: bool) -> None:
    """The same store, killed again and again; without the record the same kills do give two blocks on a parent."""
    path, lines, fatal = tmp_path / "chain.db", list[str](), 0
    while True:
        fatal += 1
        new, was_killed = left_the_machine(path, fatal, *(["forget"] if forget else []))
        lines += new
        if not was_killed:
            break
        assert fatal < 80, "the child never came to its end"
    assert fatal > 15
    assert bool(doubles(lines)) is forget
