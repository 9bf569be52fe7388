"""The store's tables, and the way there from every older store: a list of migrations, each applied once, in order.

A new store is an empty one that all of them have passed through, so that old and new cannot differ.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Fault

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FIRST_VERSION = 2
"""Of the oldest store that is read.  Version 1 was never released: it had no index of who signed what."""

_VERSION_2 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    sequence INTEGER PRIMARY KEY,          -- order of arrival: of equal weights the first seen counts
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
CREATE TABLE sealed (                      -- this node's own blocks, written before anybody sees them
    sequence INTEGER PRIMARY KEY,
    previous BLOB NOT NULL UNIQUE,         -- at most one on a parent: two are what equivocation is
    raw BLOB NOT NULL
);
CREATE TABLE alarms (
    sequence INTEGER PRIMARY KEY,
    time_s INTEGER NOT NULL,
    height INTEGER NOT NULL,
    id BLOB NOT NULL,
    depth INTEGER NOT NULL
);
"""
_VERSION_3 = """
ALTER TABLE blocks ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;   -- of id and raw: SQLite does not see a flipped bit
ALTER TABLE blocks ADD COLUMN is_pruned INTEGER NOT NULL DEFAULT 0;  -- raw is the header alone
UPDATE blocks SET checksum = checksum_of(id, raw);
CREATE TABLE states (                      -- checked states, so that a start need not replay the chain
    id BLOB PRIMARY KEY,
    height INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX states_by_height ON states (height);
"""
MIGRATIONS = (_VERSION_2, _VERSION_3)
"""The statements that lead to version ``FIRST_VERSION``, to the next one, and so on; never changed, only added to."""
SCHEMA_VERSION = FIRST_VERSION + len(MIGRATIONS) - 1


class Damaged(Fault):
    """The disk does not hold any more what was written; the message says what to do."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; run `bnnchain repair`")


def checksum_of(block_id: bytes, raw: bytes) -> int:
    """Return the CRC-32 that a stored block must still have when it is read."""
    return zlib.crc32(raw, zlib.crc32(block_id))


def version_of(database: sqlite3.Connection) -> int:
    """Return the version of a store's schema, 0 for an empty one."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring a store to ``SCHEMA_VERSION`` inside the caller's transaction: all of it, or nothing.

    The connection knows :func:`checksum_of` by this name.

    Raises :class:`Fault` where it is of a later version of this program, or older than any that is read.
    """
    version = version_of(database)
    if version > SCHEMA_VERSION:
        raise Fault(
            f"{path} was written by a later bnnchain (schema {version}, this one knows {SCHEMA_VERSION});"
            " upgrade bnnchain, or choose another --home"
        )
    if 0 < version < FIRST_VERSION:
        raise Fault(f"{path} has schema {version}, of a bnnchain that was never released; set it aside and sync anew")
    applied = max(0, version - FIRST_VERSION + 1)
    for statements in MIGRATIONS[applied:]:
        for statement in statements.split(";"):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
