"""Blocks and data sets on disk: SQLite in WAL mode, fully synchronous, one transaction a block or a range of blocks.

A block is either wholly in the store or not at all, whatever moment the power fails.  The store judges nothing, but it
hands out no block that the disk has changed.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bnnchain.chain.schema import SCHEMA_VERSION, Damaged, checksum_of, migrate, version_of
from bnnchain.consensus.codec import HEADER_BYTES
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.spec import ChainSpec, decode_spec, encode_spec
from bnnchain.consensus.types import BlockId, DatasetId, Height

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bnnchain.consensus.types import Header, PublicKey

BUSY_TIMEOUT_S = 10.0
SEALED_KEPT = 16
"""Own sealed blocks remembered: those of the last parents this node mined on."""
ALARMS_KEPT = 16
PRUNE_STEP_BLOCKS = 1_024
"""Blocks pruned in one transaction, so that nothing waits long for the disk."""

StoredBlock: TypeAlias = "tuple[bytes, bytes, int, int]"
"""A row of ``blocks``: id, raw, checksum, is_pruned."""

_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON")


@dataclass(frozen=True, slots=True)
class DeepReorg:
    """A reorganisation deeper than a node expects to see: somebody has rewritten history, or the network was split."""

    time_s: int
    """When, by this node's clock."""
    height: int
    """Of the block that brought it."""
    block_id: BlockId
    depth: int
    """Blocks that left the active chain."""


