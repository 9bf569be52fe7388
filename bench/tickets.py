"""What does one lottery ticket cost, and what would a miner with a private trick save?

    python bench/tickets.py [--model cnn-4k] [--tickets 512] [--repeats 5] [--flips 1] [--json FILE]

One core, processor time, drawing and hashing included.  A ticket flips ``--flips`` weights in every layer of the base:
every preset's chain says one (``ticket_flips``), and others show what a private trick would gain if it said more.
  plain        builds every mutant and evaluates it in full
  incremental  NativeMutants: remembers the base's activations (what ships)
  grouped      sorts tickets by their flips in the first layer, and remembers the activations behind those
``per_normalised_ticket_us`` divides by macs / macs_ref, as the lottery's target does: no base should be cheap.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus.lottery import MACS_REFERENCE, lottery_value, mutant, mutant_flips, ticket_cost, ticket_seed
from bnnchain_kernels.measure import machine_name, random_network
from bnnchain_kernels.mutants import build_mutant, pack_mutants
from bnnchain_kernels.native import NativeEvaluator
from bnnchain_kernels.native_mutants import NativeMutants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain_kernels.model import Model

SEED = 1
N_EVAL = 1024
BATCH = 64
GROUP_MEMORY_BYTES = 1 << 29


class PlainMiner:
    """Builds every mutant."""

    name = "plain"

    def __init__(self, evaluator: NativeEvaluator, base: Model, flips: int) -> None:
        self.evaluator, self.base, self.flips = evaluator, base, flips

    def draw(self, seeds: Sequence[bytes]) -> list[bytes]:
        mutants = [(seed, mutant(self.base, seed, self.flips)) for seed in seeds]
        return [lottery_value(seed, self.evaluator.logits(each, 0, N_EVAL)) for seed, each in mutants]


class IncrementalMiner:
    """Remembers the base."""

    name = "incremental"

    def __init__(self, evaluator: NativeEvaluator, base: Model, flips: int) -> None:
        self.mutants, self.base, self.flips = NativeMutants(evaluator, base, N_EVAL), base, flips

    def draw(self, seeds: Sequence[bytes]) -> list[bytes]:
        values = []
        for start in range(0, len(seeds), BATCH):
            part = seeds[start : start + BATCH]
            flips = [mutant_flips(self.base.architecture, seed, self.flips) for seed in part]
            logits = self.mutants.logits(pack_mutants([(each, ()) for each in flips]))
            values += [lottery_value(seed, each) for seed, each in zip(part, logits, strict=True)]
        return values


class GroupedMiner:
    """Remembers the base behind every flip of the first layer, as many of them as memory holds."""

    name = "grouped"

    def __init__(self, evaluator: NativeEvaluator, base: Model, flips: int) -> None:
        self.evaluator, self.base, self.flips = evaluator, base, flips
        maps = sum(place.out_height * place.out_width * place.out_channels for place in base.architecture.geometry)
        self.room = max(1, GROUP_MEMORY_BYTES // (maps * N_EVAL // 8))
        self.behind: OrderedDict[tuple[int, ...], NativeMutants] = OrderedDict()

    def draw(self, seeds: Sequence[bytes]) -> list[bytes]:
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        flips = [mutant_flips(self.base.architecture, seed, self.flips) for seed in seeds]
        in_first = min(self.flips, self.base.architecture.geometry[0].weight_count)
        for index, positions in enumerate(flips):
            groups[tuple(sorted(positions[:in_first]))].append(index)
        values = [b""] * len(seeds)
        for first, members in groups.items():
            mutants = self._behind(first)
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                logits = mutants.logits(pack_mutants([(flips[index][in_first:], ()) for index in part]))
                for index, each in zip(part, logits, strict=True):
                    values[index] = lottery_value(seeds[index], each)
        return values

    def _behind(self, first: tuple[int, ...]) -> NativeMutants:
        if first not in self.behind:
            model = build_mutant(self.base, pack_mutants([(first, ())]), 0)
            self.behind[first] = NativeMutants(self.evaluator, model, N_EVAL)
            if len(self.behind) > self.room:
                self.behind.popitem(last=False)
        return self.behind[first]


MINERS: tuple[Callable[[NativeEvaluator, Model, int], PlainMiner | IncrementalMiner | GroupedMiner], ...] = (
    PlainMiner,
    IncrementalMiner,
    GroupedMiner,
)


def measure_model(name: str, tickets: int, repeats: int, flips: int) -> list[dict[str, object]]:
    """Return one row per miner, after checking that all of them draw the same tickets."""
    base, samples = random_network(ZOO[name], N_EVAL, SEED)
    evaluator = NativeEvaluator(samples, threads=1)
    core = np.random.default_rng(SEED).bytes(32)
    rows, values = [], []
    for build in MINERS:
        miner = build(evaluator, base, flips)
        values.append(miner.draw([ticket_seed(core, nonce) for nonce in range(tickets)]))  # warms its memory, too
        times = []
        for repeat in range(1, repeats + 1):
            begin = time.process_time()
            miner.draw([ticket_seed(core, repeat * tickets + nonce) for nonce in range(tickets)])
            times.append((time.process_time() - begin) / tickets * 1e6)
        ticket_us = statistics.median(times)
        rows.append(
            {
                "model": name,
                "miner": miner.name,
                "tickets_per_s_per_core": round(1e6 / ticket_us, 1),
                "ticket_us": round(ticket_us, 1),
                "spread": round((max(times) - min(times)) / ticket_us, 3),
                "per_normalised_ticket_us": round(ticket_us * MACS_REFERENCE / ticket_cost(ZOO[name]), 1),
            }
        )
    if any(each != values[0] for each in values):
        sys.exit(f"{name}: the miners drew different tickets")
    for row in rows:
        row["times_shipped"] = round(float(str(rows[1]["ticket_us"])) / float(str(row["ticket_us"])), 2)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", choices=ZOO)
    parser.add_argument("--tickets", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flips", type=int, default=1, help="weights in every layer")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    report = sys.stderr if options.json == "-" else sys.stdout
    print(
        f"{machine_name()}, {os.cpu_count()} cpus, n_eval {N_EVAL}, {options.tickets} tickets of {options.flips} flips",
        file=report,
    )
    print(f"{'model':12}{'miner':13}{'tickets/s':>11}{'us':>9}{'spread':>8}", end="", file=report)
    print(f"{'us/normalised':>15}{'x shipped':>11}", file=report)
    rows = []
    for name in options.model or ZOO:
        for row in measure_model(name, options.tickets, options.repeats, options.flips):
            rows.append(row)
            print(
                f"{row['model']:12}{row['miner']:13}{row['tickets_per_s_per_core']:11,.0f}{row['ticket_us']:9.1f}"
                f"{row['spread']:8.0%}{row['per_normalised_ticket_us']:15.1f}{row['times_shipped']:11.2f}",
                file=report,
            )
    if options.json:
        text = json.dumps(
            {"machine": machine_name(), "n_eval": N_EVAL, "seed": SEED, "flips": options.flips, "rows": rows}, indent=1
        )
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
