"""How many generations does a family live, and does what it learns hold for images that nobody searched on?

    python bench/generations.py --data DIR [--pool 60000 --pool 10000] [--seeds 1] [--generations 100]
                                [--interval-s 60] [--thrifty] [--limit-s 1200] [--json FILE] [--chart STEM]

DIR holds the MNIST files.  A chain with preset main's constants, but one family and an open lottery, so that learning
alone decides; a real miner makes its blocks and each enters by `Chain.import_block`.  The chain's clock is the miner's
processor time, on one thread, since the last block, but at least ``--interval-s``: so the demanded gain decays as on a
chain whose lottery takes that long.  A pool is the first so many training images; held out are the 10,000 test images.
A run ends after so many generations, or when ``--limit-s`` of processor time are spent; it says which.

The JSON file is written after each generation, so a run that is ended keeps its rows; ``--json -`` is stdout.
Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bnnchain.bnn.encoding import flip_positions
from bnnchain.bnn.zoo import architecture
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus.learning import required_gain
from bnnchain.consensus.lineage import novel_flip_count
from bnnchain.consensus.params import BP, preset
from bnnchain.consensus.spec import ChainSpec
from bnnchain.consensus.types import MAX_TARGET, BlockKind, DatasetId, Height
from bnnchain.datasets.dataset import build_dataset
from bnnchain.datasets.mnist import THRESHOLDS, load_mnist
from bnnchain.datasets.payload import encode_payload
from bnnchain.mining.genesis import random_model
from bnnchain.mining.miner import Miner, MiningOptions
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.measure import machine_name
from bnnchain_kernels.native import NativeEvaluator

if TYPE_CHECKING:
    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import FamilyState
    from bnnchain.datasets.dataset import Dataset
    from bnnchain_kernels.evaluator import Samples

MODEL = "cnn-4k"
GENESIS_TIME = 1_700_000_000
DPI = 110


class ProcessorClock:
    """Seconds since the last block as the miner's processor time, but at least ``interval_s``."""

    def __init__(self, interval_s: int) -> None:
        self._interval_s = interval_s
        self._block_time = GENESIS_TIME
        self._mark = time.process_time()

    def __call__(self) -> int:
        return self._block_time + max(self._interval_s, int(self.spent_s))

    @property
    def spent_s(self) -> float:
        """Return the processor time since the last block."""
        return time.process_time() - self._mark

    def restart(self, block_time: int) -> None:
        """Count from a new block on."""
        self._block_time, self._mark = block_time, time.process_time()


def main() -> None:
    options = read_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    print(f"{machine_name()}, {MODEL}, blocks of {options.interval_s} s and more", file=report)
    mnist = load_mnist(options.data)
    runs: list[dict[str, Any]] = []
    for pool_size in options.pool or (60_000, 10_000):
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            run: dict[str, Any] = {"pool": pool_size, "seed": seed, "thrifty": options.thrifty, "rows": []}
            runs.append(run)
            grow(options, take_pool(mnist, pool_size), seed, run, lambda: write_json(options, runs), report)
    if options.json == "-":
        print(json.dumps(report_of(options, runs), indent=1))
    if options.chart:
        draw_chart(runs, options.chart)


def take_pool(mnist: Dataset, pool_size: int) -> Dataset:
    """Return the data set with the first so many of the pool's images, and all held-out ones."""
    if pool_size >= len(mnist.pool):
        return mnist
    pool = mnist.pool.take(np.arange(pool_size, dtype=np.int32))
    manifest = mnist.manifest
    name = f"{manifest.name}-{pool_size}"
    return build_dataset(name, THRESHOLDS, pool, mnist.heldout, licence=manifest.licence, origin=manifest.origin)


def chain_params(options: argparse.Namespace) -> Params:
    """Return preset main's constants with the lottery at regtest's difficulty, one family, and no idle blocks."""
    return replace(
        preset("main"),
        is_lottery_open=1,
        is_idle_allowed=0,
        min_families=1,
        min_population_acc_bp=options.min_gain_bp,
        gain_of_last_bp=options.gain_of_last_bp,
        gain_halflife_s=options.gain_halflife_s,
        relief_s=0,
    )


def grow(
    options: argparse.Namespace,
    dataset: Dataset,
    seed: int,
    run: dict[str, Any],
    write: Any,  # noqa: ANN401  (called without arguments)
    report: Any,  # noqa: ANN401  (a text stream)
) -> None:
    """Found a family and let it evolve; fill the run's rows."""
    clock = ProcessorClock(options.interval_s)
    spec = ChainSpec(
        name="generations",
        chain_id=1,
        genesis_time=GENESIS_TIME,
        initial_target=MAX_TARGET,
        schedule=((Height(0), chain_params(options)),),
        dataset=dataset.manifest,
        model=random_model(architecture(MODEL), bytes(32)),
        allocations=(),
    )
    heldout = NativeEvaluator(dataset.heldout)
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "chain.db", spec)
        try:
            chain = Chain(store, one_thread, clock)
            chain.add_dataset(DatasetId(dataset.manifest.dataset_id), encode_payload(dataset.pool))
            mining = MiningOptions(seed, 1, architecture=architecture(MODEL), is_thrifty=options.thrifty)
            miner = Miner(chain, Mempool(chain), key(), StraightThroughFounder(), mining)
            begun = time.process_time()
            while len(run["rows"]) <= options.generations:
                before = chain.head.families
                raw = miner.mine(lambda: time.process_time() - begun > options.limit_s)
                if raw is None:
                    break
                spent_s = clock.spent_s
                imported = chain.import_block(raw)
                clock.restart(imported.block.header.timestamp)
                family = chain.head.families[0]
                if imported.block.header.kind == BlockKind.EVOLVE or is_complete(family, chain):
                    row = describe(before, chain, heldout, dataset, spent_s)
                    run["rows"].append(row)
                    write()
                    print(line_of(row), file=report, flush=True)
        finally:
            store.close()
    run["processor_s"] = round(time.process_time() - begun, 1)
    run["ended"] = "all generations" if len(run["rows"]) > options.generations else "limit of processor time"
    write()
    print(f"pool {len(dataset.pool)}, seed {seed}: {len(run['rows']) - 1} generations, {run['ended']}", file=report)


