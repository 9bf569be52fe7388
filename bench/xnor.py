"""How many images a second does each kernel evaluate, and what share of the processor's roof is that?

    python bench/xnor.py [--backend c] [--isa avx2] [--model cnn-4k] [--threads 1] [--repeats 9]
                         [--scaling 2] [--peers PYTHON] [--chart STEM] [--json FILE]

Random weights and images: the kernels' time does not depend on them.  The roof is measured in the same process: xor,
count and add with nothing else to do, by the widest instructions here (``kernels/native/roof.c``).  ``--scaling``
lets that many threads and one take turns, and the roof's own work likewise: what the machine grants at that moment.
``--peers`` runs ``peers.py`` beside it with a Python that has the peers; ``--chart`` draws STEM.png and STEM.svg.
``--json -`` is stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from chart import draw_chart

from bnnchain.cli.bench_rows import SHAPES, Variant, measure_throughput_row
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.evaluator import BLOCK_IMAGES
from bnnchain_kernels.measure import (
    Roof,
    images_for,
    machine_name,
    measure_roofs,
    measure_scaling,
    random_network,
)
from bnnchain_kernels.select import AUTO_ORDER, select

if TYPE_CHECKING:
    from bnnchain.cli.bench_rows import ThroughputRow

SEED = 1
SCALING_BLOCKS = 16
SCALING_TURNS = 40


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", action="append", choices=AUTO_ORDER)
    parser.add_argument("--isa", action="append", help="instruction sets of the C kernel (default: the fastest)")
    parser.add_argument("--model", action="append", choices=SHAPES)
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--scaling", metavar="THREADS", type=int, help="also compare that many threads with one")
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has bnnchain and the peers installed")
    parser.add_argument("--chart", metavar="STEM", help="draw STEM.png and STEM.svg; needs matplotlib")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def measure_table(options: argparse.Namespace, roofs: list[Roof], report: TextIO) -> list[ThroughputRow]:
    """Measure and print all rows; return them."""
    print(f"{'model':11}{'backend':10}{'isa':12}{'threads':>7}{'images/s':>14}{'spread':>8}", end="", file=report)
    print(f"{'GMAC/s/core':>13}{'of roof':>9}", file=report)
    rows = []
    for backend in options.backend or AUTO_ORDER:
        try:
            select(backend)
        except Unavailable as reason:
            print(f"{'':11}{backend:10}not measured: {reason}", file=report)
            continue
        for isa in (options.isa or [None]) if backend == "c" else [None]:
            for name in options.model or SHAPES:
                for threads in [1] if backend == "reference" else options.threads or [1]:
                    row = measure_throughput_row(name, Variant(backend, isa, threads), roofs, options.repeats)
                    share = row.roof_fraction
                    rows.append(row)
                    print(
                        f"{name:11}{backend:10}{row.isa:12}{threads:7}{row.images_per_s:14,.0f}"
                        f"{row.spread:8.0%}{row.gmac_per_s_per_core:13.1f}"
                        f"{'-' if share is None else format(share, '.2f'):>9}",
                        file=report,
                    )
    return rows


def compare_threads(options: argparse.Namespace, report: TextIO) -> list[dict[str, Any]]:
    """Measure and print how much faster several threads are than one; return a row per backend and model."""
    rows, threads = [], options.scaling
    for backend in [name for name in options.backend or AUTO_ORDER if name in {"c", "numba"}]:
        for name in options.model or SHAPES:
            shape = SHAPES[name]
            images = max(images_for(shape), SCALING_BLOCKS * BLOCK_IMAGES)
            model, samples = random_network(shape, images, SEED)
            one, several = select(backend)(samples, threads=1), select(backend)(samples, threads=threads)
            found = measure_scaling(one, several, threads, model, images, SCALING_TURNS)
            rows.append({"model": name, "backend": backend, "threads": threads, "images": images, **asdict(found)})
            print(
                f"{name:11}{backend:10}{threads} threads x{found.median:.2f} of one (best of each x{found.best:.2f});"
                f" the roof's work x{found.roof_median:.2f} (x{found.roof_best:.2f})",
                file=report,
            )
    return rows


def measure_peers(python: str, models: list[str] | None, report: TextIO) -> list[dict[str, Any]]:
    """Run ``peers.py`` with the Python that has the peers; return its rows."""
    arguments = [python, str(Path(__file__).with_name("peers.py")), "--json", "-"]
    wanted = [name for name in models or () if name in {"cnn-4k", "cnn-94k", "cnn-1m"}]
    for name in wanted:
        arguments += ["--model", name]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=report, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def main() -> None:
    options = parse_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    machine = {
        "processor": machine_name(),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()), file=report)
    try:
        roofs = measure_roofs(options.repeats)
    except Unavailable as reason:
        roofs = []
        print(f"roof not measured: {reason}", file=report)
    for roof in roofs:
        print(f"roof: {roof.name} {roof.gmac_per_s:.0f} GMAC/s", file=report)
    found = {roof.name: round(roof.gmac_per_s, 1) for roof in roofs}
    results: dict[str, Any] = {
        "machine": machine,
        "seed": SEED,
        "roof_gmac_per_s": max(found.values(), default=None),
        "roofs": found,
        "rows": [asdict(row) for row in measure_table(options, roofs, report)],
        "scaling": compare_threads(options, report) if options.scaling else [],
        "peers": [],
    }
    if options.peers:
        report.flush()
        results["peers"] = measure_peers(options.peers, options.model, report)
    if options.chart:
        print(*draw_chart(results, options.chart), file=report)
    text = json.dumps(results, indent=1)
    if options.json == "-":
        print(text)
    elif options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
