"""How large is an idle node, how soon does it serve, how fast does it sync, how long does one validation take?

    python bench/node.py [--blocks 10000] [--repeats 3] [--data DIR] [--json FILE]

  start        cold start of `bnnchain node` on a chain of small blocks until it serves, by the clock, and its resident
               memory (RSS) five seconds later, by kernel backend; the imports are in the system's file cache
  sync         the same blocks (IDLE, one ticket of 1,024 digits each) fetched by a fresh node from another, two
               processes, gRPC on loopback: blocks a second, the kernel's seconds included and excluded
  import       the same blocks in one process without a network, in ranges of 64 and one by one
  validation   cnn-4k on 10,000 images (of DIR's MNIST files, else random ones) by the C kernel's two threads, in ms
``--json -`` is stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.backends import evaluator_factory
from bnnchain.bnn.zoo import ZOO
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus import lottery, transition
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.mnist import load_mnist
from bnnchain.datasets.payload import encode_payload
from bnnchain.home import Home
from bnnchain.mining.genesis import new_spec, random_model
from bnnchain.mining.template import IDLE, draft_block
from bnnchain.net.network import Network
from bnnchain_kernels.evaluator import Samples, count_correct
from bnnchain_kernels.measure import machine_name

KEY = Ed25519PrivateKey.from_private_bytes((1).to_bytes(32, "little"))
GENESIS_TIME = 1_700_000_000
INTERVAL_S = 60
RANGE_BLOCKS = 64
SETTLE_S = 5.0
PATIENCE_S = 600.0
IMAGES = 10_000
MEBIBYTE = 1 << 20
VALIDATIONS = 50


def main() -> None:
    options = read_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    with tempfile.TemporaryDirectory(prefix="bnnchain-bench-") as name:
        directory, load = Path(name), os.getloadavg()[0]
        print(f"{machine_name()}, {os.cpu_count()} cpus, load {load:.1f}, {options.blocks} blocks", file=report)
        raws = make_chain(Home(directory / "source"), options.blocks)
        result: dict[str, Any] = {"machine": machine_name(), "load": load, "blocks": options.blocks}
        result["start"] = [measure_start(directory / "source", name, options.repeats) for name in ("c", "numba")]
        result["sync"] = asyncio.run(measure_sync(directory))
        result["import"] = [measure_import(directory, raws, step) for step in (RANGE_BLOCKS, 1)]
        result["validation"] = measure_validation(options.data)
    for title in ("start", "sync", "import", "validation"):
        rows = result[title] if isinstance(result[title], list) else [result[title]]
        for row in rows:
            print(f"{title:11}" + ", ".join(f"{key} {value}" for key, value in row.items()), file=report)
    if options.json:
        text = json.dumps(result, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n", encoding="utf-8")


def make_chain(home: Home, blocks: int) -> list[bytes]:
    """Make a home with a regtest chain of IDLE blocks; return them."""
    data = load_digits()
    home.create(new_spec("regtest", data.manifest, public_key(KEY), GENESIS_TIME))
    raws = []
    with closing(open_store(home.store_file, home)) as store:
        chain = Chain(store, evaluator_factory("c"))
        while len(raws) < blocks:
            batch, state = [], chain.head
            for _ in range(min(RANGE_BLOCKS, blocks - len(raws))):
                raw = make_block(chain, state)
                state = chain.validator.judge(state, raw, chain.now()).state
                batch.append(raw)
            chain.import_blocks(batch)
            raws += batch
    return raws


def open_store(path: Path, home: Home) -> Store:
    data = load_digits()
    store = Store(path, home.spec())
    store.put_dataset(DatasetId(data.manifest.dataset_id), encode_payload(data.pool))
    return store


def make_block(chain: Chain, state: Any) -> bytes:  # noqa: ANN401  (a ChainState)
    params = state.spec.params_at(state.height + 1)
    block = draft_block(state, IDLE, public_key(KEY), (), state.timestamp + INTERVAL_S)
    task = transition.lottery_task(state, block.header, params)
    tickets = chain.validator.ticket_evaluator(state.head, task.dataset_id, params.n_eval)
    images = min(params.n_eval, len(chain.validator.pool(task.dataset_id)))
    y = lottery.lottery_value(task.seed, tickets.logits(task.child, 0, images))
    return encode_block(replace(block, header=sign_header(replace(block.header, y=y), KEY)))


def start_node(home: Path, backend: str) -> tuple[subprocess.Popen[str], str]:
    """Start a node; return it and its address once it serves."""
    command = [sys.executable, "-m", "bnnchain", "node", "--backend", backend, "--home", str(home)]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for line in process.stdout or ():
        if line.startswith("listening on "):
            return process, line.split()[2]
    message = f"the node ended with code {process.wait()}"
    raise SystemExit(message)


def stop_node(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def measure_start(home: Path, backend: str, repeats: int) -> dict[str, Any]:
    seconds, sizes = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        process, _ = start_node(home, backend)
        seconds.append(time.perf_counter() - begun)
        time.sleep(SETTLE_S)
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        sizes.append(int(rollup.split("Rss:")[1].split()[0]) * 1024)
        stop_node(process)
    return {
        "backend": backend,
        "cold_start_s": round(statistics.median(seconds), 2),
        "spread_s": [round(min(seconds), 2), round(max(seconds), 2)],
        "idle_rss_mib": round(max(sizes) / MEBIBYTE, 1),
        "idle_rss_mb": round(max(sizes) / 1e6, 1),
    }


async def measure_sync(directory: Path) -> dict[str, Any]:
    """Fetch the source's chain into a fresh store; the source is a process of its own."""
    source = Home(directory / "source")
    process, address = await asyncio.to_thread(start_node, source.path, "c")
    with closing(Store(source.store_file)) as store:
        height = store.height(store.head()) or 0
    target = open_store(directory / "synced.db", source)
    chain = Chain(target, evaluator_factory("c"))
    network = Network(chain, Mempool(chain), dial=[address])
    begun, cpu = time.perf_counter(), time.process_time()
    await network.start()
    try:
        while chain.head.height < height:
            if time.perf_counter() - begun > PATIENCE_S:
                message = f"at height {chain.head.height} of {height} after {PATIENCE_S:.0f} s"
                raise SystemExit(message)
            await asyncio.sleep(0.02)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    finally:
        await network.stop()
        target.close()
        await asyncio.to_thread(stop_node, process)
    return {**speeds(chain, height, seconds), "processor_s": round(cpu, 1)}


