"""Which shapes does evolution find that beat cnn-4k, within 20 minutes of two cores?

    python bench/shapes.py --data DIR [--seeds 3] [--threads 2] [--json FILE] [--chart STEM]
    python bench/shapes.py --redraw FILE --chart STEM

DIR holds the MNIST files.  A search a seed, over shapes with no more weights and no more multiply-accumulates than
cnn-4k, that begins with random shapes alone.  Everything in a search sees the 60,000 pool images only: short trainings
on some, accuracy on others.  Then the search's most accurate shapes, and its most accurate with half of cnn-4k's work,
are trained once on all but those others, and the best of each stands for the search.  Last, these and cnn-4k are
trained with equal epochs on the whole pool, the seed of the training that of the search, and counted on the 10,000
test images.  Seconds are processor seconds of this process, its threads included; 20 minutes of two cores are 2,400.
The JSON file is written after each step, so a run that is ended keeps its rows.

Set OPENBLAS_NUM_THREADS=1: trainings run beside each other on threads of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnchain.bnn.encoding import wire_size_bytes
from bnnchain.bnn.notation import format_architecture, parse_architecture
from bnnchain.bnn.zoo import architecture
from bnnchain.cli.shapes_report import describe_search, draw_pareto
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining.shape_operators import ShapeSpace
from bnnchain.mining.shape_search import GenerationProgress, ShapeRequest, ShapeSearch, Trial, run_trial
from bnnchain_kernels.measure import machine_name

if TYPE_CHECKING:
    from bnnchain.datasets.dataset import Dataset
    from bnnchain.mining.shape_search import ScoredShape
    from bnnchain_kernels.model import Architecture

BASELINE = architecture("cnn-4k")
BUDGET_S = 2_400
"""Processor seconds of a search: 20 minutes of two cores."""
LIGHT_MACS = BASELINE.mac_count // 2
FINALISTS = 2
"""Shapes of each kind that are trained longer before one is chosen."""


def main() -> None:
    options = read_options()
    if options.redraw:
        draw(json.loads(options.redraw.read_text(encoding="utf-8")), options.chart)
        return
    dataset = load_mnist(options.data)
    report: dict[str, Any] = {
        "machine": machine_name(),
        "load": [os.getloadavg()[0]],
        "threads": options.threads,
        "baseline": format_architecture(BASELINE),
        "searches": [],
        "compared": [],
    }
    print(f"{report['machine']}, {os.cpu_count()} cpus, load {report['load'][0]:.1f}, {options.threads} threads")
    with ThreadPoolExecutor(options.threads) as executor:
        for seed in range(options.seeds):
            found, row = search(dataset, seed, options, executor)
            report["searches"].append(row)
            write_report(options, report)
            for row in compare(dataset, seed, {"cnn-4k": BASELINE, **found}, options.final_epochs, executor):
                report["compared"].append(row)
                print("seed {seed}, {kind}: {shape}, {macs} macs, test {test:.4f}".format(**row), flush=True)
            write_report(options, report)
    summarise(report["compared"])
    if options.chart:
        draw(report, options.chart)


def search(
    dataset: Dataset, seed: int, options: argparse.Namespace, executor: ThreadPoolExecutor
) -> tuple[dict[str, Architecture], dict[str, Any]]:
    """Return the shapes that stand for one search, and its row."""
    space = ShapeSpace(28, 28, 1, 10, BASELINE.weight_count, BASELINE.mac_count)
    request = ShapeRequest(
        space,
        seed,
        population=options.population,
        generations=options.generations,
        training_size=options.training_size,
        validation_size=options.validation_size,
        epochs=options.epochs,
        max_trials=options.max_trials,
    )
    started, cpu_before = time.perf_counter(), time.process_time()

    def tell(progress: GenerationProgress) -> None:
        best = progress.front[0]
        print(
            f"seed {seed}, generation {progress.generation}: {progress.trials} trainings,"
            f" {time.process_time() - cpu_before:.0f} processor s, {progress.seconds:.0f} s,"
            f" front {len(progress.front)}, best {best.accuracy:.4f} {format_architecture(best.architecture)}",
            flush=True,
        )

    running = ShapeSearch(request, dataset.pool)
    result = running.run(executor, tell, lambda: time.process_time() - cpu_before > BUDGET_S)
    light = [each for each in result.front if each.architecture.mac_count <= LIGHT_MACS]
    kinds = {"accurate": result.front[:FINALISTS], "light": light[:FINALISTS]}
    found, finalists = {}, []
    for kind, shapes in kinds.items():
        rows = judge(running, shapes, options.finalist_epochs, executor)
        finalists += [{"kind": kind, **row} for row in rows]
        if rows:
            found[kind] = shapes[max(range(len(rows)), key=lambda place: rows[place]["validation"])].architecture
    cpu_s = time.process_time() - cpu_before
    print(f"seed {seed}: {cpu_s:.0f} processor s in all", flush=True)
    seconds = {"cpu_s": round(cpu_s, 1), "seconds": round(time.perf_counter() - started, 1)}
    return found, {**describe_search(request, result), "finalists": finalists, **seconds}


def judge(
    running: ShapeSearch, shapes: list[ScoredShape], epochs: int, executor: ThreadPoolExecutor
) -> list[dict[str, Any]]:
    """Return the accuracy of each shape on the validation images after a longer training on all other pool images."""
    results = running.found(shapes, epochs, executor)
    sizes = [shape.validation_size for shape in shapes]
    return [
        {"shape": format_architecture(shape.architecture), "validation": result.validation_correct / size}
        for shape, size, result in zip(shapes, sizes, results, strict=True)
    ]


def compare(
    dataset: Dataset, seed: int, shapes: dict[str, Architecture], epochs: int, executor: ThreadPoolExecutor
) -> list[dict[str, Any]]:
    """Return the shapes' rows after training on the whole pool."""
    trials = [Trial(shape, seed, epochs, dataset.pool, dataset.heldout) for shape in shapes.values()]
    return [
        {
            "seed": seed,
            "kind": kind,
            "shape": format_architecture(shape),
            "weights": shape.weight_count,
            "macs": shape.mac_count,
            "epochs": epochs,
            "pool": result.founded.correct / len(dataset.pool),
            "test": result.validation_correct / len(dataset.heldout),
        }
        for (kind, shape), result in zip(shapes.items(), executor.map(run_trial, trials), strict=True)
    ]


