"""How long does a family's next generation take, blind and guided by gradients, on one thread and on more?

    python bench/search.py [--dataset mnist --data DIR] [--target-bp 8200] [--gain-bp 100] [--diff-bp 50]
                           [--generations 3] [--seeds 3] [--threads 1,2] [--json FILE]

Trains one founder per seed until it reaches the target, then evolves it generation by generation; every variant starts
from the same founders.  Without ``--data`` it takes the embedded digits.  ``--json -`` is stdout.

On a busy machine set OPENBLAS_NUM_THREADS=1: waiting for a thread that does not run costs a small matrix product a
hundredfold.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining.evolve import EvolveRequest, evolve
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.measure import machine_name
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset
    from bnnchain.mining.founders import FoundedModel
    from bnnchain_kernels.evaluator import Evaluator

BP = 10_000
MAX_FOUNDING_EPOCHS = 20
MAX_CANDIDATES = 20_000


def share_ceil(count: int, share_bp: int) -> int:
    return -(-count * share_bp // BP)


def main() -> None:
    options = read_options()
    dataset = load_mnist(options.data) if options.dataset == "mnist" else load_digits()
    shape = architecture("cnn-4k" if options.dataset == "mnist" else "cnn-digits")
    factory = select(options.backend)
    evaluator, heldout = factory(dataset.pool), factory(dataset.heldout)
    target = share_ceil(len(dataset.pool), options.target_bp)
    founders = [
        StraightThroughFounder().found(
            shape, dataset.pool, evaluator, seed=seed, target_correct=target, max_epochs=MAX_FOUNDING_EPOCHS
        )
        for seed in range(options.seeds)
    ]
    print(f"{machine_name()}, backend {evaluator.backend}, {options.dataset}, pool {len(dataset.pool)}")
    for seed, founder in enumerate(founders):
        print(f"founder {seed}: {founder.correct / founder.pool_size:.4f} in {founder.seconds:.1f} s")
    rows = []
    for threads in options.threads:
        for is_guided in (False, True):
            for seed, founder in enumerate(founders):
                rows += climb(options, dataset, evaluator, heldout, founder, seed, threads, is_guided=is_guided)
            summarise(rows, threads, is_guided=is_guided)
    if options.json:
        text = json.dumps({"machine": machine_name(), "options": vars(options), "rows": rows}, default=str, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n")


def climb(
    options: argparse.Namespace,
    dataset: Dataset,
    evaluator: Evaluator,
    heldout: Evaluator,
    founder: FoundedModel,
    seed: int,
    threads: int,
    *,
    is_guided: bool,
) -> list[dict[str, object]]:
    """Evolve one founder and return a row per generation; a search out of candidates ends it with seconds None."""
    size = len(dataset.pool)
    parent, rows = founder.model, []
    for generation in range(1, options.generations + 1):
        request = EvolveRequest(
            parent,
            size,
            max(1, share_ceil(size, options.gain_bp)),
            share_ceil(parent.architecture.weight_count, options.diff_bp),
            seed,
            samples=dataset.pool if is_guided else None,
            max_candidates=MAX_CANDIDATES,
        )
        cpu_before, before = time.process_time(), time.perf_counter()
        result = evolve(request, evaluator, threads=threads)
        seconds, cpu_s = time.perf_counter() - before, time.process_time() - cpu_before
        row: dict[str, object] = {"threads": threads, "guided": is_guided, "seed": seed, "generation": generation}
        rows.append(row)
        if result is None:
            row.update(seconds=None, cpu_s=cpu_s, candidates=MAX_CANDIDATES)
            break
        parent = result.child
        row.update(
            seconds=seconds,
            cpu_s=cpu_s,
            candidates=result.candidates,
            accepted=result.accepted,
            flips=result.flips,
            accuracy_parent=result.correct_parent / size,
            accuracy=result.correct / size,
            accuracy_heldout=count_correct(heldout, parent, len(dataset.heldout)) / len(dataset.heldout),
        )
    return rows


def summarise(rows: list[dict[str, object]], threads: int, *, is_guided: bool) -> None:
    chosen = [row for row in rows if row["threads"] == threads and row["guided"] == is_guided]
    name = f"{threads} thread(s), {'guided' if is_guided else 'blind '}"
    for generation in sorted({int(str(row["generation"])) for row in chosen}):
        runs = [row for row in chosen if row["generation"] == generation]
        done = [row for row in runs if row["seconds"] is not None]
        if not done:
            print(f"{name}, generation {generation}: 0 of {len(runs)} found")
            continue
        seconds = sorted(float(str(row["seconds"])) for row in done)
        rate = statistics.median(float(str(row["candidates"])) / float(str(row["seconds"])) for row in done)
        reached = statistics.median(float(str(row["accuracy"])) for row in done)
        shown = statistics.median(float(str(row["accuracy_heldout"])) for row in done)
        spread = f"{statistics.median(seconds):.2f} s ({seconds[0]:.2f}..{seconds[-1]:.2f})"
        print(
            f"{name}, generation {generation}: {len(done)} of {len(runs)} found, median {spread},"
            f" {rate:.0f} candidates/s, pool {reached:.4f}, held out {shown:.4f}"
        )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data", type=Path, help="directory of the MNIST files")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--target-bp", type=int, default=8200)
    parser.add_argument("--gain-bp", type=int, default=100)
    parser.add_argument("--diff-bp", type=int, default=50)
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--json", help="file to write, - for stdout")
    options = parser.parse_args()
    if options.dataset == "mnist" and options.data is None:
        parser.error("--dataset mnist needs --data")
    return options


if __name__ == "__main__":
    sys.exit(main())
