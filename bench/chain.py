"""How many transactions does a node take, how fast does a block travel, and how long does a conflict last?

    python bench/chain.py [--repeats 9] [--data DIR] [--nodes 8] [--json FILE]

  transactions   one IDLE block of 146 transfers by 146 senders: decoding, judging (each signature verified, none seen
                 before; and again with all seen before, as from a mempool) and committing, by processor time of one
                 core; beside it the whole import by the clock, the disk's flush included
  table 3        as the paper measured it: 300 transactions, 146 a block, five founders trained before, one node; DIR
                 holds the MNIST files; without it the rows say "not measured"
  propagation    nodes in a line, real gRPC on loopback in one process: from the submission at one end until the last
                 has the block as its head
  conflict       the same line, its halves on different blocks of one height: from the next block at one end until all
                 nodes have it as their head
``--json -`` is stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.backends import evaluator_factory
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus import transactions
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.params import preset
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transfer
from bnnchain.consensus.types import Amount, DatasetId, Height
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.mnist import load_mnist
from bnnchain.datasets.payload import encode_payload
from bnnchain.mining.genesis import new_spec
from bnnchain.mining.miner import Miner, MiningOptions
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain.mining.template import Candidate, draft_block
from bnnchain.mining.tickets import draw_winning_ticket
from bnnchain.net.network import Network
from bnnchain_kernels.measure import machine_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Transaction
    from bnnchain.datasets.dataset import Dataset

PAPER_TRANSACTIONS = 300
PAPER_BLOCK = 146
GENESIS_TIME = 1_700_000_000
PATIENCE_S = 60.0
POLL_S = 0.0005


def key_of(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "little"))


MINER, RIVAL = key_of(1), key_of(2)
SENDERS = [key_of(100 + number) for number in range(PAPER_TRANSACTIONS)]


def main() -> None:
    options = read_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    with tempfile.TemporaryDirectory(prefix="bnnchain-bench-") as directory:
        bench = Bench(Path(directory), load_digits())
        load = os.getloadavg()[0]
        backend = bench.factory(bench.dataset.pool).backend
        print(f"{machine_name()}, {os.cpu_count()} cpus, load {load:.1f}, backend {backend}", file=report)
        result: dict[str, Any] = {"machine": machine_name(), "load": load, "backend": backend}
        result["transactions"] = measure_transactions(bench, options.repeats)
        show(report, "transactions", [result["transactions"]])
        result["table_3"] = [measure_table_3(bench, name, options.data) for name in ("paper-low", "paper-medium")]
        show(report, "table 3", result["table_3"])
        lines = [asyncio.run(measure_line(bench, options.nodes, count, options.repeats)) for count in (0, PAPER_BLOCK)]
        result["lines"] = lines
        show(report, "propagation and conflict", lines)
    if options.json:
        text = json.dumps(result, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n", encoding="utf-8")


def show(report: Any, title: str, rows: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401  (a text stream)
    print(f"\n{title}", file=report)
    for row in rows:
        print("  " + ", ".join(f"{name} {value}" for name, value in row.items()), file=report, flush=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """A place for stores, and a small data set for what does not depend on learning."""

    directory: Path
    dataset: Dataset

    @property
    def factory(self) -> Any:  # noqa: ANN401  (an EvaluatorFactory)
        return evaluator_factory("auto")

    def open(self, name: str, preset_name: str = "regtest", dataset: Dataset | None = None) -> Chain:
        """Return a new chain on a store of its own, all senders rich; chains of one preset are the same chain."""
        data = dataset or self.dataset
        spec = new_spec(preset_name, data.manifest, public_key(MINER), GENESIS_TIME)
        coins = sorted((public_key(key), Amount(10**9)) for key in SENDERS)
        spec = replace(spec, allocations=tuple(coins))
        store = Store(self.directory / f"{name}.db", spec)
        store.put_dataset(DatasetId(data.manifest.dataset_id), encode_payload(data.pool))
        return Chain(store, self.factory)


def transfers(chain_id: int, count: int, nonce: int = 0) -> list[Transaction]:
    return [
        sign_transfer(
            key,
            chain_id=chain_id,
            nonce=nonce,
            recipient=public_key(MINER),
            amount=Amount(5),
            fee=Amount(1),
            expiry_height=Height(10**9),
        )
        for key in SENDERS[:count]
    ]


def idle_block(chain: Chain, state: ChainState, body: Sequence[Transaction], key: Ed25519PrivateKey = MINER) -> bytes:
    """Return a sealed block without a model."""
    draft = draft_block(state, Candidate(None, None, 0), public_key(key), body, state.timestamp + 60)
    header = draw_winning_ticket(state, draft.header, chain.validator, lambda: False)
    if header is None:
        raise RuntimeError("the open lottery was not won")
    return encode_block(replace(draft, header=sign_header(header, key)))


def measure_transactions(bench: Bench, repeats: int) -> dict[str, Any]:
    """Return the rates of one block of 146 transfers, medians over fresh chains."""
    rows = [measure_block(bench.open(f"transactions-{number}")) for number in range(repeats)]
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {
        "transactions": PAPER_BLOCK,
        **{f"{name}_ms": round(1e3 * value, 2) for name, value in median.items()},
        "transactions_per_s_per_core": round(PAPER_BLOCK / (median["decode"] + median["judge"] + median["commit"])),
        "of_seen_transactions": round(PAPER_BLOCK / (median["judge_seen"] + median["commit"])),
    }


def measure_block(chain: Chain) -> dict[str, float]:
    """Return the seconds that the first block of a chain takes, step by step; closes the chain's store."""
    with closing(chain.store):
        state, now = chain.head, chain.now()
        raw = idle_block(chain, state, transfers(chain.spec.chain_id, PAPER_BLOCK))
        transactions._is_signed.cache_clear()  # noqa: SLF001  (what a block from a stranger costs)
        decode = timed(lambda: decode_block(raw))
        judge = timed(lambda: chain.validator.judge(state, raw, now))
        judge_seen = timed(lambda: chain.validator.judge(state, raw, now))
        before = time.perf_counter()
        whole = timed(lambda: chain.import_block(raw))
        clock = time.perf_counter() - before
    return {
        "decode": decode,
        "judge": judge,
        "judge_seen": judge_seen,
        "commit": max(0.0, whole - judge_seen),
        "import_by_the_clock": clock,
    }


