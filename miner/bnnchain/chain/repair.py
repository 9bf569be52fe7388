"""A damaged store: what is wrong with it, and what of it can still be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from bnnchain.chain.schema import checksum_of, version_of
from bnnchain.consensus.types import BlockId, DatasetId
from bnnchain.datasets.chunks import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PROBLEMS = 8
"""Named at most; one is enough."""


def examine(path: Path) -> list[str]:
    """Return what is wrong with a store's file, a line each, ``MAX_PROBLEMS`` at most; every page and block is read."""
    problems = list[str]()
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            version_of(database)
            rows = database.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})").fetchall()
            problems += [line for (text,) in rows if text != "ok" for line in str(text).splitlines()]
            for block_id, raw, checksum in database.execute("SELECT id, raw, checksum FROM blocks ORDER BY sequence"):
                if checksum_of(block_id, raw) != checksum:
                    problems.append(f"block {block_id.hex()[:16]} has changed on disk")
                if len(problems) >= MAX_PROBLEMS:
                    break
    except sqlite3.Error as error:
        problems.append(str(error))
    return problems[:MAX_PROBLEMS]


class Wreck:
    """Reads what can be read of a damaged store, in order of arrival."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def close(self) -> None:
        self._database.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks that are as they were stored."""
        for sequence in range(1, self._last("blocks") + 1):
            row = self._row("SELECT id, raw, checksum FROM blocks WHERE sequence = ? AND is_pruned = 0", sequence)
            if row is not None and checksum_of(row[0], row[1]) == row[2]:
                yield row[1]

    def sealed(self) -> Iterator[tuple[BlockId, bytes]]:
        """Yield (parent, block) of this node's own sealed blocks: it must sign no other on those parents."""
        for sequence in range(1, self._last("sealed") + 1):
            row = self._row("SELECT previous, raw FROM sealed WHERE sequence = ?", sequence)
            if row is not None:
                yield BlockId(row[0]), row[1]

    def payload(self, dataset_id: DatasetId) -> bytes | None:
        """Return a data set's pool payload, whatever has become of it, or None."""
        row = self._row(
            "SELECT payload FROM datasets WHERE id = ? AND length(payload) <= ?", dataset_id, MAX_PAYLOAD_BYTES
        )
        return None if row is None else row[0]

    def _last(self, table: str) -> int:
        row = self._row(f"SELECT max(sequence) FROM {table}")  # noqa: S608  (a name from above)
        return 0 if row is None else int(row[0] or 0)

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with suppress(sqlite3.Error):
            row: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
            return row
        return None
