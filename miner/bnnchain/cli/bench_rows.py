"""What `bnnchain bench` and the benchmark scripts measure: one row per model, backend, instruction set, thread count.

Per-core figures divide by processor time, which a machine shared with others disturbs least.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus.lottery import lottery_value, mutant_flips, ticket_seed
from bnnchain.consensus.params import BP
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.measure import images_for, measure_throughput, random_network
from bnnchain_kernels.model import Architecture, Dense
from bnnchain_kernels.mutants import RaceRules, pack_mutants
from bnnchain_kernels.select import mutants_of, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain.datasets.dataset import Dataset
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.measure import Roof
    from bnnchain_kernels.model import Model

SEED: Final = 1
SHAPES: Final = {**ZOO, "dense": Architecture(28, 28, 1, (Dense(512), Dense(512), Dense(10)))}
SMALL_BATCH_IMAGES: Final = 64
"""For the reference, which needs milliseconds an image."""
ROOFS_OF_ISA: Final = {
    "avx512f": ("zmm", "ymm"),
    "avx2": ("ymm",),
    "sse2": ("popcnt", "64-bit"),
    "neon-aarch64": ("neon",),
    "neon-armv7": ("neon",),
    "128-bit": ("neon", "popcnt", "64-bit"),
}
"""The roof of a kernel is that of its own instructions: the first of these that this machine has, else 64-bit words."""
FEW_FLIPS: Final = 3
MAX_BATCH: Final = 4096
N_EVAL: Final = 1024
PARENT_SHARE: Final = 0.84
PARENT_EPOCHS: Final = 20


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to evaluate: a backend, the C kernel's instruction set (None: the fastest), a number of threads."""

    backend: str
    isa: str | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class ThroughputRow:
    """Images and multiply-accumulates a second, and the share of one core's roof that each core reaches."""

    model: str
    backend: str
    isa: str
    threads: int
    images: int
    repeats: int
    macs_per_image: int
    images_per_s: float
    spread: float
    gmac_per_s: float
    gmac_per_s_per_core: float
    roof: str | None
    roof_fraction: float | None


@dataclass(frozen=True, slots=True)
class SearchRow:
    """Candidates raced against a trained parent; a race rejects at two standard deviations below the target."""

    dataset: str
    model: str
    backend: str
    target_bp: int
    candidates_per_s_per_core: float
    survivors_share: float


@dataclass(frozen=True, slots=True)
class TicketRow:
    """Lottery tickets drawn: seed, mutant, logits of ``n_eval`` images, hash."""

    model: str
    backend: str
    n_eval: int
    tickets_per_s_per_core: float


def find_variants(backend: str, threads: Sequence[int], *, every_isa: bool) -> list[Variant]:
    """Return how to run a backend here: every instruction set on one thread, the fastest on each thread count.

    Raises :class:`Unavailable` where the backend does not run here.
    """
    if backend == "fpga":
        _open_overlay()
        return [Variant(backend)]
    select(backend)
    if backend == "reference":
        return [Variant(backend)]
    if backend != "c":
        return [Variant(backend, None, count) for count in threads]
    from bnnchain_kernels.native import choose_isa, instruction_sets

    fastest = choose_isa()
    others = [isa for isa in instruction_sets() if isa != fastest] if every_isa else []
    return [*(Variant(backend, fastest, count) for count in threads), *(Variant(backend, isa) for isa in others)]


def build(variant: Variant, samples: Samples) -> tuple[Evaluator, str]:
    """Return an evaluator, and the name of the instructions that it uses."""
    if variant.backend == "c":
        from bnnchain_kernels.native import NativeEvaluator

        native = NativeEvaluator(samples, variant.threads, variant.isa)
        return native, native.isa
    if variant.backend == "numba":
        from bnnchain_kernels.numba_sliced import NumbaEvaluator
        from bnnchain_kernels.vector import LANES

        return NumbaEvaluator(samples, variant.threads), {8: "avx512f", 4: "avx2"}.get(LANES, "128-bit")
    if variant.backend == "fpga":
        return _open_overlay()(samples), "overlay"
    return select(variant.backend)(samples), "numpy"


