"""Mutants in the C kernel equal mutants built and evaluated one by one, in every count, race and logit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from kernels.backends import C_ISAS
from random_networks import random_architecture, random_model, random_samples

from bnnchain_kernels.model import Architecture, Conv3x3, Dense, unpack_weights
from bnnchain_kernels.mutants import (
    Mutants,
    PlainMutants,
    RaceRules,
    build_mutant,
    is_hopeless,
    pack_mutants,
    validate_mutants,
)
from bnnchain_kernels.native import NativeEvaluator
from bnnchain_kernels.native_mutants import NativeMutants
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import mutants_of

if TYPE_CHECKING:
    from numpy.random import Generator

    from bnnchain_kernels.evaluator import EvaluatorFactory

pytestmark = pytest.mark.skipif(not C_ISAS, reason="the C kernel is not built")

SMALL = Architecture(6, 6, 1, (Conv3x3(3, True), Dense(5), Dense(4)))


def random_mutants(rng: Generator, architecture: Architecture, count: int) -> Mutants:
    hidden = sum(place.out_channels for place in architecture.geometry[:-1])
    changes = []
    for _ in range(count):
        flips = rng.integers(0, architecture.weight_count, int(rng.integers(0, 6)))
        steps = [
            (int(rng.integers(0, hidden)), int(rng.integers(-9, 10)))
            for _ in range(int(rng.integers(0, 3)) * bool(hidden))
        ]
        changes.append((flips, steps))
    return pack_mutants(changes)


def assert_same(seed: int, isa: str, architecture: Architecture, images: int, threads: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_model(rng, architecture)
    samples = random_samples(rng, architecture, images, base)
    mutants = random_mutants(rng, architecture, 12)
    # The plain evaluator of full models is the C kernel too, equal to the reference by test_parity.py, and fast.
    plain = PlainMutants(NativeEvaluator(samples, threads), samples, base, images)
    native = NativeMutants(NativeEvaluator(samples, threads, isa), base, images)
    np.testing.assert_array_equal(native.base_counts, plain.base_counts)
    first_blocks = rng.integers(0, len(plain.base_counts), 12)
    for rules in (RaceRules(0), RaceRules(3, sigmas=0.25), RaceRules(-5, sigmas=1, prior_variance=0.1)):
        expected, got = plain.race(mutants, first_blocks, rules), native.race(mutants, first_blocks, rules)
        np.testing.assert_array_equal(got.seen, expected.seen, f"seed {seed}")
        np.testing.assert_array_equal(got.counts, expected.counts, f"seed {seed}")
    np.testing.assert_array_equal(native.logits(mutants), plain.logits(mutants), f"seed {seed}")


@pytest.mark.parametrize("isa", C_ISAS)
@pytest.mark.parametrize("group", range(4))
def test_random_architectures(isa: str, group: int) -> None:
    for seed in range(group * 12, group * 12 + 12):
        rng = np.random.default_rng(1000 + seed)
        images = int(rng.choice([1, 64, 65, 511, 513, 1700]))
        assert_same(seed, isa, random_architecture(rng), images, threads=1 + seed % 2)


@pytest.mark.parametrize(
    ("size", "layers", "images"),
    [
        pytest.param((28, 28, 1), (Conv3x3(4, True), Conv3x3(16, True), Conv3x3(24, True), Dense(10)), 1500, id="4k"),
        pytest.param((5, 5, 64), (Conv3x3(130), Conv3x3(3), Dense(2)), 70, id="channels in chunks"),
        pytest.param((30, 40, 1), (Dense(9), Dense(4)), 20, id="inputs in chunks"),
    ],
)
def test_large_architectures(size: tuple[int, int, int], layers: tuple[Conv3x3 | Dense, ...], images: int) -> None:
    assert_same(1, C_ISAS[0], Architecture(*size, layers), images, threads=2)


def test_single_flips_of_every_weight() -> None:
    """Each weight's place among the codes is found, in every layer."""
    rng = np.random.default_rng(5)
    base = random_model(rng, SMALL)
    samples = random_samples(rng, SMALL, 100, base)
    mutants = pack_mutants([([position], []) for position in range(SMALL.weight_count)])
    plain = PlainMutants(ReferenceEvaluator(samples), samples, base, 100)
    native = NativeMutants(NativeEvaluator(samples), base, 100)
    np.testing.assert_array_equal(native.logits(mutants), plain.logits(mutants))


def test_threads_and_order_change_nothing() -> None:
    rng = np.random.default_rng(6)
    base = random_model(rng, SMALL)
    samples = random_samples(rng, SMALL, 6000, base)
    mutants = random_mutants(rng, SMALL, 200)
    first_blocks = rng.integers(0, 12, 200)
    races = [
        NativeMutants(NativeEvaluator(samples, threads), base, 6000).race(mutants, first_blocks, RaceRules(1))
        for threads in (1, 2, 4)
    ]
    for race in races[1:]:
        np.testing.assert_array_equal(race.seen, races[0].seen)
        np.testing.assert_array_equal(race.counts, races[0].counts)
    assert 0 < len(races[0].survivors()) < 200


