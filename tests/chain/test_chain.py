from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from builders import (
    ALICE,
    BOB,
    GENESIS_TIME,
    MINER,
    Builder,
    Clock,
    close_opened,
    describe,
    make_spec,
    open_chain,
    tiny_dataset,
    transfer,
)

from bnnchain.chain import chain as chain_module
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.schema import checksum_of
from bnnchain.chain.store import Store
from bnnchain.chain.verify import BadBlock, verify_chain
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import BlockId, BlockKind, DatasetId
from bnnchain.datasets.payload import encode_payload
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

NOW = GENESIS_TIME + 10**6


def branch(start: Builder, blocks: int, *, key: object = MINER, seed: int = 0, **changes: object) -> list[bytes]:
    """Return ``blocks`` blocks on the state of ``start``, which is left where it is."""
    return Builder(start.state, key=key, seed=seed).extend(blocks, **changes)  # type: ignore[arg-type]


def hard(**params: int) -> dict[str, int]:
    return {"is_lottery_open": 0, "block_interval_s": 60, **params}


def test_the_longer_of_equally_heavy_blocks_wins_and_money_and_families_follow(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    trunk = Builder(chain)
    trunk.extend(3)
    fork = Builder(chain.head)
    ours = branch(fork, 2)
    theirs = branch(fork, 3, key=ALICE, seed=5)
    for raw in ours:
        assert chain.import_block(raw).is_head
    seen = chain.head
    for raw in theirs[:2]:
        result = chain.import_block(raw)
        assert result.is_new
        assert not result.is_head
        assert chain.head is seen, "of equal weights the first seen stays"
    result = chain.import_block(theirs[2])
    assert result.is_head
    assert result.reorg_depth == 2
    fresh = open_chain(tmp_path / "fresh.db")
    for _, raw in chain.store.active_blocks(1, 99):
        assert fresh.import_block(raw).reorg_depth == 0
    assert describe(fresh.head) == describe(chain.head)
    assert [raw for _, raw in chain.store.active_blocks(4, 9)] == theirs
    assert chain.store.block_count() == 8


def test_a_transfer_on_a_branch_that_lost_can_be_made_again(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    start = Builder(chain.head)
    for raw in branch(start, 1, kind=BlockKind.IDLE, transactions=[transfer()]):
        chain.import_block(raw)
    for raw in branch(start, 2, kind=BlockKind.IDLE, key=BOB):
        chain.import_block(raw)
    assert chain.head.ledger.account(transfer().sender).nonce == 0
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=[transfer()])
    assert chain.head.ledger.account(transfer().sender).nonce == 1


def test_a_shorter_branch_of_more_work_wins(tmp_path: Path) -> None:
    """Weight, not length: two blocks mined in a hurry outweigh three mined at leisure."""
    chain = open_chain(tmp_path / "chain.db", make_spec(initial_target=1 << 252, **hard()))
    start = Builder(chain.head)
    slow, fast = Builder(chain.head), Builder(chain.head, key=ALICE)
    for builder, steps in ((slow, [6_000, 6_000, 6_000]), (fast, [1, 1])):
        for step in steps:
            block = builder.mine(builder.idle(timestamp=builder.state.timestamp + step))
            builder._source = builder.after(builder.state, block)
            chain.import_block(encode_block(block))
    assert start.state.height == 0
    assert slow.state.height > fast.state.height
    assert fast.state.weight > slow.state.weight
    assert describe(chain.head) == describe(fast.state)
    assert [height for height in range(1, 5) if chain.store.active_id(height)] == [1, 2]
    assert chain.store.active_id(3) is None


def dag(seed: int, spec_state: ChainState) -> list[tuple[bytes, BlockId]]:
    """Return about 14 blocks of a random tree with their parents' ids."""
    rng = random.Random(seed)
    states, blocks = [spec_state], []
    for number in range(14):
        parent = rng.choice(states[-5:])
        builder = Builder(parent, key=rng.choice([MINER, ALICE, BOB]), seed=number)
        raw = builder.extend(kind=BlockKind.IDLE if rng.random() < 0.4 else None)[0]
        blocks.append((raw, parent.head))
        states.append(builder.state)
    return blocks


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_arrival_gives_the_same_weight(seed: int, tmp_path: Path) -> None:
    blocks = dag(seed, genesis_state(make_spec()))
    weights, states = set(), {}
    for attempt in range(5):
        rng = random.Random(f"{seed} {attempt}")
        chain = open_chain(tmp_path / f"{attempt}.db")
        waiting = list(blocks)
        while waiting:
            raw, parent = rng.choice(waiting)
            try:
                chain.import_block(raw)
            except Unavailable:
                assert not chain.store.has_block(parent)
                continue
            waiting.remove((raw, parent))
        weights.add(chain.head.weight)
        assert chain.store.block_count() == len(blocks)
        state = describe(chain.head)
        assert states.setdefault(chain.head.head, state) == state
        active = [decode_block(raw).header for _, raw in chain.store.active_blocks(1, 99)]
        assert [header.height for header in active] == list(range(1, chain.head.height + 1))
        reopened = open_chain(tmp_path / f"{attempt}.db")
        assert describe(reopened.head) == state
    assert len(weights) == 1, f"seed {seed}"


def test_a_fork_older_than_the_states_in_memory_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "STATES_KEPT", 3)
    chain = open_chain(tmp_path / "chain.db")
    trunk = Builder(chain)
    trunk.extend(2)
    fork = Builder(chain.head)
    trunk.extend(6)
    assert len(chain._states) == 3
    head = chain.head
    for number, raw in enumerate(branch(fork, 7, key=ALICE, seed=3)):
        result = chain.import_block(raw)
        assert result.is_head is (number == 6)
        if number < 6:
            assert chain.state_at(head.head) is head, "the head is never replayed"
    assert result.reorg_depth == 6
    fresh = open_chain(tmp_path / "fresh.db")
    for _, raw in chain.store.active_blocks(1, 99):
        fresh.import_block(raw)
    assert describe(fresh.head) == describe(chain.head)


