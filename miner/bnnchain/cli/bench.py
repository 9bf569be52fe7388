"""`bnnchain bench`: how fast the kernels, a search and the lottery are on this machine."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bnnchain import __version__
from bnnchain.bnn.zoo import ZOO
from bnnchain.cli import bench_overlay, bench_rows
from bnnchain.cli.options import backend_option, data_option, json_option, write_json
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.params import BP
from bnnchain.datasets import digits, mnist
from bnnchain_kernels.measure import Roof, machine_name, measure_roofs
from bnnchain_kernels.select import AUTO_ORDER
from bnnchain_kernels.threads import MAX_THREADS, default_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bnnchain.cli.bench_rows import SearchRow, ThroughputRow, TicketRow, Variant
    from bnnchain.datasets.dataset import Dataset

TARGETS_BP = (100, 0)
QUICK_MODELS = ("cnn-4k", "cnn-digits")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: repeats of a throughput, processor seconds of a search or of tickets."""

    repeats: int
    seconds: float


FULL, QUICK = Effort(5, 0.5), Effort(3, 0.1)


@dataclass(slots=True)
class Report:
    """All that was measured, and why something was not."""

    roofs: list[Roof] = field(default_factory=list)
    rows: list[ThroughputRow] = field(default_factory=list)
    search: list[SearchRow] = field(default_factory=list)
    tickets: list[TicketRow] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(list(ZOO)), help="Repeatable.  [default: all]")
@backend_option
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1, MAX_THREADS),
    help="Repeatable.  [default: 1 and as many as processors]",
)
@click.option("--quick", is_flag=True, help="A few seconds: the fastest instructions, one thread, small models.")
@data_option
@json_option
def bench(
    models: Sequence[str],
    backend: str,
    threads: Sequence[int],
    quick: bool,  # noqa: FBT001  (click passes it by name)
    data_dir: Path | None,
    json_file: str | None,
) -> None:
    """Measure images, candidates and tickets a second, against the processor's own roof.

    'auto' measures every backend that runs here; 'fpga-sim' models the overlay's cycles instead.  The search races on
    the embedded digits; --data names MNIST's files.
    """
    if backend == "fpga-sim":
        show_overlay(models or tuple(ZOO), json_file)
        return
    models = models or (QUICK_MODELS if quick else tuple(ZOO))
    threads = threads or ((1,) if quick else tuple(sorted({1, default_threads()})))
    effort = QUICK if quick else FULL
    dataset = digits.load_digits() if data_dir is None else mnist.load_mnist(data_dir)
    console = Console(stderr=json_file == "-")
    machine = describe_machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False, soft_wrap=True)
    report = Report()
    with console.status("measuring the roof") as status:
        measure_roof(report, effort)
        variants = find_all_variants(report, backend, threads, every_isa=not quick)
        for variant in variants:
            for name in models:
                status.update(f"measuring {name} on {variant.backend} {variant.isa or ''}, {variant.threads} threads")
                report.rows.append(bench_rows.measure_throughput_row(name, variant, report.roofs, effort.repeats))
        status.update("measuring searches and tickets")
        measure_mining(report, _single_core_backends(variants), models, dataset, effort)
    for table in tables(report):
        console.print(table)
    for name, reason in report.not_measured.items():
        console.print(f"not measured: {name}: {reason}", highlight=False, soft_wrap=True)
    write_json(json_file, to_json(report, machine))


def show_overlay(models: Sequence[str], json_file: str | None) -> None:
    """Show what the overlay's cycle model says; a simulation's own speed would say nothing."""
    rows = bench_overlay.overlay_rows(models)
    Console(stderr=json_file == "-").print(bench_overlay.overlay_table(rows))
    write_json(json_file, bench_overlay.overlay_report(rows))


