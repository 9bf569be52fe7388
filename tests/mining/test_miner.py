"""A real miner on a real chain: blocks of every kind where the lottery is closed, and no ticket twice or left out."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from builders import GENESIS_TIME, MINER, Builder, Clock, count, founder, make_spec, open_chain, tiny_dataset, transfer

from bnnchain.chain.mempool import Mempool
from bnnchain.chain.validator import Validator
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import core_hash
from bnnchain.consensus.types import MAX_TARGET, BlockKind, DatasetId
from bnnchain.mining import miner as miner_module
from bnnchain.mining.founders import FoundedModel
from bnnchain.mining.miner import Miner, MiningOptions
from bnnchain.mining.tickets import TicketDrawer
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import Header
    from bnnchain_kernels.model import Architecture

CLOSED = {"is_lottery_open": 0, "block_interval_s": 60, "min_families": 1}
ONE_IN_1000 = MAX_TARGET // 1000
ATTEMPTS = 60


class ClimbingFounder:
    """Returns the builders' founders, another one each time; remembers what it was asked for."""

    name = "climbing"

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.asked: list[tuple[Architecture, int]] = []
        self._before = before

    def found(self, architecture: Architecture, *_: Any, seed: int, **__: Any) -> FoundedModel:
        self._before()
        self.asked.append((architecture, seed))
        model = founder(architecture, len(self.asked))
        return FoundedModel(model, count(model), 700, 1.0, 0.0)


def make_miner(
    chain: Chain, mempool: Mempool | None = None, own: ClimbingFounder | None = None, **options: Any
) -> Miner:
    chosen = {"seed": 1, "threads": 1, "learning_percent": 100} | options
    return Miner(
        chain, Mempool(chain) if mempool is None else mempool, MINER, own or ClimbingFounder(), MiningOptions(**chosen)
    )


def never() -> bool:
    return False


def closed_chain(path: Path, target: int = ONE_IN_1000, **params: int) -> tuple[Chain, Clock]:
    clock = Clock(GENESIS_TIME + 60)
    chain = open_chain(path / "chain.db", make_spec(initial_target=target, **CLOSED, **params), clock)
    # A miner wants a fast kernel.
    chain.validator = Validator(select("auto"))
    chain.validator.add_dataset(DatasetId(chain.spec.dataset.dataset_id), tiny_dataset().pool)
    return chain, clock


def mine_next(miner: Miner, chain: Chain, clock: Clock) -> BlockKind:
    """Mine one block, bring it through the chain's one door, and move on a minute."""
    raw = miner.mine(never)
    assert raw is not None
    imported = chain.import_block(raw)
    assert imported.is_head
    clock.now += 60
    return imported.block.header.kind


def test_blocks_of_every_kind_enter_a_closed_chain(tmp_path: Path) -> None:
    chain, clock = closed_chain(tmp_path)
    assert mine_next(make_miner(chain, learning_percent=0), chain, clock) == BlockKind.IDLE
    miner, kinds = make_miner(chain), set()
    for _ in range(ATTEMPTS):
        kinds.add(mine_next(miner, chain, clock))
        if kinds >= {BlockKind.FOUND, BlockKind.EVOLVE}:
            break
    assert kinds >= {BlockKind.FOUND, BlockKind.EVOLVE}
    assert chain.head.families[0].generation > 0


def test_without_idle_blocks_tickets_wait_for_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miner_module, "RETRY_S", 0.01)
    chain, clock = closed_chain(tmp_path, is_idle_allowed=0)
    assert mine_next(make_miner(chain), chain, clock) == BlockKind.FOUND


def test_an_open_lottery_needs_no_thread_and_gives_the_model_at_once(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(min_families=1))
    raw = make_miner(chain).mine(never)
    assert raw is not None
    header = chain.import_block(raw).block.header
    assert (header.kind, header.nonce) == (BlockKind.FOUND, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "bnnchain-learn"]


