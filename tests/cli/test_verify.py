"""`bnnchain verify` on a chain that was tampered with below the node's feet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain

if TYPE_CHECKING:
    from pathlib import Path

MODEL_BIT = 480
"""A byte inside the model of the first block: its header has 439, the shape some 20 more."""


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("verify") / "home"
    bnnchain("init", "--home", str(home))
    with NodeProcess("mine", "--blocks", "4", "--seed", "1", home=home) as miner:
        miner.wait_ready()
        miner.wait_height(4)
        assert miner.stop() == 0
    return home


def tamper(home: Path, height: int, position: int) -> bytes:
    """Flip one bit of a stored block; return the bytes it had."""
    with closing(sqlite3.connect(home / "chain.db")) as database, database:
        query = "SELECT raw FROM blocks WHERE height = ?"
        raw = bytes(database.execute(query, (height,)).fetchone()[0])
        changed = bytearray(raw)
        changed[position] ^= 1
        database.execute("UPDATE blocks SET raw = ? WHERE height = ?", (bytes(changed), height))
    return raw


def restore(home: Path, height: int, raw: bytes) -> None:
    with closing(sqlite3.connect(home / "chain.db")) as database, database:
        database.execute("UPDATE blocks SET raw = ? WHERE height = ?", (raw, height))


@pytest.mark.parametrize(
    ("height", "position", "code"),
    [(1, MODEL_BIT, "bad-model-hash"), (3, 445, "bad-"), (2, 6, "bad-height"), (4, 430, "bad-header-signature")],
)
def test_the_first_bad_block_is_named_with_its_code(mined: Path, height: int, position: int, code: str) -> None:
    raw = tamper(mined, height, position)
    done = bnnchain("verify", "--home", str(mined), check=False)
    restore(mined, height, raw)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: block {height}: {code}"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    bnnchain("verify", "--home", str(mined))
