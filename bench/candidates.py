"""How many candidates a second does a search reject or count, against what each must gain?

    python bench/candidates.py [--data DIR] [--batch 1024] [--repeats 5] [--json FILE]

MNIST's 60,000 training images (``--data`` names the directory of its IDX files) and a cnn-4k parent trained to 0.84 on
them.  One core, processor time.  Mutants differ from the parent in 1 to 3 weights, or in 0.5 % of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.measure import machine_name
from bnnchain_kernels.mutants import Mutants, RaceRules, pack_mutants
from bnnchain_kernels.native import NativeEvaluator
from bnnchain_kernels.native_mutants import NativeMutants

SEED = 1
PARENT_ACCURACY = 0.84
MAX_EPOCHS = 10
TARGETS_BP = (0, 25, 100)
SIGMAS = (2.0, 0.25)
"""Two standard deviations lose one good candidate in forty; a quarter of one is what the miner uses."""
FEW_FLIPS = 3
SHARE_BP = 50


def draw_mutants(rng: np.random.Generator, kind: str, weight_count: int, batch: int) -> Mutants:
    """Return a batch of random mutants."""
    sizes = (
        rng.integers(1, FEW_FLIPS + 1, batch) if kind == "1-3 flips" else [weight_count * SHARE_BP // 10_000] * batch
    )
    return pack_mutants([(rng.integers(0, weight_count, int(size)), ()) for size in sizes])


def measure_row(
    mutants: NativeMutants, weight_count: int, kind: str, target_bp: int, sigmas: float, options: argparse.Namespace
) -> dict[str, object]:
    """Return candidates a second, drawing included."""
    rng = np.random.default_rng(SEED)
    images, blocks = 60_000, len(mutants.base_counts)
    rules = RaceRules(floor=max(1, images * target_bp // 10_000), sigmas=sigmas)
    rates, seen, survivors = [], 0, 0
    for _ in range(options.repeats):
        begin = time.process_time()
        batch = draw_mutants(rng, kind, weight_count, options.batch)
        races = mutants.race(batch, rng.integers(0, blocks, options.batch), rules)
        rates.append(options.batch / (time.process_time() - begin))
        seen += int(races.seen.sum())
        survivors += len(races.survivors())
    total = options.batch * options.repeats
    rate = statistics.median(rates)
    return {
        "mutants": kind,
        "target_bp": target_bp,
        "sigmas": sigmas,
        "candidates_per_s_per_core": round(rate, 1),
        "spread": round((max(rates) - min(rates)) / rate, 3),
        "blocks_per_candidate": round(seen / total, 2),
        "survivors_share": round(survivors / total, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    report = sys.stderr if options.json == "-" else sys.stdout
    pool = load_mnist(options.data).pool
    architecture = ZOO["cnn-4k"]
    evaluator = NativeEvaluator(pool, threads=1)
    founded = StraightThroughFounder().found(
        architecture,
        pool,
        evaluator,
        seed=SEED,
        target_correct=round(len(pool) * PARENT_ACCURACY),
        max_epochs=MAX_EPOCHS,
    )
    accuracy = founded.correct / len(pool)
    print(f"{machine_name()}, {os.cpu_count()} cpus, C kernel {evaluator.isa}, parent {accuracy:.4f}", file=report)
    mutants = NativeMutants(evaluator, founded.model, len(pool))
    print(
        f"{'mutants':12}{'target':>8}{'sigmas':>8}{'cand./s/core':>14}{'spread':>8}{'blocks':>8}{'kept':>8}",
        file=report,
    )
    rows = []
    for kind in ("1-3 flips", "0.5 %"):
        for target_bp in TARGETS_BP:
            for sigmas in SIGMAS:
                row = measure_row(mutants, architecture.weight_count, kind, target_bp, sigmas, options)
                rows.append(row)
                print(
                    f"{kind:12}{target_bp / 100:+8.2f}{sigmas:8}{row['candidates_per_s_per_core']:14,.0f}"
                    f"{row['spread']:8.0%}{row['blocks_per_candidate']:8}{row['survivors_share']:8.2%}",
                    file=report,
                )
    if options.json:
        machine = {"processor": machine_name(), "cpus": os.cpu_count(), "isa": evaluator.isa}
        text = json.dumps({"machine": machine, "seed": SEED, "parent_accuracy": accuracy, "search": rows}, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
