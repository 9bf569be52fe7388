"""Stores of older programs are migrated in one transaction; those of later ones, and of none, are refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from builders import Builder, describe, make_spec, open_chain
from learnable import tiny_dataset

from bnnchain.chain import schema
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Fault
from bnnchain.consensus.header import block_id
from bnnchain.consensus.spec import encode_spec
from bnnchain.consensus.state import genesis_state
from bnnchain.datasets.payload import encode_payload

if TYPE_CHECKING:
    from pathlib import Path

# As the program of that day wrote it, word for word: not the migration under test.
SCHEMA_2 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    height INTEGER NOT NULL,
    previous BLOB NOT NULL,
    miner BLOB NOT NULL,
    raw BLOB NOT NULL
);
CREATE INDEX blocks_by_parent ON blocks (previous, miner);
CREATE INDEX blocks_by_height ON blocks (height, previous, miner);
CREATE TABLE active (height INTEGER PRIMARY KEY, id BLOB NOT NULL REFERENCES blocks (id));
CREATE TABLE datasets (id BLOB PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE sealed (sequence INTEGER PRIMARY KEY, previous BLOB NOT NULL UNIQUE, raw BLOB NOT NULL);
CREATE TABLE alarms (
    sequence INTEGER PRIMARY KEY,
    time_s INTEGER NOT NULL,
    height INTEGER NOT NULL,
    id BLOB NOT NULL,
    depth INTEGER NOT NULL
);
PRAGMA user_version = 2;
"""


def make_version_2(path: Path, blocks: int) -> list[bytes]:
    builder = Builder(genesis_state(make_spec()))
    raws = builder.extend(blocks)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(SCHEMA_2)
        database.execute("INSERT INTO meta VALUES ('spec', ?)", (encode_spec(make_spec()),))
        pool = tiny_dataset()
        database.execute("INSERT INTO datasets VALUES (?, ?)", (pool.manifest.dataset_id, encode_payload(pool.pool)))
        for raw in raws:
            header = decode_block(raw).header
            values = (block_id(header), header.height, header.previous_hash, header.miner, raw)
            database.execute("INSERT INTO blocks (id, height, previous, miner, raw) VALUES (?, ?, ?, ?, ?)", values)
            database.execute("INSERT INTO active VALUES (?, ?)", (header.height, block_id(header)))
    return raws


def schema_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return [
            (table, *row[1:4])
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            for row in database.execute(f"PRAGMA table_info({table})")
        ]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_a_store_of_schema_2_goes_on_with_all_it_held(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    raws = make_version_2(path, 4)
    chain = open_chain(path)
    assert [raw for _, raw in chain.store.active_blocks(1, 9)] == raws
    fresh = open_chain(tmp_path / "fresh.db")
    for raw in raws:
        fresh.import_block(raw)
    assert describe(chain.head) == describe(fresh.head)
    Builder(chain).extend(2)
    assert version(path) == schema.SCHEMA_VERSION
    assert schema_of(path) == schema_of(tmp_path / "fresh.db")


def test_what_had_changed_on_disk_before_is_found_by_the_rules(tmp_path: Path) -> None:
    """The migration takes its checksums from what it finds: the replay after it still judges."""
    path = tmp_path / "chain.db"
    raws = make_version_2(path, 3)
    flipped = bytearray(raws[1])
    flipped[-1] ^= 1
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE blocks SET raw = ? WHERE height = 2", (bytes(flipped),))
    with pytest.raises(Fault, match=r"damaged: block .* breaks a rule: .*run `bnnchain repair`"):
        open_chain(path)


def test_a_migration_that_fails_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chain.db"
    raws = make_version_2(path, 2)
    before = schema_of(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE later (id); CREATE TABLE blocks (id)"))
    with pytest.raises(Fault, match="already exists"):
        Store(path)
    monkeypatch.undo()
    assert (version(path), schema_of(path)) == (2, before)
    assert [raw for _, raw in open_chain(path).store.active_blocks(1, 9)] == raws


def test_a_later_programs_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    Store(path, make_spec()).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Fault, match=f"later bnnchain \\(schema 99, this one knows {schema.SCHEMA_VERSION}\\)"):
        Store(path, make_spec())
    assert version(path) == 99


def test_a_store_from_before_the_first_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    Store(path, make_spec()).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(Fault, match="never released"):
        Store(path, make_spec())
