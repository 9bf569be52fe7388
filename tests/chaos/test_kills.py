"""SIGKILL at random moments, also inside commits and reorganisations: no store is corrupt, no accepted block is lost.

KILLS=200 CHAOS_SEED=7 pytest -rP tests/chaos/test_kills.py
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from builders import GENESIS_TIME, Builder, make_spec, open_chain

from bnnchain.chain.store import Store
from bnnchain.chain.verify import verify_chain
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.reference import ReferenceEvaluator

CHILD = Path(__file__).parents[1] / "chain" / "kill_child.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHILD.parents[1])}
KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
STATEMENTS = 160
"""A child that dies at one of its first so many SQL statements has stored up to a dozen blocks."""


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)


def run_until_killed(path: Path, attempt: int, rng: random.Random) -> tuple[str, bytes]:
    """Let a child build blocks until it dies; return how, and what it had acknowledged."""
    if attempt % 2:
        fatal = 1 + rng.randrange(STATEMENTS)
        with start(path, "mine", attempt, fatal) as child:
            assert child.stdout is not None
            output = child.stdout.read()
        return f"at statement {fatal}", output
    delay_s = rng.uniform(0, 0.25)
    with start(path, "mine", attempt) as child:
        assert child.stdout is not None
        # Up to two more blocks first: on a busy machine the moments below would all lie within the first.
        seen = b"".join(child.stdout.readline() for _ in range(1 + rng.randrange(3)))
        time.sleep(delay_s)
        child.kill()
        output = seen + child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    return f"after {delay_s:.3f} s", output


def test_killed_at_random_moments(tmp_path: Path) -> None:
    path, rng = tmp_path / "chain.db", random.Random(SEED)
    acknowledged: set[bytes] = set()
    reorganised = kept = 0
    for attempt in range(KILLS):
        how, output = run_until_killed(path, attempt, rng)
        context = f"CHAOS_SEED={SEED} KILLS={KILLS}: kill {attempt}, {how}"
        acknowledged |= {bytes.fromhex(line) for line in output.decode().split() if len(line) == 64}
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), context
            assert database.execute("PRAGMA foreign_key_check").fetchall() == [], context
        with closing(Store(path, make_spec(max_family_generations=3))) as store:
            lost = {each for each in acknowledged - {store.spec.genesis_id} if not store.has_block(each)}
            assert lost == set(), context
            assert store.block_count() <= len(acknowledged) + attempt + 1, context
            height = store.height(store.head()) or 0
            assert len(store.active_blocks(1, height + 1)) == height, context
            reorganised, kept = store.block_count() - height, len(store.state_heights())
    chain = open_chain(path, make_spec(max_family_generations=3))
    state = verify_chain(chain.store, ReferenceEvaluator, GENESIS_TIME + 10**6, lambda _: None)
    assert state.head == chain.head.head
    print(f"seed {SEED}: {KILLS} kills, height {state.height}, {reorganised} blocks left by reorganisations")
    assert state.height >= KILLS // 2, "too few blocks to show anything"
    assert reorganised > 0, "no reorganisation among them"
    assert kept > 0, "no state was kept meanwhile"
    Builder(chain).extend(2, kind=BlockKind.IDLE)