def is_complete(family: FamilyState, chain: Chain) -> bool:
    """Tell whether the family's last founding model has just come."""
    return len(family.founders) == chain.head.spec.params_at(Height(1)).min_population and family.generation == 0


def describe(
    before: tuple[FamilyState, ...], chain: Chain, heldout: NativeEvaluator, dataset: Dataset, spent_s: float
) -> dict[str, Any]:
    """Return the row of the family's best model after the chain's last block; row 0 is the best founder."""
    family = chain.head.families[0]
    row: dict[str, Any] = {
        "generation": family.generation,
        "accuracy": family.best.correct / len(dataset.pool),
        "accuracy_heldout": count_correct(heldout, family.best.model, len(dataset.heldout)) / len(dataset.heldout),
    }
    if family.generation:
        params = chain.head.spec.params_at(chain.head.height)
        elapsed_s = chain.head.timestamp - chain.head.ancestors[-1].timestamp
        flips = flip_positions(before[0].best.model, family.best.model)
        row |= {
            "gain": family.last_gain,
            "required_gain": required_gain(before[0], len(dataset.pool), elapsed_s, params),
            "flips": len(flips),
            "novel_flips": novel_flip_count(before[0], flips),
            "processor_s": round(spent_s, 2),
            "elapsed_s": elapsed_s,
        }
    return row


def one_thread(samples: Samples) -> NativeEvaluator:
    return NativeEvaluator(samples, threads=1)


def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")


def line_of(row: dict[str, Any]) -> str:
    if "gain" not in row:
        return f"founders: {row['accuracy']:.4f}, held out {row['accuracy_heldout']:.4f}"
    return (
        "{generation:4}: {accuracy:.4f}, held out {accuracy_heldout:.4f}, gain {gain} of {required_gain},"
        " flips {flips}, novel {novel_flips}, {processor_s:.1f} s".format(**row)
    )


def report_of(options: argparse.Namespace, runs: list[dict[str, Any]]) -> dict[str, Any]:
    described = {"machine": machine_name(), "model": MODEL, "interval_s": options.interval_s}
    return {
        **described,
        "min_population_acc_bp": options.min_gain_bp,
        "gain_of_last_bp": options.gain_of_last_bp,
        "gain_halflife_s": options.gain_halflife_s,
        "runs": runs,
    }


def write_json(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    if options.json and options.json != "-":
        Path(options.json).write_text(json.dumps(report_of(options, runs), indent=1) + "\n", encoding="utf-8")


def draw_chart(runs: list[dict[str, Any]], stem: str) -> None:
    """Write STEM.png: accuracy on the pool and on the held-out images by generation, one panel a pool size."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("the chart needs matplotlib: pip install 'bnnchain[bench]'")
    pools = sorted({run["pool"] for run in runs}, reverse=True)
    figure = Figure(figsize=(5 * len(pools), 4), layout="constrained")
    panels = figure.subplots(1, len(pools), squeeze=False, sharey=True)[0]
    for axes, pool in zip(panels, pools, strict=True):
        for index, run in enumerate(each for each in runs if each["pool"] == pool):
            generations = [row["generation"] for row in run["rows"]]
            for field, style, name in (("accuracy", "-", "pool"), ("accuracy_heldout", "--", "held out")):
                values = [100 * row[field] for row in run["rows"]]
                axes.plot(generations, values, style, color=f"C{index}", label=f"{name}, seed {run['seed']}")
        axes.set(title=f"{MODEL}, pool of {pool:,}", xlabel="generation", ylabel="right labels, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(f"{stem}.png", dpi=DPI)


def read_options() -> argparse.Namespace:
    defaults = preset("main")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of the MNIST files")
    parser.add_argument("--pool", type=int, action="append", help="images of a pool; may be given several times")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--interval-s", type=int, default=defaults.block_interval_s, help="a block takes at least this")
    parser.add_argument("--thrifty", action="store_true", help="take the least gain that is enough")
    parser.add_argument("--gain-of-last-bp", type=int, default=defaults.gain_of_last_bp, help=f"of {BP}")
    parser.add_argument(
        "--min-gain-bp", type=int, default=defaults.min_population_acc_bp, help="where no last gain counts"
    )
    parser.add_argument("--gain-halflife-s", type=int, default=defaults.gain_halflife_s)
    parser.add_argument("--limit-s", type=float, default=1_200, help="of processor time, for a run")
    parser.add_argument("--json", metavar="FILE", help="file to write after each generation, - for stdout")
    parser.add_argument("--chart", metavar="STEM", help="write STEM.png; needs matplotlib")
    return parser.parse_args()


if __name__ == "__main__":
    main()