def test_a_batch_leaves_the_base_as_it_was() -> None:
    rng = np.random.default_rng(7)
    base = random_model(rng, SMALL)
    samples = random_samples(rng, SMALL, 600, base)
    native = NativeMutants(NativeEvaluator(samples), base, 600)
    unchanged = pack_mutants([([], [])])
    expected = ReferenceEvaluator(samples).logits(base, 0, 600)
    for _ in range(5):
        native.logits(random_mutants(rng, SMALL, 30))
        np.testing.assert_array_equal(native.logits(unchanged)[0], expected)
    race = native.race(unchanged, np.zeros(1, np.int64), RaceRules(0))
    np.testing.assert_array_equal(race.counts[0], native.base_counts)


def test_a_flip_given_twice_is_none() -> None:
    base = random_model(np.random.default_rng(8), SMALL)
    twice = build_mutant(base, pack_mutants([([7, 7], [])]), 0)
    for rows, same in zip(unpack_weights(base), unpack_weights(twice), strict=True):
        np.testing.assert_array_equal(rows, same)


def test_races_reject_what_is_worse_and_keep_what_is_not() -> None:
    rules = RaceRules(floor=100, sigmas=2.0)
    assert is_hopeless(rules, gained=-40, differing=60, seen=512, images=60_000)
    assert not is_hopeless(rules, gained=1, differing=60, seen=512, images=60_000)
    assert not is_hopeless(rules, gained=-2, differing=60, seen=512, images=60_000)
    assert not is_hopeless(replace(rules, sigmas=20), gained=-40, differing=60, seen=512, images=60_000)
    assert is_hopeless(rules, gained=98, differing=600, seen=59_999, images=60_000), "few images left change little"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([([-1], [])], "outside"),
        ([([SMALL.weight_count], [])], "outside"),
        ([([], [(-1, 1)])], "outside"),
        ([([], [(8, 1)])], "outside"),
        ([([], [(0, 1 << 22)])], "step size"),
    ],
)
def test_changes_outside_the_model(changes: list[tuple[list[int], list[tuple[int, int]]]], reason: str) -> None:
    base = random_model(np.random.default_rng(9), SMALL)
    samples = random_samples(np.random.default_rng(9), SMALL, 10)
    for evaluator in (
        NativeMutants(NativeEvaluator(samples), base, 10),
        PlainMutants(ReferenceEvaluator(samples), samples, base, 10),
    ):
        with pytest.raises(ValueError, match=reason):
            evaluator.logits(pack_mutants(changes))


def test_malformed_batches() -> None:
    good = pack_mutants([([1, 2], [(0, 1)]), ([3], [])])
    validate_mutants(good, SMALL)
    for bad, reason in (
        (replace(good, flip_starts=good.flip_starts[:-1]), "batch size"),
        (replace(good, flip_starts=np.array([0, 3, 2])), "starts"),
        (replace(good, flip_starts=np.array([1, 2, 3])), "starts"),
        (replace(good, flip_starts=np.array([0, 2, 4])), "starts"),
        (replace(good, flips=good.flips.astype(np.int32)), "dtype"),
        (replace(good, flips=np.repeat(good.flips, 2)[::2]), "contiguous"),
    ):
        with pytest.raises(ValueError, match=reason):
            validate_mutants(bad, SMALL)


@pytest.mark.parametrize("first", [-1, 1])
def test_a_first_block_outside_the_images(first: int) -> None:
    base = random_model(np.random.default_rng(9), SMALL)
    native = NativeMutants(NativeEvaluator(random_samples(np.random.default_rng(9), SMALL, 10)), base, 10)
    with pytest.raises(ValueError, match="first block"):
        native.race(pack_mutants([([], [])]), np.array([first]), RaceRules(0))


@pytest.mark.parametrize("images", [0, 11, -1])
@pytest.mark.parametrize("factory", [NativeEvaluator, ReferenceEvaluator])
def test_more_images_than_there_are(factory: EvaluatorFactory, images: int) -> None:
    base = random_model(np.random.default_rng(9), SMALL)
    samples = random_samples(np.random.default_rng(9), SMALL, 10)
    with pytest.raises(ValueError, match="images"):
        mutants_of(factory(samples), samples, base, images)


def test_the_c_kernel_evaluates_mutants_itself() -> None:
    base = random_model(np.random.default_rng(9), SMALL)
    samples = random_samples(np.random.default_rng(9), SMALL, 10)
    assert isinstance(mutants_of(NativeEvaluator(samples), samples, base, 10), NativeMutants)
    assert isinstance(mutants_of(ReferenceEvaluator(samples), samples, base, 10), PlainMutants)
