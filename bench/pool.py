"""How much faster do two workers of a pool draw tickets than one, and how much would the machine let them?

    python bench/pool.py [--turns 5] [--seconds 3]

Each turn measures one worker, then two, one thread each: tickets of an IDLE block that none wins, and a loop in Python
that needs nothing but its processor, on the same workers.  The second ratio is the machine's ceiling at that moment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.chain.validator import Validator
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.digits import load_digits
from bnnchain.mining.genesis import new_spec
from bnnchain.mining.pool.address import parse_pool_address
from bnnchain.mining.pool.workers import PoolOptions, WorkerPool
from bnnchain.mining.template import IDLE, draft_block
from bnnchain_kernels.select import select

GENESIS_TIME = 1_700_000_000


def never() -> bool:
    return False


def spin(seconds: float) -> float:
    """Return rounds a second of a loop."""
    until, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        sum(range(10_000))
        rounds += 1
    return rounds / seconds


def spin_rate(pool: WorkerPool, seconds: float) -> float:
    futures = [pool.submit(spin, seconds) for _ in range(pool.threads)]
    return sum(pool.result(future, never) for future in futures)


def ticket_rate(pool: WorkerPool, seconds: float) -> float:
    """Return tickets a second, after the first batches have told how long they take."""
    data = load_digits()
    miner = public_key(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
    state = genesis_state(new_spec("main", data.manifest, miner, GENESIS_TIME))
    header = replace(draft_block(state, IDLE, miner, (), GENESIS_TIME + 60).header, target=1)
    validator = Validator(select("auto"))
    validator.add_dataset(DatasetId(data.manifest.dataset_id), data.pool)
    drawer, nonce = pool.drawer(state, header, validator, never, None), 0
    for _ in range(4 * pool.threads):
        drawer.draw(header, nonce)
        nonce += drawer.tickets_together
    started, first = time.monotonic(), nonce
    while time.monotonic() - started < seconds:
        drawer.draw(header, nonce)
        nonce += drawer.tickets_together
    return (nonce - first) / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    gains, ceilings = [], []
    with (
        WorkerPool(PoolOptions(parse_pool_address("local:1"))) as one,
        WorkerPool(PoolOptions(parse_pool_address("local:2"))) as two,
    ):
        for turn in range(options.turns):
            spins = [spin_rate(pool, options.seconds) for pool in (one, two)]
            tickets = [ticket_rate(pool, options.seconds) for pool in (one, two)]
            gains.append(tickets[1] / tickets[0])
            ceilings.append(spins[1] / spins[0])
            load = os.getloadavg()[0]
            print(
                f"turn {turn + 1}: load {load:.1f}, {tickets[0]:.0f} and {tickets[1]:.0f} tickets/s:"
                f" {gains[-1]:.2f} x; a bare loop: {ceilings[-1]:.2f} x",
                flush=True,
            )
    gain, ceiling = statistics.median(gains), statistics.median(ceilings)
    print(f"median: two workers {gain:.2f} x one; a bare loop {ceiling:.2f} x; {gain / ceiling:.2f} of it")


if __name__ == "__main__":
    main()