def summarise(rows: list[dict[str, Any]]) -> None:
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        tests = [row["test"] for row in mine]
        weights, macs = max(row["weights"] for row in mine), max(row["macs"] for row in mine)
        print(
            f"{kind}: test {statistics.mean(tests):.4f} ({min(tests):.4f} .. {max(tests):.4f}), mean of {len(tests)},"
            f" at most {weights} weights, {macs} macs"
        )


def draw(report: dict[str, Any], stem: str) -> None:
    """Draw the searches, and as stars what the comparison counted on the test images."""
    marks = []
    for row in report["compared"]:
        size = wire_size_bytes(parse_architecture(row["shape"]), has_biases=False)
        mark = {"name": row["kind"], "accuracy": row["test"], "macs": row["macs"], "bytes": size}
        marks.append(mark if row["kind"] == "cnn-4k" else {**mark, "search": row["seed"]})
    for path in draw_pareto(report["searches"], stem, marks):
        print(path)


def write_report(options: argparse.Namespace, report: dict[str, Any]) -> None:
    if options.json:
        text = json.dumps({**report, "load": [*report["load"], os.getloadavg()[0]]}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory of the MNIST files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--population", type=int, default=10)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--training-size", type=int, default=6_000)
    parser.add_argument("--validation-size", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-trials", type=int, default=2)
    parser.add_argument("--finalist-epochs", type=int, default=1)
    parser.add_argument("--final-epochs", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="file to write")
    parser.add_argument("--chart", metavar="STEM", help="write STEM.png and STEM.svg, needs matplotlib")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="only draw an earlier run's --json")
    options = parser.parse_args()
    if not (options.redraw and options.chart) and not options.data:
        parser.error("--data, or --redraw with --chart, is needed")
    return options


if __name__ == "__main__":
    main()