def measure_throughput_row(name: str, variant: Variant, roofs: Sequence[Roof], repeats: int) -> ThroughputRow:
    """Return one row; random weights and images, as the kernels' time does not depend on them."""
    architecture = SHAPES[name]
    images = SMALL_BATCH_IMAGES if variant.backend == "reference" else images_for(architecture) * variant.threads
    model, samples = random_network(architecture, images, SEED)
    evaluator, isa = build(variant, samples)
    result = measure_throughput(evaluator, model, images, repeats)
    roof = find_roof(isa, roofs)
    return ThroughputRow(
        model=name,
        backend=variant.backend,
        isa=isa,
        threads=variant.threads,
        images=images,
        repeats=repeats,
        macs_per_image=result.macs_per_image,
        images_per_s=round(result.median_images_per_s, 1),
        spread=round(result.spread, 3),
        gmac_per_s=round(result.median_images_per_s * result.macs_per_image / 1e9, 3),
        gmac_per_s_per_core=round(result.gmac_per_cpu_s, 3),
        roof=None if roof is None else roof.name,
        roof_fraction=None if roof is None else round(result.gmac_per_cpu_s / roof.gmac_per_s, 4),
    )


def find_roof(isa: str, roofs: Sequence[Roof]) -> Roof | None:
    """Return the roof of a kernel's instructions, or None where it runs on none of the processor's (or none is known).

    isa: as :func:`build` names it.
    """
    if isa in {"numpy", "overlay"}:
        return None
    for prefix in ROOFS_OF_ISA.get(isa, ("64-bit",)):
        for roof in roofs:
            if roof.name.startswith(prefix):
                return roof
    return None


def train_parent(dataset: Dataset) -> tuple[str, Model]:
    """Return a name of the zoo and a model of that shape, trained to 84 % of the pool or as near as it comes."""
    pool = dataset.pool
    wanted = (pool.height, pool.width, pool.planes, pool.classes)
    for name, shape in ZOO.items():
        if (shape.height, shape.width, shape.planes, shape.classes) == wanted:
            founded = StraightThroughFounder().found(
                shape,
                pool,
                select("auto")(pool),
                seed=SEED,
                target_correct=round(len(pool) * PARENT_SHARE),
                max_epochs=PARENT_EPOCHS,
            )
            return name, founded.model
    raise Unavailable(f"no architecture of the zoo fits {dataset.manifest.name}")


def measure_search_row(
    dataset: Dataset, name: str, parent: Model, backend: str, target_bp: int, seconds: float
) -> SearchRow:
    """Return how fast mutants of 1 to 3 flips are judged, drawing included, on the whole pool."""
    pool = dataset.pool
    mutants = mutants_of(build(Variant(backend), pool)[0], pool, parent, len(pool))
    rng = np.random.default_rng(SEED)
    rules = RaceRules(floor=max(1, len(pool) * target_bp // BP))
    survivors: list[int] = [0, 0]

    def judge(count: int) -> None:
        sizes = rng.integers(1, FEW_FLIPS + 1, count).tolist()
        batch = pack_mutants([(rng.integers(0, parent.architecture.weight_count, size), ()) for size in sizes])
        races = mutants.race(batch, rng.integers(0, len(mutants.base_counts), count), rules)
        survivors[0] += len(races.survivors())
        survivors[1] += count

    rate = measure_rate(judge, seconds)
    return SearchRow(
        dataset.manifest.name, name, backend, target_bp, round(rate, 1), round(survivors[0] / survivors[1], 4)
    )


def measure_ticket_row(name: str, backend: str, seconds: float) -> TicketRow:
    """Return how fast tickets of one flip in each layer are drawn on a base, hashing included."""
    base, samples = random_network(SHAPES[name], N_EVAL, SEED)
    mutants = mutants_of(build(Variant(backend), samples)[0], samples, base, N_EVAL)
    core = np.random.default_rng(SEED).bytes(32)
    first = 0

    def draw(count: int) -> None:
        nonlocal first
        seeds = [ticket_seed(core, nonce) for nonce in range(first, first + count)]
        logits = mutants.logits(pack_mutants([(mutant_flips(base.architecture, seed, 1), ()) for seed in seeds]))
        for seed, each in zip(seeds, logits, strict=True):
            lottery_value(seed, each)
        first += count

    return TicketRow(name, backend, N_EVAL, round(measure_rate(draw, seconds, max_batch=64), 1))


def measure_rate(run: Callable[[int], None], seconds: float, max_batch: int = MAX_BATCH) -> float:
    """Return items per second of processor time; ``run(count)`` handles that many, in growing batches."""
    run(1)
    size, done, begin, last = 1, 0, time.process_time(), 0.0
    while (elapsed := time.process_time() - begin) < seconds or not done:
        if elapsed - last < seconds / 8:
            size = min(2 * size, max_batch)
        last = elapsed
        run(size)
        done += size
    return done / elapsed


def _open_overlay() -> Callable[[Samples], Evaluator]:
    """Return the board's own factory, with no processor behind it that would answer in its place."""
    from bnnchain_fpga.boards import open_transport
    from bnnchain_fpga.evaluator import Accelerator, make_factory

    return make_factory(Accelerator(open_transport("fpga")))