def describe_machine() -> dict[str, object]:
    """Return what a figure means nothing without, the load of other work included."""
    return {
        "processor": machine_name(),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "bnnchain": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def measure_roof(report: Report, effort: Effort) -> None:
    """Fill in the roofs; without the C library there are none."""
    try:
        report.roofs = measure_roofs(effort.repeats)
    except Unavailable as reason:
        report.not_measured["roof"] = str(reason)


def find_all_variants(report: Report, backend: str, threads: Sequence[int], *, every_isa: bool) -> list[Variant]:
    """Return all ways to evaluate that were asked for; ``auto`` notes why a backend does not run, others raise."""
    if backend != "auto":
        return bench_rows.find_variants(backend, threads, every_isa=every_isa)
    variants = []
    for name in AUTO_ORDER:
        try:
            variants += bench_rows.find_variants(name, threads, every_isa=every_isa)
        except Unavailable as reason:
            report.not_measured[name] = str(reason)
    return variants


def measure_mining(
    report: Report, backends: Iterable[str], models: Sequence[str], dataset: Dataset, effort: Effort
) -> None:
    """Fill in candidates and tickets a second."""
    name, parent = bench_rows.train_parent(dataset)
    for backend in backends:
        for target_bp in TARGETS_BP:
            report.search.append(
                bench_rows.measure_search_row(dataset, name, parent, backend, target_bp, effort.seconds)
            )
        report.tickets += [bench_rows.measure_ticket_row(model, backend, effort.seconds) for model in models]


def to_json(report: Report, machine: dict[str, object]) -> dict[str, object]:
    """Return the report as plain JSON values; ``roof_gmac_per_s`` is that of the fastest instructions."""
    found = {roof.name: round(roof.gmac_per_s, 2) for roof in report.roofs}
    return {
        "machine": machine,
        "seed": bench_rows.SEED,
        "roof_gmac_per_s": max(found.values(), default=None),
        "roofs": found,
        "rows": [asdict(row) for row in report.rows],
        "search": [asdict(row) for row in report.search],
        "tickets": [asdict(row) for row in report.tickets],
        "not_measured": report.not_measured,
    }


def tables(report: Report) -> list[Table]:
    """Return the report for people."""
    roofs = _table(
        "Roof of one core",
        ("instructions", "GMAC/s"),
        [(roof.name, f"{roof.gmac_per_s:,.1f}") for roof in report.roofs],
    )
    throughput = _table(
        "Throughput; GMAC/s and share of the roof per core",
        ("model", "backend", "isa", "thr", "images/s", "spread", "GMAC/s", "roof"),
        [
            (
                row.model,
                row.backend,
                row.isa,
                str(row.threads),
                f"{row.images_per_s:,.0f}",
                f"{row.spread:.0%}",
                f"{row.gmac_per_s_per_core:,.1f}",
                "-" if row.roof_fraction is None else f"{row.roof_fraction:.2f}",
            )
            for row in report.rows
        ],
    )
    search = _table(
        "Search on one core",
        ("data", "model", "backend", "target", "candidates/s", "kept"),
        [
            (
                row.dataset,
                row.model,
                row.backend,
                f"+{100 * row.target_bp / BP:g} %" if row.target_bp else "any gain",
                f"{row.candidates_per_s_per_core:,.0f}",
                f"{row.survivors_share:.1%}",
            )
            for row in report.search
        ],
    )
    tickets = _table(
        "Lottery on one core",
        ("model", "backend", "tickets/s"),
        [(row.model, row.backend, f"{row.tickets_per_s_per_core:,.0f}") for row in report.tickets],
    )
    return [table for table in (roofs, throughput, search, tickets) if table.row_count]


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        is_name = column in {"model", "backend", "isa", "data", "instructions"}
        table.add_column(column, justify="left" if is_name else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _single_core_backends(variants: Iterable[Variant]) -> list[str]:
    """Return the compiled backends once each, else the reference; the overlay is no core."""
    names = list(dict.fromkeys(variant.backend for variant in variants if variant.backend != "fpga"))
    return [name for name in names if name != "reference"] or names
