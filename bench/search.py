"""How long does the search for a child take under the paper's presets, and how many candidates does it judge?

    python bench/search.py --data DIR [--preset paper-low --preset ...] [--seeds 3] [--threads 2] [--limit-s 600]
                           [--target-accuracy 0.84] [--json FILE]

DIR holds the MNIST files.  One founder a seed is trained until it reaches the target, or, where that does not suffice,
evolved up to it; then each preset's gain and difference are searched for from it, on all 60,000 images, timed by the
clock.  ``limit`` asks for the impossible and shows how far a search comes in its time, and when each quarter of a
percent was gained.  Candidates per second and core are measured on the first founder with single moves of one to three
flips that must gain 1 % of the pool, or anything.  The JSON file is written after each search, so a run that is ended
keeps its rows; ``--json -`` is stdout.

Set OPENBLAS_NUM_THREADS=1: the search has threads of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.bnn.encoding import encode_difference
from bnnchain.bnn.zoo import architecture
from bnnchain.consensus.learning import required_flips
from bnnchain.consensus.params import preset, share_ceil
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining.evolve import REJECT_SIGMAS, EvolveProgress, EvolveRequest, Search
from bnnchain.mining.operators import FewFlips, Situation
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.measure import machine_name
from bnnchain_kernels.mutants import RaceRules, pack_mutants
from bnnchain_kernels.select import mutants_of, select

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset
    from bnnchain.mining.founders import FoundedModel
    from bnnchain_kernels.evaluator import Evaluator

MODEL = "cnn-4k"
PRESETS = ("paper-low", "paper-medium", "paper-high")
LIMIT = "limit"
MAX_CANDIDATES = 1 << 60
TARGETS_BP = (100, 0)
RATED_BATCHES = 8


def main() -> None:
    options = read_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    dataset = load_mnist(options.data)
    factory = select(options.backend)
    evaluator, heldout = factory(dataset.pool), factory(dataset.heldout)
    load = os.getloadavg()[0]
    print(
        f"{machine_name()}, {os.cpu_count()} cpus, load {load:.1f}, backend {evaluator.backend}, {MODEL},"
        f" {len(dataset.pool)} images, {options.threads} threads",
        file=report,
    )
    founders = train_all(dataset, evaluator, options, report)
    rates = rate_candidates(dataset, evaluator, next(iter(founders.values())))
    for rate in rates:
        print("at {target_bp} bp: {candidates_per_s_per_core:,.0f} candidates/s/core".format(**rate), file=report)
    rows = []
    for name in options.preset or PRESETS:
        for seed, founder in founders.items():
            row = search(options, dataset, evaluator, heldout, name, seed, founder)
            rows.append(row)
            write_json(options, load, rates, rows)
            print(
                "{preset:13} seed {seed}: {founded_accuracy:.4f} -> {accuracy:.4f}, held out {accuracy_heldout:.4f},"
                " reached {reached} in {seconds:.2f} s, {candidates} candidates, {flips} flips, {bytes} bytes".format(
                    **row
                ),
                file=report,
                flush=True,
            )
        summarise(name, [row for row in rows if row["preset"] == name], report)
    if options.json == "-":
        print(json.dumps(report_of(options, load, rates, rows), indent=1))


def report_of(options: argparse.Namespace, load: float, rates: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401
    described = {"machine": machine_name(), "load": [load, os.getloadavg()[0]], "threads": options.threads}
    return {**described, "processor_time": options.processor_time, "search": rates, "rows": rows}


def write_json(options: argparse.Namespace, load: float, rates: Any, rows: Any) -> None:  # noqa: ANN401
    if options.json and options.json != "-":
        text = json.dumps(report_of(options, load, rates, rows), indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")


def train_all(
    dataset: Dataset,
    evaluator: Evaluator,
    options: argparse.Namespace,
    report: Any,  # noqa: ANN401  (a text stream)
) -> dict[int, FoundedModel]:
    """Return the founders by seed, each at the target; one that training leaves short of it is evolved up to it."""
    founders = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        founder = train(dataset, evaluator, options.target_accuracy, seed, options.founding_epochs)
        missing = int(options.target_accuracy * len(dataset.pool)) - founder.correct
        if missing > 0:
            request = EvolveRequest(founder.model, dataset.pool, missing, 0, seed, max_candidates=MAX_CANDIDATES)
            before = time.process_time()
            running = Search(request, evaluator)
            if running.run(threads=options.threads) is None:
                sys.exit(f"seed {seed}: {missing} samples short of the target")
            correct = count_correct(evaluator, running.best, len(dataset.pool))
            text = "seed {}: {:.4f} by training, evolved by {} samples in {:.1f} processor-s"
            accuracy, spent = founder.correct / len(dataset.pool), time.process_time() - before
            print(text.format(seed, accuracy, correct - founder.correct, spent), file=report, flush=True)
            founder = replace(founder, model=running.best, correct=correct)
        founders[seed] = founder
    return founders


def train(dataset: Dataset, evaluator: Evaluator, target: float, seed: int, epochs: int) -> FoundedModel:
    return StraightThroughFounder().found(
        architecture(MODEL),
        dataset.pool,
        evaluator,
        seed=seed,
        target_correct=int(target * len(dataset.pool)),
        max_epochs=epochs,
    )


def search(
    options: argparse.Namespace,
    dataset: Dataset,
    evaluator: Evaluator,
    heldout: Evaluator,
    name: str,
    seed: int,
    founder: FoundedModel,
) -> dict[str, Any]:
    """Return the row of one search; where it was not reached, of the best model it had."""
    size = len(dataset.pool)
    params = preset(name if name != LIMIT else PRESETS[-1])
    gain = size - founder.correct if name == LIMIT else share_ceil(size, params.min_population_acc_bp)
    request = EvolveRequest(
        founder.model,
        dataset.pool,
        gain,
        required_flips(founder.model.architecture, params),
        seed,
        max_candidates=MAX_CANDIDATES,
    )
    before, cpu_before = time.perf_counter(), time.process_time()
    progress: list[tuple[float, EvolveProgress]] = []

    def spent() -> float:
        if options.processor_time:
            return (time.process_time() - cpu_before) / int(options.threads)
        return time.perf_counter() - before

    running = Search(request, evaluator)
    result = running.run(
        threads=options.threads,
        on_progress=lambda each: progress.append((spent(), each)),
        should_stop=lambda: spent() > options.limit_s,
    )
    seconds, cpu_s = time.perf_counter() - before, time.process_time() - cpu_before
    child = running.best
    return {
        "preset": name,
        "seed": seed,
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu_s, 3),
        "founded_accuracy": founder.correct / size,
        "reached": result is not None,
        "accuracy": count_correct(evaluator, child, size) / size,
        "accuracy_heldout": count_correct(heldout, child, len(dataset.heldout)) / len(dataset.heldout),
        "candidates": progress[-1][1].candidates,
        "flips": progress[-1][1].flips,
        "bytes": len(encode_difference(founder.model, child)),
        "percent_reached_s": percent_reached(progress, size),
    }


def percent_reached(progress: list[tuple[float, EvolveProgress]], size: int) -> dict[str, float]:
    """Return when each quarter of a percent of gain was first reported, in seconds."""
    moments: dict[str, float] = {}
    for moment, each in progress:
        for quarter in range(1, 400 * each.gain // size + 1):
            moments.setdefault(f"{quarter / 4:.2f}", round(moment, 2))
    return moments


def rate_candidates(dataset: Dataset, evaluator: Evaluator, founder: FoundedModel) -> list[dict[str, float]]:
    """Return candidates per second of processor time, proposing and packing included."""
    size, rng = len(dataset.pool), np.random.default_rng(0)
    mutants = mutants_of(evaluator, dataset.pool, founder.model, size)
    everything = np.arange(founder.model.architecture.weight_count)
    situation = Situation(founder.model, np.zeros(len(everything), np.bool_), (), everything)
    rates = []
    for target_bp in TARGETS_BP:
        rules = RaceRules(max(1, share_ceil(size, target_bp)), REJECT_SIGMAS)
        before, count = time.process_time(), 0
        for _ in range(RATED_BATCHES):
            moves = FewFlips().propose(situation, rng)
            first_blocks = rng.integers(0, len(mutants.base_counts), len(moves))
            mutants.race(pack_mutants([(move.flips, move.steps) for move in moves]), first_blocks, rules)
            count += len(moves)
        rates.append(
            {"target_bp": target_bp, "candidates_per_s_per_core": round(count / (time.process_time() - before), 1)}
        )
    return rates


def summarise(name: str, rows: list[dict[str, Any]], report: Any) -> None:  # noqa: ANN401  (a text stream)
    reached = sorted(row["seconds"] for row in rows if row["reached"])
    accuracy = statistics.median(row["accuracy"] for row in rows)
    line = f"{name}: {len(reached)} of {len(rows)} reached, median accuracy {accuracy:.4f}"
    if reached:
        median = statistics.median(row["seconds"] if row["reached"] else float("inf") for row in rows)
        line += f", median {median:.2f} s, reached in {reached[0]:.2f}..{reached[-1]:.2f} s"
    print(line, file=report, flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of the MNIST files")
    parser.add_argument("--preset", action="append", choices=(*PRESETS, LIMIT), help="may be given several times")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target-accuracy", type=float, default=0.84, help="at which founders stop training")
    parser.add_argument(
        "--founding-epochs", type=int, default=60, help="of training at most; then founders are evolved"
    )
    parser.add_argument("--limit-s", type=float, default=600, help="a search stops here, not reached")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count processor seconds divided by threads, for a machine that does other work beside",
    )
    parser.add_argument("--json", metavar="FILE", help="file to write, - for stdout")
    return parser.parse_args()


if __name__ == "__main__":
    main()
