"""How many images a second does each kernel evaluate, and what share of the processor's roof is that?

    python bench/xnor.py [--backend c] [--isa avx2] [--model cnn-4k] [--threads 1] [--repeats 9] [--json FILE]

Random weights and images: the kernels' time does not depend on them.  The roof is measured in the same process: xor,
count and add with nothing else to do, by the widest instructions here (``kernels/native/roof.c``).  ``--json -`` is
stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.measure import Roof, images_for, machine_name, measure_roofs, measure_throughput, random_network
from bnnchain_kernels.model import Architecture, Dense
from bnnchain_kernels.select import AUTO_ORDER, select

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Evaluator, Samples

SEED = 1
SHAPES = {**ZOO, "dense": Architecture(28, 28, 1, (Dense(512), Dense(512), Dense(10)))}
REFERENCE_IMAGES = 512
ROOF_OF_ISA = {"avx512f": "zmm", "avx2": "ymm", "sse2": "popcnt", "neon-aarch64": "neon", "neon-armv7": "neon"}


def build(backend: str, isa: str | None, samples: Samples, threads: int) -> tuple[Evaluator, str]:
    """Return an evaluator and the name of the instructions that it uses."""
    factory = select(backend)
    if backend == "c":
        from bnnchain_kernels.native import NativeEvaluator

        native = NativeEvaluator(samples, threads, isa)
        return native, native.isa
    if backend == "numba":
        from bnnchain_kernels.numba_sliced import NumbaEvaluator
        from bnnchain_kernels.vector import LANES

        return NumbaEvaluator(samples, threads), {8: "avx512f", 4: "avx2"}.get(LANES, "128-bit")
    return factory(samples), "numpy"


def measure_row(backend: str, isa: str | None, name: str, threads: int, repeats: int) -> dict[str, object]:
    """Return one row of the table, without its share of the roof."""
    architecture = SHAPES[name]
    images = REFERENCE_IMAGES if backend == "reference" else images_for(architecture) * threads
    model, samples = random_network(architecture, images, SEED)
    evaluator, used_isa = build(backend, isa, samples, threads)
    result = measure_throughput(evaluator, model, images, repeats)
    return {
        "model": name,
        "backend": backend,
        "isa": used_isa,
        "threads": threads,
        "images": images,
        "repeats": repeats,
        "macs_per_image": result.macs_per_image,
        "images_per_s": round(result.median_images_per_s, 1),
        "spread": round(result.spread, 3),
        "gmac_per_s": round(result.median_images_per_s * result.macs_per_image / 1e9, 2),
        "gmac_per_s_per_core": round(result.gmac_per_cpu_s, 2),
    }


def share_of_roof(row: dict[str, object], roofs: list[Roof]) -> float | None:
    """Return what share of one core's roof a row reaches per core; the roof is that of its own instructions."""
    prefix = ROOF_OF_ISA.get(str(row["isa"]), "64-bit")
    for roof in roofs:
        if roof.name.startswith(prefix):
            return round(float(str(row["gmac_per_s_per_core"])) / roof.gmac_per_s, 3)
    return None


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", action="append", choices=AUTO_ORDER)
    parser.add_argument("--isa", action="append", help="instruction sets of the C kernel (default: the fastest)")
    parser.add_argument("--model", action="append", choices=SHAPES)
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def measure_table(options: argparse.Namespace, roofs: list[Roof], report: TextIO) -> list[dict[str, object]]:
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
                    row = measure_row(backend, isa, name, threads, options.repeats)
                    share = row["roof_fraction"] = share_of_roof(row, roofs)
                    rows.append(row)
                    print(
                        f"{name:11}{backend:10}{row['isa']:12}{threads:7}{row['images_per_s']:14,.0f}"
                        f"{row['spread']:8.0%}{row['gmac_per_s_per_core']:13.1f}"
                        f"{'-' if share is None else format(share, '.2f'):>9}",
                        file=report,
                    )
    return rows


def main() -> None:
    options = parse_options()
    report = sys.stderr if options.json == "-" else sys.stdout
    machine = {
        "processor": machine_name(),
        "cpus": os.cpu_count(),
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
    rows = measure_table(options, roofs, report)
    if options.json:
        found = {roof.name: round(roof.gmac_per_s, 1) for roof in roofs}
        best = max(found.values(), default=None)
        text = json.dumps(
            {"machine": machine, "seed": SEED, "roof_gmac_per_s": best, "roofs": found, "rows": rows}, indent=1
        )
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
