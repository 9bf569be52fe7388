"""How many images a second does each kernel evaluate, and what share of the processor's roof is that?

    python bench/xnor.py [--backend c] [--model cnn-4k] [--threads 1] [--repeats 9] [--json FILE]

Random weights and images: the kernels' time does not depend on them.  ``--json -`` writes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.measure import images_for, machine_name, measure_throughput, random_network
from bnnchain_kernels.model import Architecture, Dense
from bnnchain_kernels.select import AUTO_ORDER, select

SEED = 1
SHAPES = {**ZOO, "dense": Architecture(28, 28, 1, (Dense(512), Dense(512), Dense(10)))}
REFERENCE_IMAGES = 512


def measure_row(backend: str, model_name: str, threads: int, repeats: int) -> dict[str, object]:
    """Return one row of the table."""
    factory, architecture = select(backend), SHAPES[model_name]
    images = REFERENCE_IMAGES if backend == "reference" else images_for(architecture) * threads
    model, samples = random_network(architecture, images, SEED)
    evaluator = factory(samples) if backend == "reference" else factory(samples, threads=threads)  # type: ignore[call-arg]
    result = measure_throughput(evaluator, model, images, repeats)
    return {
        "model": model_name,
        "backend": backend,
        "threads": threads,
        "images": images,
        "repeats": repeats,
        "macs_per_image": result.macs_per_image,
        "images_per_s": round(result.median_images_per_s, 1),
        "spread": round(result.spread, 3),
        "gmac_per_s_per_core": round(result.gmac_per_cpu_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", action="append", choices=AUTO_ORDER)
    parser.add_argument("--model", action="append", choices=SHAPES)
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    report = sys.stderr if options.json == "-" else sys.stdout

    machine = {
        "processor": machine_name(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()), file=report)
    print(f"{'model':12}{'backend':12}{'threads':>8}{'images/s':>16}{'spread':>9}{'GMAC/s/core':>13}", file=report)
    rows = []
    for backend in options.backend or AUTO_ORDER:
        try:
            select(backend)
        except Unavailable as reason:
            print(f"{'':12}{backend:12}not measured: {reason}", file=report)
            continue
        for model_name in options.model or SHAPES:
            for threads in [1] if backend == "reference" else options.threads or [1]:
                row = measure_row(backend, model_name, threads, options.repeats)
                rows.append(row)
                print(
                    f"{model_name:12}{backend:12}{threads:8}{row['images_per_s']:16,.0f}"
                    f"{row['spread']:9.0%}{row['gmac_per_s_per_core']:13.1f}",
                    file=report,
                )
    if options.json:
        text = json.dumps({"machine": machine, "seed": SEED, "rows": rows}, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
