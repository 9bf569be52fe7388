from __future__ import annotations

import numpy as np
import pytest
from kernels.backends import C_ISAS

from bnnchain_kernels.measure import (
    images_for,
    measure_roofs,
    measure_scaling,
    measure_throughput,
    needed_macs,
    random_network,
)
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Int32Array, Model
from bnnchain_kernels.native import ffi, load_library
from bnnchain_kernels.reference import ReferenceEvaluator

needs_c = pytest.mark.skipif(not C_ISAS, reason="the C kernel is not built")
CNN_4K = Architecture(28, 28, 1, (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)))


def test_needed_macs_leave_out_what_pooling_drops() -> None:
    assert needed_macs(CNN_4K) == 676 * 36 + 100 * 576 + 4 * 3456 + 240


def test_throughput_is_counted_in_images() -> None:
    architecture = Architecture(3, 3, 1, (Dense(2),))
    model, samples = random_network(architecture, 512, 1)
    result = measure_throughput(ReferenceEvaluator(samples), model, 512, 3)
    assert len(result.images_per_s) == 3
    assert 0 < min(result.images_per_s) <= result.median_images_per_s <= max(result.images_per_s)
    assert result.gmac_per_cpu_s > 0
    assert images_for(CNN_4K) % 512 == 0


@needs_c
def test_the_roofs_count_right() -> None:
    """The micro-benchmarks must really do their counts: their sums are those of NumPy on the same words."""
    library = load_library()
    library.bnn_roof_fill(7)
    words = splitmix64(7, 4096)
    left, right = words[:2048], words[2048:]
    expected = {
        "zmm": tile_sum(left, right, steps=128, rows=8, columns=16),
        "ymm": tile_sum(left, right, steps=256, rows=4, columns=4),
        "neon": tile_sum(left, right, steps=256, rows=4, columns=4),
        "popcnt": tile_sum(left, right, steps=1024, rows=2, columns=2),
        "64-bit": tile_sum(left, right, steps=1024, rows=2, columns=2),
    }
    checked = 0
    for index in range(library.bnn_roof_count()):
        if library.bnn_roof_runs_here(index):
            kind = ffi.string(library.bnn_roof_name(index)).decode("ascii").split()[0]
            runs = library.bnn_roof_run(index) / expected[kind]
            assert runs == 64, kind
            checked += 1
    assert checked


def splitmix64(seed: int, count: int) -> np.ndarray:
    mask, words = (1 << 64) - 1, []
    for _ in range(count):
        seed = seed + 0x9E3779B97F4A7C15 & mask
        mixed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & mask
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
        words.append(mixed ^ mixed >> 31)
    return np.array(words, np.uint64)


def tile_sum(left: np.ndarray, right: np.ndarray, steps: int, rows: int, columns: int) -> int:
    one = left[: steps * rows].reshape(steps, rows, 1)
    two = right[: steps * columns].reshape(steps, 1, columns)
    return int(np.unpackbits((one ^ two).view(np.uint8)).sum(dtype=np.int64))


@needs_c
def test_roofs_are_plausible() -> None:
    roofs = measure_roofs(1)
    assert roofs[-1].name.startswith("64-bit")
    assert roofs[-1].gmac_per_s > 0.1


@needs_c
def test_scaling_compares_what_was_given() -> None:
    """An evaluator on eight times the images stands in for slow threads: the ratio must be far below one."""
    architecture = Architecture(3, 3, 1, (Dense(2),))
    model, samples = random_network(architecture, 512 * 64, 1)
    evaluator = ReferenceEvaluator(samples)

    class Slow:
        backend = "slow"

        def correct(self, model: Model, start: int, stop: int) -> Int32Array:
            return np.concatenate([evaluator.correct(model, start, stop) for _ in range(8)])

        def logits(self, model: Model, start: int, stop: int) -> Int32Array:
            return evaluator.logits(model, start, stop)

    found = measure_scaling(evaluator, Slow(), 2, model, 512 * 64, 9)
    assert found.best < 0.5
    assert found.roof_median > 0
    assert found.roof_best > 0
