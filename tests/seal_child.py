"""The process that gets killed while it seals: every block that could leave the machine is on its standard output.

seal_child.py STORE NUMBER [forget]    mine, SIGKILL at the NUMBERth SQL statement; forget: without the sealing record
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from builders import Builder, open_chain
from net.running import eventually

from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.codec import decode_header, encode_block
from bnnchain.producer import Producer, ProducerOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.chain import Import

BLOCKS = 3


async def main(path: Path, fatal: int, *, forgets: bool) -> None:
    chain = open_chain(path)
    statements = count(1)

    def trace(_: str) -> None:
        if next(statements) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def mine(_: Callable[[], bool]) -> bytes:
        return encode_block(Builder(chain).idle(nonce=secrets.randbits(60)))  # never the same block twice

    async def submit(raw: bytes) -> Import:
        header = decode_header(raw[:439])
        os.write(1, f"{header.previous_hash.hex()} {raw.hex()}\n".encode())  # from here on anybody may have it
        return chain.import_block(raw)

    if forgets:
        chain.store.put_sealed = lambda _previous, raw: raw  # type: ignore[method-assign]
    last = chain.head.height + BLOCKS
    producer = Producer(chain, Mempool(chain), mine, submit, ProducerOptions(hold_s=0, max_height=last))
    chain.store._database.set_trace_callback(trace)
    running = asyncio.create_task(producer.run())
    await eventually(lambda: chain.head.height >= last)
    producer.stop()
    await running
    chain.store._database.set_trace_callback(None)
    os.write(1, f"done {next(statements)}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), forgets=sys.argv[3:] == ["forget"]))
