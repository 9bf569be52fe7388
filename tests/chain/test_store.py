from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, Builder, make_spec, open_chain, transfer

from bnnchain.chain import store as store_module
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.consensus.types import BlockId, BlockKind, DatasetId, Height
from bnnchain.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def identity(number: int) -> BlockId:
    return BlockId(number.to_bytes(32, "little"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "chain.db", make_spec())) as opened:
        yield opened


def commit(store: Store, number: int, height: int, previous: BlockId, *branch: int) -> None:
    header = replace(store.spec.genesis_header, height=Height(height), previous_hash=previous)
    store.commit(identity(number), header, bytes([number]), [identity(each) for each in branch])


def test_a_new_store_is_at_genesis(store: Store) -> None:
    assert store.head() == store.spec.genesis_id == store.active_id(0)
    assert store.active_id(1) is None
    assert store.block_count() == 0
    assert store.block(identity(1)) is None
    assert store.previous(identity(1)) is None
    assert not store.has_block(identity(1))
    assert store.active_blocks(1, 9) == []


def test_branches_are_activated_and_left_in_one_go(store: Store) -> None:
    genesis = store.spec.genesis_id
    commit(store, 1, 1, genesis, 1)
    commit(store, 2, 2, identity(1), 2)
    commit(store, 3, 3, identity(2), 3)
    commit(store, 12, 2, identity(1))
    assert store.active_blocks(1, 9) == [(identity(number), bytes([number])) for number in (1, 2, 3)]
    commit(store, 13, 3, identity(12))
    commit(store, 14, 4, identity(13), 12, 13, 14)
    assert store.active_blocks(1, 9) == [(identity(number), bytes([number])) for number in (1, 12, 13, 14)]
    assert store.active_blocks(2, 2) == [(identity(number), bytes([number])) for number in (12, 13)]
    commit(store, 22, 2, identity(1), 22)
    assert [store.active_id(height) for height in range(5)] == [genesis, identity(1), identity(22), None, None]
    assert store.head() == identity(22)
    assert store.block_count() == 7
    assert store.previous(identity(14)) == identity(13)
    assert store.block(identity(3)) == b"\3"


def test_a_commit_that_fails_half_way_leaves_nothing(store: Store) -> None:
    commit(store, 1, 1, store.spec.genesis_id, 1)
    for branch in ([identity(9), identity(2)], [identity(2), identity(2), identity(77)]):
        header = replace(store.spec.genesis_header, height=Height(2), previous_hash=identity(1))
        with pytest.raises(Fault):
            store.commit(identity(2), header, b"x", branch)
        assert not store.has_block(identity(2))
        assert store.active_blocks(1, 9) == [(identity(1), b"\1")]
    with pytest.raises(Fault):
        commit(store, 1, 1, store.spec.genesis_id, 1)
    commit(store, 2, 2, identity(1), 2)
    assert store.head() == identity(2)


def test_data_sets_are_kept_and_replaced(store: Store) -> None:
    dataset_id = DatasetId(bytes(32))
    assert store.dataset(dataset_id) is None
    store.put_dataset(dataset_id, b"one")
    store.put_dataset(dataset_id, b"two")
    assert store.dataset(dataset_id) == b"two"


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    with closing(Store(path, make_spec())) as store:
        commit(store, 1, 1, store.spec.genesis_id, 1)
        genesis = store.spec.genesis_id
    for spec in (None, make_spec()):
        with closing(Store(path, spec)) as again:
            assert again.head() == identity(1)
            assert again.spec.genesis_id == genesis


def test_commits_are_durable_before_they_return(store: Store) -> None:
    """FULL syncs the log at every commit; NORMAL would lose the last blocks when the power fails."""
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._database.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_another_chains_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    Store(path, make_spec()).close()
    with pytest.raises(Fault, match="another chain"):
        Store(path, make_spec(name="other"))


def test_a_store_that_is_not_there_is_not_made_without_a_spec(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="no store"):
        Store(tmp_path / "chain.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(Fault, match="not a chain's store"):
        Store(tmp_path / "empty.db")


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    Store(path, make_spec()).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Fault, match="schema"):
        Store(path)


@pytest.mark.parametrize("content", [b"not a database" * 1_000, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_a_fault(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "chain.db").write_bytes(content)
    with pytest.raises(Fault):
        Store(tmp_path / "chain.db", make_spec())


def test_a_place_that_cannot_hold_a_store_is_a_fault(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "chain.db"):
        with pytest.raises(Fault, match=r"cannot open|failed"):
            Store(path, make_spec())


def test_a_closed_store_is_a_fault(store: Store) -> None:
    store.close()
    with pytest.raises(Fault):
        store.head()


def test_a_store_that_another_process_is_writing_is_a_fault_not_a_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "chain.db"
    with closing(Store(path, make_spec())) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Fault, match="locked"):
            commit(store, 1, 1, store.spec.genesis_id, 1)
        with pytest.raises(Fault, match="locked"):
            Store(path)
        assert store.block_count() == 0, "reading goes on"
        other.execute("ROLLBACK")
        commit(store, 1, 1, store.spec.genesis_id, 1)


def test_a_second_node_in_one_home_is_refused(tmp_path: Path) -> None:
    """Two writers would each follow a head of their own; the directory's lock keeps the second one out."""
    home = Home(tmp_path)
    with home.locked(), pytest.raises(Fault, match="another node"), Home(tmp_path).locked():
        pytest.fail("two nodes in one home")
    with home.locked():
        pass


def test_a_full_disk_is_a_fault_and_loses_nothing(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    builder.extend()
    database = chain.store._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    head = chain.head
    raw = encode_block(builder.idle(transactions=[transfer(nonce=nonce) for nonce in range(40)]))
    with pytest.raises(Fault, match="full"):
        chain.import_block(raw)
    assert chain.head is head
    assert chain.store.head() == head.head
    database.execute("PRAGMA max_page_count = 100000")
    assert chain.import_block(raw).is_head


def test_each_accepted_block_is_one_transaction_and_a_refused_one_none(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    statements: list[str] = []

    def transactions() -> list[str]:
        words = [statement.split()[0] for statement in statements]
        statements.clear()
        return [word for word in words if word in ("BEGIN", "COMMIT", "ROLLBACK")]

    chain.store._database.set_trace_callback(statements.append)
    raw = Builder(chain).extend()[0]
    assert transactions() == ["BEGIN", "COMMIT"]
    chain.import_block(raw)
    assert transactions() == []
    with pytest.raises(Invalid):
        chain.import_block(Builder(chain).tamper(Builder(chain).idle(), height=9))
    assert transactions() == []
    side, tip = Builder(fork, key=ALICE, seed=4).extend(2, kind=BlockKind.IDLE)
    assert not chain.import_block(side).is_head
    assert transactions() == ["BEGIN", "COMMIT"]
    assert chain.import_block(tip).reorg_depth == 1
    assert transactions() == ["BEGIN", "COMMIT"]
