"""Writes the golden vectors from the reference kernel: ``PYTHONPATH=tests python tests/kernels/make_vectors.py``.

The answers change only together with PROTOCOL.md.  ``test_golden.py`` checks them against an independent oracle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from random_networks import random_model, random_samples

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model

from bnnchain_kernels.golden import GoldenCase, hash_logits
from bnnchain_kernels.model import MAX_ABS_BIAS, Architecture, Conv3x3, Dense, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

ROOT = Path(__file__).resolve().parents[2]
SELF_CHECK = ROOT / "kernels" / "bnnchain_kernels" / "selfcheck.json"
GOLDEN = ROOT / "tests" / "vectors" / "kernels.json"

# name, input, layers, images; the first ones also ship inside the package.
SHIPPED = [
    ("tail of one, one channel, pool", (7, 6, 1), (Conv3x3(3, pool=True), Dense(5)), 513),
    ("channels in groups of 8, 4 and 1", (6, 5, 1), (Conv3x3(5), Conv3x3(9), Dense(3)), 70),
    ("dense of several chunks", (25, 27, 1), (Dense(6), Dense(4)), 9),
    ("more than 64 channels", (7, 6, 1), (Conv3x3(70), Conv3x3(2, pool=True), Dense(2)), 33),
]
FURTHER = [
    ("dense only, one class bit", (1, 1, 1), (Dense(2),), 511),
    ("planes and odd sizes", (9, 11, 3), (Conv3x3(4, pool=True), Conv3x3(6), Dense(7), Dense(10)), 129),
    ("one-channel layers throughout", (10, 10, 1), (Conv3x3(1), Conv3x3(1, pool=True), Conv3x3(1), Dense(3)), 257),
    ("256 classes", (4, 4, 1), (Conv3x3(8), Dense(256)), 64),
    ("a row and a column dropped by pooling", (8, 9, 2), (Conv3x3(3), Conv3x3(5, pool=True), Dense(10)), 300),
    ("no images", (3, 3, 1), (Conv3x3(1), Dense(2)), 0),
]


def make_case(
    seed: int, name: str, size: tuple[int, int, int], layers: tuple[Conv3x3 | Dense, ...], images: int
) -> GoldenCase:
    """Return a case with seeded random content and the reference's answers."""
    rng = np.random.default_rng(seed)
    architecture = Architecture(*size, layers)
    model = random_model(rng, architecture)
    return answer(name, model, random_samples(rng, architecture, images, model))


def make_special_cases() -> list[GoldenCase]:
    """Return the cases whose parameters matter, not only their shapes."""
    rng = np.random.default_rng(99)
    architecture = Architecture(5, 5, 1, (Conv3x3(4), Dense(4)))
    conv, dense = rng.random((4, 9)) < 0.5, rng.random((4, 36)) < 0.5
    tied = np.repeat(dense[:1], 4, axis=0)
    tests = [
        ("all classes tie: the lowest wins", tied, [4, 5, 6, 3], [0, 0, 0, 0]),
        ("an odd bias breaks the tie", tied, [4, 5, 6, 3], [0, 1, 1, 0]),
        ("thresholds at 0 and K+1", dense, [0, 10, 0, 10], [0, 0, 0, 0]),
        ("biases at their bounds", dense, [4, 5, 5, 4], [-MAX_ABS_BIAS, MAX_ABS_BIAS, MAX_ABS_BIAS, 3]),
    ]
    cases = []
    for name, last, limits, biases in tests:
        model = build_model(architecture, [conv, last], [limits], biases)
        cases.append(answer(name, model, random_samples(rng, architecture, 40, model)))
    return cases


def answer(name: str, model: Model, samples: Samples) -> GoldenCase:
    """Return the case with the reference's answers."""
    reference = ReferenceEvaluator(samples)
    correct = tuple(reference.correct(model, 0, len(samples)).tolist())
    return GoldenCase(name, model, samples, correct, hash_logits(reference.logits(model, 0, len(samples))))


def write(path: Path, cases: list[GoldenCase]) -> None:
    """Write cases as one JSON array, one case a line."""
    lines = ",\n".join(json.dumps(case.to_json()) for case in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="ascii")
    print(f"{path.relative_to(ROOT)}: {len(cases)} cases, {path.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    shipped = [make_case(seed, *spec) for seed, spec in enumerate(SHIPPED)]
    special = make_special_cases()
    write(SELF_CHECK, shipped + special)
    write(GOLDEN, shipped + special + [make_case(100 + seed, *spec) for seed, spec in enumerate(FURTHER)])