class Spy:
    """Stands in for TicketDrawer.draw: notes each call; lets none win until ``wins`` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wins: Callable[[Header, int], bool]) -> None:
        self.calls: list[tuple[Header, int]] = []
        self._wins = wins
        draw = TicketDrawer.draw

        def spied(drawer: TicketDrawer, header: Header, first_nonce: int) -> Header | None:
            self.calls.append((header, first_nonce))
            if self._wins(header, len(self.calls)):
                return draw(drawer, header, first_nonce) or header
            time.sleep(0.001)
            return None

        monkeypatch.setattr(TicketDrawer, "draw", spied)

    def by_core(self) -> dict[bytes, list[int]]:
        groups: dict[bytes, list[int]] = {}
        for header, nonce in self.calls:
            groups.setdefault(core_hash(header), []).append(nonce)
        return groups


def test_the_first_valid_candidate_replaces_the_block_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, _ = closed_chain(tmp_path, target=1)
    drawing = threading.Event()
    spy = Spy(monkeypatch, lambda header, _: bool(drawing.set() or header.kind == BlockKind.FOUND))
    # The founder is done only when tickets are being drawn already.
    own = ClimbingFounder(before=lambda: drawing.wait(60) or None)
    raw = make_miner(chain, own=own).mine(never)
    assert raw is not None
    assert decode_block(raw).header.kind == BlockKind.FOUND
    kinds = [header.kind for header, _ in spy.calls]
    assert kinds[0] == BlockKind.IDLE
    assert kinds == sorted(kinds, reverse=True), "once there is a model it stays"


def test_a_better_child_replaces_the_one_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, clock = closed_chain(tmp_path)
    miner = make_miner(chain)
    while not (chain.head.families and len(chain.head.families[0].founders) == 2):
        mine_next(miner, chain, clock)
    claims: list[int] = []

    def wins(header: Header, _: int) -> bool:
        if header.kind == BlockKind.EVOLVE and header.correct_new not in claims:
            claims.append(header.correct_new)
        return len(claims) >= 3

    spy = Spy(monkeypatch, wins)
    raw = miner.mine(never)
    assert raw is not None
    assert claims == sorted(claims)
    assert claims[0] > chain.head.families[0].best.correct
    assert decode_block(raw).header.correct_new == claims[-1]
    assert len(spy.by_core()) >= 3


def test_every_nonce_of_a_draft_is_drawn_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miner_module, "REFRESH_S", 0.01)
    chain, clock = closed_chain(tmp_path, target=1)
    mempool = Mempool(chain)

    def wins(_: Header, calls: int) -> bool:
        if calls == 100:
            mempool.add(transfer())
        if calls == 200:
            clock.now += 1
        return calls == 300

    spy = Spy(monkeypatch, wins)
    miner = make_miner(chain, mempool, learning_percent=0, threads=2)
    raw = miner.mine(never)
    assert raw is not None
    assert len(decode_block(raw).transactions) == 1
    groups = spy.by_core()
    # The first draft, the one with the transfer, and the one a second later; many refreshes changed nothing.
    assert len(groups) == 3
    for nonces in groups.values():
        assert nonces == list(itertools.islice(itertools.count(0, 128), len(nonces)))


def test_mining_stops_when_told_and_when_the_head_moves(tmp_path: Path) -> None:
    chain, _ = closed_chain(tmp_path, target=1)
    calls = itertools.count()
    assert make_miner(chain).mine(lambda: next(calls) > 20) is None


def test_what_goes_wrong_while_learning_is_raised_to_the_caller(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    chain, _ = closed_chain(tmp_path, target=1)
    with pytest.raises(ZeroDivisionError):
        make_miner(chain, own=ClimbingFounder(before=fail)).mine(never)


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_share_outside_the_hundred_is_refused(percent: int) -> None:
    with pytest.raises(Invalid, match="bad-search"):
        MiningOptions(seed=1, threads=1, learning_percent=percent)


def test_learning_rests_for_the_rest_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some processor time, learning at 20 % gets far less than the tickets."""
    chain, clock = closed_chain(tmp_path)
    miner = make_miner(chain)
    while not (chain.head.families and len(chain.head.families[0].founders) == 2):
        mine_next(miner, chain, clock)
    rested: list[float] = []
    sleep = time.sleep

    def slept(seconds: float) -> None:
        if threading.current_thread().name == "bnnchain-learn":
            rested.append(seconds)
        sleep(seconds)

    Spy(monkeypatch, lambda *_: False)
    monkeypatch.setattr(time, "sleep", slept)
    begun = time.monotonic()
    assert make_miner(chain, learning_percent=20).mine(lambda: time.monotonic() > begun + 2) is None
    # Four fifths, but for what is still owed.
    assert sum(rested) >= 0.6 * (time.monotonic() - begun)


def test_a_stale_header_and_proofs_are_carried(tmp_path: Path) -> None:
    chain, clock = closed_chain(tmp_path)
    builder = Builder(chain)
    first, second = (builder.mine(builder.idle(timestamp=GENESIS_TIME + 60 + extra)) for extra in (0, 1))
    clock.now += 120
    for block in (first, second):
        chain.import_block(builder.tamper(block, y=block.header.y, nonce=block.header.nonce))
    raw = make_miner(chain, learning_percent=0).mine(never)
    assert raw is not None
    # Its parent must be an ancestor of the head, which genesis is.
    assert decode_block(raw).stale is not None
    assert chain.import_block(raw).is_head