def timed(call: Callable[[], object]) -> float:
    """Return the processor seconds that a call takes."""
    before = time.process_time()
    call()
    return time.process_time() - before


def measure_table_3(bench: Bench, name: str, data: Path | None) -> dict[str, Any]:
    """Return transactions per second of one mining node with 300 waiting, and the interval of its blocks."""
    if data is None:
        return {"preset": name, "tps": "not measured"}
    chain = bench.open(name, name, load_mnist(data))
    with closing(chain.store):
        mempool = Mempool(chain)
        miner = Miner(chain, mempool, MINER, StraightThroughFounder(), MiningOptions(seed=1, threads=2))
        while chain.head.height < preset(name).min_population:
            advance(chain, mempool, miner)
        for transaction in transfers(chain.spec.chain_id, PAPER_TRANSACTIONS):
            mempool.add(transaction)
        before, intervals = time.perf_counter(), []
        while len(mempool):
            start = time.perf_counter()
            advance(chain, mempool, miner)
            intervals.append(time.perf_counter() - start)
        seconds = time.perf_counter() - before
        return {
            "preset": name,
            "transactions": PAPER_TRANSACTIONS,
            "blocks": len(intervals),
            "generations": sum(family.generation for family in chain.head.families),
            "tps": round(PAPER_TRANSACTIONS / seconds, 2),
            "interval_s": round(statistics.mean(intervals), 3),
        }


def advance(chain: Chain, mempool: Mempool, miner: Miner) -> None:
    """Mine one block and take it in."""
    raw = miner.mine(lambda: False)
    if raw is None:
        raise RuntimeError("no block was found")
    chain.import_block(raw)
    mempool.refresh()


async def measure_line(bench: Bench, nodes: int, count: int, repeats: int) -> dict[str, Any]:
    """Return how long blocks of ``count`` transfers take along a line of nodes, and how long a conflict lasts there."""
    propagation, conflict, size = [], [], 0
    async with AsyncExitStack() as stack:
        chains = [bench.open(f"line-{count}-{number}") for number in range(nodes)]
        networks: list[Network] = []
        for chain in chains:
            stack.callback(chain.store.close)
            dial = [networks[-1].address] if networks else []
            networks.append(Network(chain, Mempool(chain), listen="127.0.0.1:0", dial=dial))
            await networks[-1].start()
            stack.push_async_callback(networks[-1].stop)
        await until(lambda: all(network.peer_count >= 1 for network in networks))
        for nonce in range(repeats):
            state = chains[0].head
            raw = idle_block(chains[0], state, transfers(chains[0].spec.chain_id, count, nonce))
            size = len(raw)
            propagation.append(await spread(networks[0], chains, raw))
        for _ in range(repeats):
            state = chains[0].head
            first, second = idle_block(chains[0], state, ()), idle_block(chains[0], state, (), RIVAL)
            # Both ends at once: the line splits where they meet, and first seen stays.
            await asyncio.gather(networks[0].submit_block(first), networks[-1].submit_block(second))
            await until(partial(all_at, chains, state.height + 1))
            conflict.append(await spread(networks[-1], chains, idle_block(chains[-1], chains[-1].head, ())))
    return {
        "nodes": nodes,
        "block_bytes": size,
        "propagation_ms": round(1e3 * statistics.median(propagation), 1),
        "per_hop_ms": round(1e3 * statistics.median(propagation) / (nodes - 1), 1),
        "propagation_most_ms": round(1e3 * max(propagation), 1),
        "conflict_ms": round(1e3 * statistics.median(conflict), 1),
        "conflict_most_ms": round(1e3 * max(conflict), 1),
    }


def all_at(chains: Sequence[Chain], height: int) -> bool:
    return all(chain.head.height == height for chain in chains)


async def spread(first: Network, chains: Sequence[Chain], raw: bytes) -> float:
    """Return the seconds from submitting a block until every chain has it as its head."""
    before = time.perf_counter()
    taken = await first.submit_block(raw)
    await until(lambda: all(chain.head.head == taken.block_id for chain in chains))
    return time.perf_counter() - before


async def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {PATIENCE_S:.0f} s")
        await asyncio.sleep(POLL_S)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--data", type=Path, help="directory of the MNIST files")
    parser.add_argument("--json", metavar="FILE", help="file to write, - for stdout")
    return parser.parse_args()


if __name__ == "__main__":
    main()