def measure_import(directory: Path, raws: list[bytes], step: int) -> dict[str, Any]:
    source = Home(directory / "source")
    with closing(open_store(directory / f"import-{step}.db", source)) as store:
        chain = Chain(store, evaluator_factory("c"))
        begun, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(raws), step):
            chain.import_blocks(raws[start : start + step])
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    shutil.rmtree(directory / f"import-{step}.db", ignore_errors=True)
    return {"range_blocks": step, **speeds(chain, len(raws), seconds), "processor_s": round(cpu, 1)}


def speeds(chain: Chain, blocks: int, seconds: float) -> dict[str, Any]:
    inference_s = sum(each.seconds for each in chain.validator.meter.totals().values())
    return {
        "blocks": blocks,
        "seconds": round(seconds, 1),
        "inference_s": round(inference_s, 1),
        "blocks_per_s": round(blocks / seconds),
        "blocks_per_s_without_inference": round(blocks / (seconds - inference_s)),
    }


def measure_validation(data: Path | None) -> dict[str, Any]:
    shape = ZOO["cnn-4k"]
    if data is not None:
        pool = load_mnist(data).pool.take(np.arange(IMAGES, dtype=np.int32))
        images = "MNIST"
    else:
        rng = np.random.default_rng(1)
        packed = rng.integers(0, 256, (IMAGES, -(-shape.height * shape.width * shape.planes // 8)), np.uint8)
        labels = rng.integers(0, shape.classes, IMAGES, np.uint8)
        pool, images = Samples(shape.height, shape.width, shape.planes, shape.classes, packed, labels), "random"
    evaluator = evaluator_factory("c")(pool)
    times = []
    for number in range(VALIDATIONS):
        model = random_model(shape, number.to_bytes(4, "little"))  # a new one each time: nothing of it is prepared
        begun = time.perf_counter()
        count_correct(evaluator, model, IMAGES)
        times.append((time.perf_counter() - begun) * 1e3)
    low, middle, high = min(times), statistics.median(times), sorted(times)[int(0.9 * VALIDATIONS)]
    return {
        "shape": "cnn-4k",
        "images": images,
        "count": IMAGES,
        "median_ms": round(middle, 2),
        "least_ms": round(low, 2),
        "p90_ms": round(high, 2),
    }


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="directory of the MNIST files")
    parser.add_argument("--json", help="file for the figures; - is stdout")
    return parser.parse_args()


if __name__ == "__main__":
    main()