def test_a_header_that_names_an_old_parent_costs_few_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "STATES_KEPT", 2)
    monkeypatch.setattr(chain_module, "WAYPOINT_BLOCKS", 4)
    chain = open_chain(tmp_path / "chain.db")
    trunk = Builder(chain)
    trunk.extend(11, kind=BlockKind.IDLE)
    replays = []
    replay = chain.validator.replay
    monkeypatch.setattr(chain.validator, "replay", lambda *given: replays.append(1) or replay(*given))
    for height in range(1, 9):
        replays.clear()
        state = chain.state_at(chain.store.active_id(height))
        assert state.height == height
        assert len(replays) <= height % 4
    monkeypatch.setattr(chain_module, "WAYPOINTS_KEPT", 1)
    trunk.extend(1, kind=BlockKind.IDLE)
    assert [state.height for state in chain._waypoints.values()] == [12]
    assert chain.state_at(chain.store.active_id(5)).height == 5


def test_transactions_of_abandoned_blocks_wait_again(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    mempool, fork, trunk = Mempool(chain), Builder(chain.head, key=ALICE, seed=5), Builder(chain)
    orders = [transfer(nonce=0), transfer(nonce=1)]
    trunk.extend(kind=BlockKind.IDLE, transactions=orders[:1])
    trunk.extend(kind=BlockKind.IDLE, transactions=orders[1:])
    mempool.refresh()
    for raw in branch(fork, 3, key=ALICE, seed=5):
        result = chain.import_block(raw)
        mempool.refresh(result.abandoned if result.is_head else ())
    assert result.reorg_depth == 2
    assert result.abandoned == tuple(orders)
    assert mempool.waiting() == orders
    mempool.refresh(orders)
    assert mempool.waiting() == orders, "none twice"


def test_a_block_that_is_here_already_changes_nothing(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    raws = Builder(chain).extend(2)
    again = [chain.import_block(raw) for raw in raws]
    assert [(result.is_new, result.is_head) for result in again] == [(False, False), (False, True)]
    assert chain.store.block_count() == 2


def test_reopening_replays_to_the_same_state(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(5, transactions=[])
    before = describe(chain.head)
    chain.store.close()
    assert describe(open_chain(tmp_path / "chain.db").head) == before


def test_locator_and_common_height_find_the_fork(tmp_path: Path) -> None:
    ours, theirs = open_chain(tmp_path / "ours.db"), open_chain(tmp_path / "theirs.db")
    for raw in Builder(ours).extend(20, kind=BlockKind.IDLE)[:13]:
        theirs.import_block(raw)
    Builder(theirs, key=ALICE).extend(9, kind=BlockKind.IDLE)
    locator = ours.locator()
    heights = [ours.state_at(identity).height for identity in locator]
    assert heights == [20, 19, 17, 13, 5, 0]
    assert theirs.common_height(locator) == 13
    assert theirs.common_height([BlockId(b"\1" * 32)]) == 0
    assert theirs.common_height([ours.spec.genesis_id]) == 0
    assert ours.common_height(theirs.locator()) in range(14)
    for raw in Builder(ours.state_at(locator[3]), seed=9).extend(2, kind=BlockKind.IDLE, timestamp=NOW):
        theirs.import_block(raw)
    stale = Builder(theirs.state_at(locator[3]), key=BOB).idle()
    identity = theirs.import_block(encode_block(stale)).block_id
    assert theirs.common_height([identity, locator[-1]]) == 0, "a stored block beside the active chain does not count"


def test_without_its_data_set_a_chain_can_wait_for_it(tmp_path: Path) -> None:
    spec = make_spec()
    store = Store(tmp_path / "chain.db", spec)
    chain = Chain(store, ReferenceEvaluator, Clock(NOW))
    dataset_id = DatasetId(spec.dataset.dataset_id)
    raw = encode_block(Builder(chain).idle())
    assert chain.missing_datasets() == [dataset_id]
    with pytest.raises(Unavailable, match="data set"):
        chain.import_block(raw)
    with pytest.raises(Unavailable, match="data set"):
        verify_chain(store, ReferenceEvaluator, NOW, lambda _: None)
    payload = encode_payload(tiny_dataset().pool)
    with pytest.raises(Invalid, match="bad-samples"):
        chain.add_dataset(dataset_id, payload[:-1] + bytes([payload[-1] ^ 1]))
    with pytest.raises(Unavailable, match="unknown data set"):
        chain.add_dataset(DatasetId(bytes(32)), payload)
    assert chain.missing_datasets() == [dataset_id]
    chain.add_dataset(dataset_id, payload)
    assert chain.missing_datasets() == []
    assert chain.import_block(raw).is_head
    store.close()


def test_a_clock_of_the_system_is_used_where_none_is_given(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "chain.db", make_spec())) as store:
        assert Chain(store, ReferenceEvaluator).now() > GENESIS_TIME


def damage(path: Path, statement: str, *values: object) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(statement, values)
    database.close()


def test_a_damaged_store_is_this_machines_fault(tmp_path: Path) -> None:
    """However the disk lies, no peer is blamed for it: a Fault, never Invalid."""
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    raws = Builder(chain).extend(4)
    ids = [chain.store.active_id(height) for height in range(1, 5)]
    chain.store.close()
    good = path.read_bytes()
    tampered = bytearray(raws[1])
    tampered[-1] ^= 1
    cases = (
        ("UPDATE blocks SET raw = ? WHERE id = ?", (bytes(tampered), ids[1])),
        ("UPDATE blocks SET raw = ? WHERE id = ?", (raws[2], ids[1])),
        ("UPDATE blocks SET raw = ? WHERE id = ?", (b"", ids[3])),
        ("UPDATE blocks SET previous = ? WHERE id = ?", (ids[0], ids[2])),
        ("UPDATE blocks SET previous = ? WHERE id = ?", (b"\1" * 32, ids[2])),
        ("DELETE FROM blocks WHERE id = ?", (ids[2],)),
        ("UPDATE datasets SET payload = substr(payload, 1, 100)", ()),
        ("UPDATE meta SET value = x'00'", ()),
        ("DELETE FROM meta", ()),
    )
    for number, (statement, values) in enumerate(cases):
        copy = tmp_path / f"{number}.db"
        copy.write_bytes(good)
        assert open_chain(copy).head.height == 4
        close_opened()
        damage(copy, statement, *values)
        with pytest.raises(Fault, match="damaged"):
            open_chain(copy)


def test_a_swapped_block_of_the_same_height_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    start = Builder(chain.head)
    first, second = branch(start, 1)[0], branch(start, 1, key=ALICE, seed=1)[0]
    identity = chain.import_block(first).block_id
    chain.store.close()
    damage(path, "UPDATE blocks SET raw = ? WHERE id = ?", second, identity)
    with pytest.raises(Fault, match="has changed on disk; run `bnnchain repair`"):
        open_chain(path)
    damage(path, "UPDATE blocks SET checksum = ? WHERE id = ?", checksum_of(identity, second), identity)
    with pytest.raises(Fault, match="holds another block"):
        open_chain(path)
    with closing(Store(path)) as store, pytest.raises(BadBlock, match="block 1: bad-store-link"):
        verify_chain(store, ReferenceEvaluator, NOW, lambda _: None)


def test_verify_judges_everything_again_and_names_the_first_bad_block(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    raws = Builder(chain).extend(5)
    heights: list[int] = []
    state = verify_chain(chain.store, ReferenceEvaluator, NOW, lambda after: heights.append(after.height))
    assert describe(state) == describe(chain.head)
    assert heights == [1, 2, 3, 4, 5]
    tampered = bytearray(raws[3])
    tampered[-3] ^= 1
    identity = chain.store.active_id(4)
    chain.store.close()
    values = (bytes(tampered), checksum_of(identity, bytes(tampered)), identity)
    damage(path, "UPDATE blocks SET raw = ?, checksum = ? WHERE id = ?", *values)
    with closing(Store(path)) as store, pytest.raises(BadBlock, match="block 4: bad-") as caught:
        verify_chain(store, ReferenceEvaluator, NOW, lambda _: None)
    assert caught.value.height == 4
    assert caught.value.code in ("bad-model-hash", "bad-encoding", "bad-model-diff")


def test_a_kernel_that_miscounts_is_found_by_verify(tmp_path: Path) -> None:
    """Replay trusts the store; verify counts again."""

    class Wrong(ReferenceEvaluator):
        def correct(self, model: object, start: int, stop: int) -> object:
            return super().correct(model, start, stop) + 1  # type: ignore[arg-type]

    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(1)
    with pytest.raises(BadBlock, match="bad-claim"):
        verify_chain(chain.store, Wrong, NOW, lambda _: None)  # type: ignore[arg-type]


def test_imports_from_many_threads_all_count_once(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    blocks = [raw for raw, _ in dag(9, chain.head)]
    new: list[bool] = []
    errors: list[BaseException] = []

    def import_all(seed: int) -> None:
        waiting = list(blocks)
        random.Random(seed).shuffle(waiting)
        while waiting:
            raw = waiting.pop(0)
            try:
                new.append(chain.import_block(raw).is_new)
            except Unavailable:
                waiting.append(raw)
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

    threads = [threading.Thread(target=import_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sum(new) == len(blocks) == chain.store.block_count()
    assert len(new) == 4 * len(blocks)
