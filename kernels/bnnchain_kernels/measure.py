"""How fast a backend evaluates on this machine; what ``bench/xnor.py`` and ``bnnchain bench`` print."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bnnchain_kernels.evaluator import BLOCK_IMAGES, Samples
from bnnchain_kernels.model import Conv3x3, build_model
from bnnchain_kernels.threads import run_shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_kernels.evaluator import Evaluator
    from bnnchain_kernels.model import Architecture, Model

MIN_REPEAT_SECONDS: Final = 0.05
"""One repeat calls often enough to last this long, so that the clock's own cost does not count."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per second over several repeats, and multiply-accumulates per image (each one xnor and one count).

    images_per_cpu_s divides by processor time instead: on a shared machine it is the steadier figure of one core.
    """

    images_per_s: tuple[float, ...]
    images_per_cpu_s: tuple[float, ...]
    macs_per_image: int

    @property
    def median_images_per_s(self) -> float:
        return statistics.median(self.images_per_s)

    @property
    def spread(self) -> float:
        """The range of the repeats as a share of their median."""
        return (max(self.images_per_s) - min(self.images_per_s)) / self.median_images_per_s

    @property
    def gmac_per_cpu_s(self) -> float:
        return statistics.median(self.images_per_cpu_s) * self.macs_per_image / 1e9


def needed_macs(architecture: Architecture) -> int:
    """Return the multiply-accumulates that one image's answer depends on.

    Fewer than ``architecture.mac_count``, which also counts the positions that an odd side loses in pooling.
    """
    total = 0
    for place in architecture.geometry:
        pooled = isinstance(place.layer, Conv3x3) and place.layer.pool
        total += place.out_height * place.out_width * (4 if pooled else 1) * place.weight_count
    return total


def random_network(architecture: Architecture, images: int, seed: int) -> tuple[Model, Samples]:
    """Return a seeded random model and samples; speed does not depend on either, so they need no training."""
    rng = np.random.default_rng(seed)
    weights = [rng.random((place.out_channels, place.fan_in)) < 0.5 for place in architecture.geometry]  # noqa: PLR2004
    limits = [np.full(place.out_channels, place.fan_in // 2) for place in architecture.geometry[:-1]]
    packed = np.packbits(rng.random((images, architecture.input_bits)) < 0.5, axis=1, bitorder="little")  # noqa: PLR2004
    labels = rng.integers(0, architecture.classes, images).astype(np.uint8)
    shape = (architecture.height, architecture.width, architecture.planes, architecture.classes)
    return build_model(architecture, weights, limits, np.zeros(architecture.classes)), Samples(*shape, packed, labels)


def measure_throughput(evaluator: Evaluator, model: Model, images: int, repeats: int) -> Throughput:
    """Return the throughput of ``correct`` over ``images`` images, after one warm-up call."""
    evaluator.correct(model, 0, images)
    rates, cpu_rates = [], []
    for _ in range(repeats):
        calls, begin, cpu_begin = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - begin) < MIN_REPEAT_SECONDS or not calls:
            evaluator.correct(model, 0, images)
            calls += 1
        rates.append(calls * images / elapsed)
        cpu_rates.append(calls * images / (time.process_time() - cpu_begin))
    return Throughput(tuple(rates), tuple(cpu_rates), needed_macs(model.architecture))


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many times as fast several threads are as one, by the clock, and what the machine itself grants.

    median, best: one thread's median and least time over that of several.  roof_median, roof_best: the same of the
    roof's work, which waits for nothing but processors: other load lowers both alike.
    """

    median: float
    best: float
    roof_median: float
    roof_best: float


def measure_scaling(one: Evaluator, several: Evaluator, threads: int, model: Model, images: int, turns: int) -> Scaling:
    """Return what ``several``, an evaluator of ``threads`` threads, gains over ``one``; they take turns, and the roof.

    Raises :class:`~bnnchain_kernels.errors.Unavailable` where the C library is not there.
    """
    from bnnchain_kernels.native import load_library

    library = load_library()
    library.bnn_roof_fill(1)
    roof = next(index for index in range(library.bnn_roof_count()) if library.bnn_roof_runs_here(index))

    def spin(first: int, last: int) -> None:
        for _ in range(first, last):
            library.bnn_roof_run(roof)

    calls = max(threads, int(_seconds(lambda: one.correct(model, 0, images)) / _seconds(lambda: spin(0, 100)) * 100))
    runs = (
        lambda: one.correct(model, 0, images),
        lambda: several.correct(model, 0, images),
        lambda: run_shares(calls, 1, spin),
        lambda: run_shares(calls, threads, spin),
    )
    times = np.array([[_seconds(run) for run in runs] for _ in range(turns + 1)])[1:]
    medians, least = np.median(times, axis=0), times.min(axis=0)
    return Scaling(medians[0] / medians[1], least[0] / least[1], medians[2] / medians[3], least[2] / least[3])


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Roof:
    """What one core reaches with xor, count and add alone, by the fastest instructions that it has."""

    name: str
    gmac_per_s: float


def measure_roofs(repeats: int) -> list[Roof]:
    """Return the roofs of this machine's instruction sets, fastest instructions first, in processor time.

    Raises :class:`~bnnchain_kernels.errors.Unavailable` where the C library is not there.
    """
    from bnnchain_kernels.native import ffi, load_library

    library = load_library()
    library.bnn_roof_fill(1)
    roofs = []
    for index in range(library.bnn_roof_count()):
        if not library.bnn_roof_runs_here(index):
            continue
        rates = []
        for _ in range(repeats):
            calls, begin = 0, time.thread_time()
            while (elapsed := time.thread_time() - begin) < MIN_REPEAT_SECONDS:
                library.bnn_roof_run(index)
                calls += 1
            rates.append(calls * library.bnn_roof_macs(index) / elapsed / 1e9)
        roofs.append(Roof(ffi.string(library.bnn_roof_name(index)).decode("ascii"), statistics.median(rates)))
    return roofs


def images_for(architecture: Architecture) -> int:
    """Return how many images to measure with: whole blocks, about a billion multiply-accumulates."""
    return BLOCK_IMAGES * max(2, min(64, 2_000_000_000 // (needed_macs(architecture) * BLOCK_IMAGES)))


def machine_name() -> str:
    """Return the processor's name as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
