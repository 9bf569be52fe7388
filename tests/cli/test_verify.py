"""`bnnchain verify` on a chain that was tampered with below the node's feet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain

from bnnchain.chain.schema import checksum_of

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


def tamper(home: Path, height: int, position: int, *, is_accident: bool = False) -> bytes:
    """Flip one bit of a stored block, with its checksum unless by accident; return the bytes it had."""
    with closing(sqlite3.connect(home / "chain.db")) as database:
        raw = bytes(database.execute("SELECT raw FROM blocks WHERE height = ?", (height,)).fetchone()[0])
    changed = bytearray(raw)
    changed[position] ^= 1
    write(home, height, bytes(changed), keeps_checksum=is_accident)
    return raw


def write(home: Path, height: int, raw: bytes, *, keeps_checksum: bool = False) -> None:
    with closing(sqlite3.connect(home / "chain.db")) as database, database:
        identity, checksum = database.execute("SELECT id, checksum FROM blocks WHERE height = ?", (height,)).fetchone()
        checksum = checksum if keeps_checksum else checksum_of(identity, raw)
        database.execute("UPDATE blocks SET raw = ?, checksum = ? WHERE height = ?", (raw, checksum, height))


@pytest.mark.parametrize(
    ("height", "position", "code"),
    [(1, MODEL_BIT, "bad-model-hash"), (3, 445, "bad-"), (2, 6, "bad-height"), (4, 430, "bad-header-signature")],
)
def test_the_first_bad_block_is_named_with_its_code(mined: Path, height: int, position: int, code: str) -> None:
    raw = tamper(mined, height, position)
    done = bnnchain("verify", "--home", str(mined), check=False)
    write(mined, height, raw)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: block {height}: {code}"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    bnnchain("verify", "--home", str(mined))


def test_a_block_that_the_disk_has_changed_is_called_damage_and_no_bad_block(mined: Path) -> None:
    raw = tamper(mined, 2, MODEL_BIT, is_accident=True)
    done = bnnchain("verify", "--home", str(mined), check=False)
    write(mined, 2, raw)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the store is damaged: block ")
    assert done.stderr.endswith("run `bnnchain repair`\n")
    bnnchain("verify", "--home", str(mined))
