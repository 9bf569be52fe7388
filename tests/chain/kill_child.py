"""The process that gets killed: imports blocks and acknowledges each on its standard output once it is accepted.

kill_child.py STORE at NUMBER BLOCKS    import the hex lines of file BLOCKS, SIGKILL at the NUMBERth SQL statement
kill_child.py STORE mine SEED [NUMBER]  build and import blocks until killed from outside, or so; keep states often
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from builders import Builder, make_spec, open_chain

from bnnchain.chain import kept_states
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.types import BlockId, BlockKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.chain.chain import Chain

GENERATIONS = 3


def acknowledge(block_id: bytes) -> None:
    os.write(1, block_id.hex().encode() + b"\n")


def import_until(path: Path, fatal: int, blocks: Path) -> None:
    chain = open_chain(path)
    statements = die_at(chain, fatal)
    for line in blocks.read_text().split():
        acknowledge(chain.import_block(bytes.fromhex(line)).block_id)
    os.write(1, f"done {next(statements)}\n".encode())


def die_at(chain: Chain, fatal: int) -> Iterator[int]:
    """Let the process kill itself at an SQL statement; return the counter of statements."""
    statements = count(1)

    def trace(_: str) -> None:
        if next(statements) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    chain.store._database.set_trace_callback(trace)
    return statements


def mine_for_ever(path: Path, seed: int, fatal: int) -> None:
    kept_states.KEPT_STATE_BLOCKS = 4
    chain = open_chain(path, make_spec(max_family_generations=GENERATIONS))
    builder = Builder(chain, seed=seed)
    if fatal:
        die_at(chain, fatal)
    acknowledge(chain.head.head)
    for number in count():
        side = (
            Builder(chain.state_at(chain.store.active_id(chain.head.height - 1)), seed=seed + number)
            if (number % 7 == 6 and chain.head.height > 2)
            else None
        )
        if side is not None:
            # A branch of two that replaces the head: kills also fall into reorganisations.
            for raw in side.extend(2, kind=BlockKind.IDLE):
                acknowledge(chain.import_block(raw).block_id)
        acknowledge(import_next(chain, builder))


def import_next(chain: Chain, builder: Builder) -> BlockId:
    """Import the next block: a model's, or an idle one where the builder's plain search finds none that passes."""
    try:
        return chain.import_block(encode_block(builder.next())).block_id
    except (AssertionError, Invalid):
        return chain.import_block(encode_block(builder.idle())).block_id


if __name__ == "__main__":
    store, mode, *arguments = sys.argv[1:]
    if mode == "at":
        import_until(Path(store), int(arguments[0]), Path(arguments[1]))
    else:
        mine_for_ever(Path(store), int(arguments[0]), int(arguments[1]) if arguments[1:] else 0)
