"""kill -9 at every statement of a commit and inside its last write: nothing accepted is lost.

Kills at random moments: tests/chaos/test_kills.py.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from builders import ALICE, Builder, close_opened, make_spec, open_chain

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.header import block_id
from bnnchain.consensus.state import genesis_state

CHILD = Path(__file__).with_name("kill_child.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHILD.parents[1])}
START_TIMEOUT_S = 60


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)


def forked_blocks() -> list[bytes]:
    """Return a trunk of two, a block that wins, and a branch of two that replaces it."""
    trunk = Builder(genesis_state(make_spec()))
    raws = trunk.extend(2)
    left, right = Builder(trunk.state), Builder(trunk.state, key=ALICE, seed=1)
    return [*raws, *left.extend(), *right.extend(2)]


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    return forked_blocks()


def check_reopened(path: Path, acknowledged: list[str], raws: list[bytes]) -> int:
    """Assert that the store is whole and holds a prefix of ``raws`` with all acknowledged; return its block count."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    chain = open_chain(path)
    stored = chain.store.block_count()
    assert len(acknowledged) <= stored <= len(acknowledged) + 1
    for raw in raws[:stored]:
        identity = block_id(decode_block(raw).header)
        assert chain.store.block(identity) == raw
    expected = open_chain(path.with_name("expected.db"))
    for raw in raws[:stored]:
        expected.import_block(raw)
    assert chain.head.head == expected.head.head
    assert chain.store.active_blocks(1, 99) == expected.store.active_blocks(1, 99)
    for raw in raws[stored:]:
        assert chain.import_block(raw).is_new, "and it goes on"
    assert chain.head.height == 4
    close_opened()
    return stored


def statement_count(tmp_path: Path, raws: list[bytes]) -> int:
    path = tmp_path / "count.db"
    chain = open_chain(path)
    statements: list[str] = []
    chain.store._database.set_trace_callback(statements.append)
    for raw in raws:
        chain.import_block(raw)
    chain.store._database.set_trace_callback(None)
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") == len(raws)
    return len(statements)


@pytest.mark.slow
def test_killed_at_every_statement(tmp_path: Path, blocks: list[bytes]) -> None:
    """Before BEGIN, between BEGIN and COMMIT, after COMMIT, of plain blocks, side blocks and a reorganisation."""
    lines = tmp_path / "blocks"
    lines.write_text("\n".join(raw.hex() for raw in blocks))
    last = statement_count(tmp_path, blocks)
    kept = []
    # The trunk's first block commits as its second does; start behind it.
    for fatal in range(7, last + 1):
        directory = tmp_path / str(fatal)
        directory.mkdir()
        with start(directory / "chain.db", "at", fatal, lines) as child:
            output, _ = child.communicate(timeout=START_TIMEOUT_S)
        assert child.returncode == -signal.SIGKILL, f"statement {fatal}: {output!r}"
        kept.append(check_reopened(directory / "chain.db", output.decode().split(), blocks))
    assert kept == sorted(kept)
    assert set(kept) >= {1, 2, 3, 4}


def test_a_commit_torn_at_any_byte_is_whole_or_absent(tmp_path: Path, blocks: list[bytes]) -> None:
    """What a kill, or a power cut, inside COMMIT leaves: the log cut anywhere in what the last commit wrote."""
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    for raw in blocks[:4]:
        chain.import_block(raw)
    log = path.with_name("chain.db-wal")
    start_bytes = log.stat().st_size
    chain.import_block(blocks[4])
    end_bytes = log.stat().st_size
    assert end_bytes > start_bytes
    rng = random.Random(4)
    cuts = sorted(
        {start_bytes, start_bytes + 1, end_bytes - 1, end_bytes, *rng.sample(range(start_bytes, end_bytes), 12)}
    )
    stored = []
    for cut in cuts:
        directory = tmp_path / str(cut)
        directory.mkdir()
        shutil.copy(path, directory / "chain.db")
        content = log.read_bytes()
        (directory / "chain.db-wal").write_bytes(content[:cut])
        with closing(sqlite3.connect(directory / "chain.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        copy = open_chain(directory / "chain.db")
        stored.append(copy.store.block_count())
        assert copy.head.height == (4 if stored[-1] == 5 else 3)
        if stored[-1] == 4:
            assert copy.import_block(blocks[4]).reorg_depth == 1
    assert stored[0] == 4
    assert stored[-1] == 5
    assert stored == sorted(stored)