class Store:
    """The blocks that passed every rule, which of them are active, and the data sets' pool payloads.

    Safe to use from several threads.  Raises :class:`Fault` where the disk or the file fails.
    """

    def __init__(self, path: Path, spec: ChainSpec | None = None) -> None:
        """Open the store at ``path``; a new one is made for ``spec``, an existing one must be of the same chain."""
        self._lock = threading.RLock()
        self.path = path
        if spec is None and not path.exists():
            raise Fault(f"there is no store at {path}; run `bnnchain init` first")
        try:
            self._database = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise Fault(f"cannot open the store {path}: {error}") from error
        try:
            self.spec = self._open(path, spec)
        except BaseException:
            self._database.close()
            raise

    def _open(self, path: Path, spec: ChainSpec | None) -> ChainSpec:
        with self._reading() as database:
            database.create_function("checksum_of", 2, checksum_of, deterministic=True)
            for pragma in _PRAGMAS:
                database.execute(pragma)
        with self._transaction() as database:
            if version_of(database) == 0:
                if spec is None:
                    raise Fault(f"{path} is not a chain's store; run `bnnchain init` first")
                migrate(database, path)
                database.execute("INSERT INTO meta VALUES ('spec', ?)", (encode_spec(spec),))
                return spec
            if version_of(database) != SCHEMA_VERSION:
                migrate(database, path)
            row = database.execute("SELECT value FROM meta WHERE key = 'spec'").fetchone()
        try:
            stored = decode_spec(row[0] if row else b"")
        except Invalid as error:
            raise Damaged(f"{path} is damaged: its chain spec breaks a rule: {error}") from error
        if spec is not None and spec.genesis_id != stored.genesis_id:
            raise Fault(f"{path} belongs to another chain ({stored.name}, genesis {stored.genesis_id.hex()[:16]})")
        return stored

    def close(self) -> None:
        """Close the file; everything committed is on disk already."""
        with self._lock:
            self._database.close()

    def size_bytes(self) -> int:
        """Return what the store takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def check_writable(self) -> None:
        """Write and sync a change of nothing; raises :class:`Fault` where the disk would take no block now."""
        with self._transaction() as database:
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def compact(self) -> None:
        """Give the room of dropped and pruned content back to the disk; needs as much again while it runs."""
        with self._reading() as database:
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # VACUUM, too, writes to the log first

    def commit(
        self, block_id: BlockId, header: Header, raw: bytes, branch: Sequence[BlockId], alarm: DeepReorg | None = None
    ) -> None:
        """Store a block; in the same transaction make ``branch`` active, which ends at it, and keep the alarm.

        branch: ids from the first block above the fork point up to ``block_id``; empty where the head stays.
        """
        with self._transaction() as database:
            _insert(database, block_id, header, raw)
            _activate(database, header.height, branch, alarm)

    def commit_range(self, blocks: Sequence[tuple[BlockId, Header, bytes]]) -> None:
        """Store blocks that follow each other and the head, and make them active: all of them or none, in one flush."""
        with self._transaction() as database:
            for block_id, header, raw in blocks:
                _insert(database, block_id, header, raw)
                _activate(database, header.height, [block_id], None)

    def activate(self, height: Height, branch: Sequence[BlockId], alarm: DeepReorg | None = None) -> None:
        """Make a branch of stored blocks active; its last block has that height."""
        with self._transaction() as database:
            _activate(database, height, branch, alarm)

    def has_block(self, block_id: BlockId) -> bool:
        """Answer whether the block is stored (active or not)."""
        return self._one("SELECT 1 FROM blocks WHERE id = ?", block_id) is not None

    def block(self, block_id: BlockId) -> bytes | None:
        """Return a block's bytes, or None; raises :class:`Unavailable` where they were pruned."""
        row = self._one("SELECT id, raw, checksum, is_pruned FROM blocks WHERE id = ?", block_id)
        return _whole(row)[1] if row else None

    def height(self, block_id: BlockId) -> Height | None:
        """Return the height of a stored block, pruned or not, or None."""
        row = self._one("SELECT height FROM blocks WHERE id = ?", block_id)
        return Height(row[0]) if row else None

    def previous(self, block_id: BlockId) -> BlockId | None:
        """Return the id of a stored block's parent, or None for a block that is not stored."""
        row = self._one("SELECT previous FROM blocks WHERE id = ?", block_id)
        return BlockId(row[0]) if row else None

    def head(self) -> BlockId:
        """Return the id of the active chain's last block (genesis where there is none)."""
        row = self._one("SELECT id FROM active ORDER BY height DESC LIMIT 1")
        return BlockId(row[0]) if row else self.spec.genesis_id

    def active_id(self, height: int) -> BlockId | None:
        """Return the id of the active chain's block at ``height``, or None above the head."""
        if height == 0:
            return self.spec.genesis_id
        row = self._one("SELECT id FROM active WHERE height = ?", height)
        return BlockId(row[0]) if row else None

    def active_blocks(self, start: int, count: int) -> list[tuple[BlockId, bytes]]:
        """Return (id, bytes) of up to ``count`` active blocks from height ``start`` (at least 1) upwards.

        Raises :class:`Unavailable` where one of them was pruned.
        """
        return [_whole(row) for row in self._active(start, count)]

    def active_headers(self, start: int, count: int) -> list[bytes]:
        """Return the encoded headers of such a range; pruned blocks have kept theirs."""
        return [_intact(row)[1][:HEADER_BYTES] for row in self._active(start, count)]

    def _active(self, start: int, count: int) -> list[StoredBlock]:
        with self._reading() as database:
            return database.execute(
                "SELECT blocks.id, raw, checksum, is_pruned FROM active JOIN blocks ON blocks.id = active.id"
                " WHERE active.height >= ? ORDER BY active.height LIMIT ?",
                (start, count),
            ).fetchall()

    def block_count(self) -> int:
        """Return how many blocks are stored, active or not."""
        row = self._one("SELECT count(*) FROM blocks")
        return int(row[0]) if row else 0

    def children(self, previous: Sequence[BlockId], limit: int) -> list[bytes]:
        """Return the headers of stored blocks on those parents that are not active, newest first, at most ``limit``."""
        places = ",".join("?" * len(previous))
        with self._reading() as database:
            rows = database.execute(
                f"SELECT id, raw, checksum, is_pruned FROM blocks WHERE previous IN ({places}) AND NOT EXISTS"  # noqa: S608
                " (SELECT 1 FROM active WHERE active.height = blocks.height AND active.id = blocks.id)"
                " ORDER BY sequence DESC LIMIT ?",
                (*previous, limit),
            ).fetchall()
        return [_intact(row)[1][:HEADER_BYTES] for row in rows]

    def siblings(self, previous: BlockId, miner: PublicKey, limit: int) -> list[bytes]:
        """Return the headers of up to ``limit`` stored blocks of one miner on one parent, oldest first."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT id, raw, checksum, is_pruned FROM blocks WHERE previous = ? AND miner = ?"
                " ORDER BY sequence LIMIT ?",
                (previous, miner, limit),
            ).fetchall()
        return [_intact(row)[1][:HEADER_BYTES] for row in rows]

    def doubly_signed(self, least_height: int, limit: int) -> list[tuple[BlockId, PublicKey]]:
        """Return (parent, miner) wherever a miner has several stored blocks on one parent, from a height upwards."""
        with self._reading() as database:
            return database.execute(
                "SELECT previous, miner FROM blocks WHERE height >= ? GROUP BY previous, miner HAVING count(*) > 1"
                " ORDER BY max(sequence) DESC LIMIT ?",
                (least_height, limit),
            ).fetchall()

    def put_state(self, block_id: BlockId, height: int, data: bytes, drop: Sequence[int] = ()) -> None:
        """Keep a checked state's bytes; forget those of the heights in ``drop``."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", (block_id, height, data))
            database.executemany("DELETE FROM states WHERE height = ?", [(each,) for each in drop])

    def state(self, block_id: BlockId) -> bytes | None:
        """Return the bytes of the checked state after a block, or None where none is kept."""
        row = self._one("SELECT data FROM states WHERE id = ?", block_id)
        return row[0] if row else None

    def state_heights(self) -> list[int]:
        """Return the heights of the checked states kept, lowest first."""
        with self._reading() as database:
            return [height for (height,) in database.execute("SELECT DISTINCT height FROM states ORDER BY height")]

    def pruned_height(self) -> Height:
        """Return the height up to which blocks were pruned, 0 where none was."""
        row = self._one("SELECT value FROM meta WHERE key = 'pruned'")
        return Height(int(row[0])) if row else Height(0)

    def prune(self, height: int) -> None:
        """Keep of all blocks up to ``height`` their headers alone, active or not, a bounded step at a time.

        The file does not shrink, its room is used again.
        """
        while (done := self.pruned_height()) < height:
            upto = min(height, done + PRUNE_STEP_BLOCKS)
            with self._transaction() as database:
                database.execute(
                    "UPDATE blocks SET raw = substr(raw, 1, ?), is_pruned = 1,"
                    " checksum = checksum_of(id, substr(raw, 1, ?)) WHERE height > ? AND height <= ? AND is_pruned = 0",
                    (HEADER_BYTES, HEADER_BYTES, done, upto),
                )
                database.execute("INSERT OR REPLACE INTO meta VALUES ('pruned', ?)", (upto,))

    def put_sealed(self, previous: BlockId, raw: bytes) -> bytes:
        """Keep this node's own block on ``previous``, on disk before this returns; return the one that counts.

        That is the first one ever kept for this parent, until :meth:`drop_sealed`: never two.
        """
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO sealed (previous, raw) VALUES (?, ?)", (previous, raw))
            database.execute(
                "DELETE FROM sealed WHERE sequence <= (SELECT max(sequence) FROM sealed) - ?", (SEALED_KEPT,)
            )
        return self.sealed(previous) or raw

    def sealed(self, previous: BlockId) -> bytes | None:
        """Return the block that this node has sealed on ``previous``, or None."""
        row = self._one("SELECT raw FROM sealed WHERE previous = ?", previous)
        return row[0] if row else None

    def drop_sealed(self, previous: BlockId) -> None:
        """Forget the block sealed on ``previous``: it has never left this machine and never will."""
        with self._transaction() as database:
            database.execute("DELETE FROM sealed WHERE previous = ?", (previous,))

    def alarms(self) -> list[DeepReorg]:
        """Return the deep reorganisations of this store, the last ``ALARMS_KEPT``, oldest first."""
        with self._reading() as database:
            rows = database.execute("SELECT time_s, height, id, depth FROM alarms ORDER BY sequence").fetchall()
        return [DeepReorg(time_s, height, BlockId(identity), depth) for time_s, height, identity, depth in rows]

    def dataset_sizes(self) -> dict[DatasetId, int]:
        """Return the stored pool payloads with their sizes in bytes."""
        with self._reading() as database:
            rows = database.execute("SELECT id, length(payload) FROM datasets").fetchall()
        return {DatasetId(identity): size for identity, size in rows}

    def drop_dataset(self, dataset_id: DatasetId) -> None:
        """Forget a data set's pool payload."""
        with self._transaction() as database:
            database.execute("DELETE FROM datasets WHERE id = ?", (dataset_id,))

    def put_dataset(self, dataset_id: DatasetId, payload: bytes) -> None:
        """Store a data set's pool payload, which the caller has checked against its manifest."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?)", (dataset_id, payload))

    def has_dataset(self, dataset_id: DatasetId) -> bool:
        """Answer whether a data set's pool payload is stored."""
        return self._one("SELECT 1 FROM datasets WHERE id = ?", dataset_id) is not None

    def dataset(self, dataset_id: DatasetId) -> bytes | None:
        """Return a data set's pool payload, or None."""
        row = self._one("SELECT payload FROM datasets WHERE id = ?", dataset_id)
        return row[0] if row else None

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with self._reading() as database:
            row: tuple[Any, ...] | None = database.execute(query, values).fetchone()
            return row

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.DatabaseError as error:
                if type(error) is sqlite3.DatabaseError:  # "malformed" and "not a database", nothing else
                    raise Damaged(f"the store is damaged: {error}") from error
                raise Fault(f"the store failed: {error}") from error
            except sqlite3.Error as error:
                raise Fault(f"the store failed: {error}") from error

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let the body read the store as it is now, whatever other processes write to it meanwhile."""
        with self._reading() as database:
            database.execute("BEGIN")
            try:
                yield
            finally:
                database.execute("ROLLBACK")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise


def _insert(database: sqlite3.Connection, block_id: BlockId, header: Header, raw: bytes) -> None:
    database.execute(
        "INSERT INTO blocks (id, height, previous, miner, raw, checksum) VALUES (?, ?, ?, ?, ?, ?)",
        (block_id, header.height, header.previous_hash, header.miner, raw, checksum_of(block_id, raw)),
    )


def _activate(database: sqlite3.Connection, height: int, branch: Sequence[BlockId], alarm: DeepReorg | None) -> None:
    if branch:
        first = height - len(branch) + 1
        database.execute("DELETE FROM active WHERE height >= ?", (first,))
        database.executemany("INSERT INTO active VALUES (?, ?)", enumerate(branch, first))
    if alarm is not None:
        values = (alarm.time_s, alarm.height, alarm.block_id, alarm.depth)
        database.execute("INSERT INTO alarms (time_s, height, id, depth) VALUES (?, ?, ?, ?)", values)
        database.execute("DELETE FROM alarms WHERE sequence <= (SELECT max(sequence) FROM alarms) - ?", (ALARMS_KEPT,))


def _intact(row: StoredBlock) -> tuple[BlockId, bytes]:
    block_id, raw, checksum, _ = row
    if checksum_of(block_id, raw) != checksum:
        raise Damaged(f"the store is damaged: block {block_id.hex()[:16]} has changed on disk")
    return BlockId(block_id), raw


def _whole(row: StoredBlock) -> tuple[BlockId, bytes]:
    if row[3]:
        raise Unavailable(f"block {row[0].hex()[:16]} was pruned here; ask a node that keeps all")
    return _intact(row)
