"""A race may reject early; what it lets through has been counted on every image exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from mining.searching import POOL_SIZE, SpyEvaluator, toy_problem

from bnnchain.bnn.encoding import apply_flips
from bnnchain.mining.racing import Racer, is_hopeless
from bnnchain_kernels.reference import ReferenceEvaluator


@pytest.mark.parametrize("size", [1, 511, 512, 513, POOL_SIZE, 512 * 9 + 5])
@pytest.mark.parametrize("first_block", [0, 1, 8])
def test_what_passes_was_counted_in_full_and_once(size: int, first_block: int) -> None:
    parent, samples = toy_problem(1, size=size)
    spy = SpyEvaluator(samples)
    racer = Racer(spy, size)
    wanted = ReferenceEvaluator(samples).correct(parent, 0, size)
    counts = racer.race(parent, np.zeros_like(wanted), floor=0, first_block=first_block % racer.block_count)
    np.testing.assert_array_equal(counts, wanted)
    assert spy.images_counted(parent) == list(range(size))
    np.testing.assert_array_equal(racer.count(parent), wanted)


@pytest.mark.parametrize("seed", range(10))
def test_every_race_ends_in_none_or_the_exact_count(seed: int) -> None:
    parent, samples = toy_problem(seed, size=512 * 6 + 9)
    reference = ReferenceEvaluator(samples)
    base = reference.correct(parent, 0, len(samples))
    rng = np.random.default_rng(seed)
    spy = SpyEvaluator(samples)
    racer = Racer(spy, len(samples))
    outcomes = []
    for _ in range(25):
        candidate = apply_flips(parent, np.unique(rng.integers(0, parent.architecture.weight_count, 2)))
        counts = racer.race(candidate, base, floor=0, first_block=int(rng.integers(0, racer.block_count)))
        outcomes.append(counts is not None)
        if counts is not None:
            np.testing.assert_array_equal(counts, reference.correct(candidate, 0, len(samples)))
        else:
            assert len(spy.images_counted(candidate)) < len(samples)
    assert not all(outcomes)


def test_a_much_worse_candidate_is_dropped_after_one_block() -> None:
    parent, samples = toy_problem(2, wrong=0, size=512 * 6)
    spy = SpyEvaluator(samples)
    racer = Racer(spy, len(samples))
    base = racer.count(parent)
    worse = apply_flips(parent, np.arange(0, 70))
    assert racer.race(worse, base, floor=0, first_block=5) is None
    assert spy.ranges[id(worse)] == [(5 * 512, 6 * 512)]


def test_a_better_candidate_is_never_dropped_while_it_leads() -> None:
    sizes = np.full(6, 512, np.int32)
    for blocks in range(1, 7):
        assert not is_hopeless(np.full(blocks, 1.0), sizes[:blocks], 1, 6 * 512)
        assert is_hopeless(np.full(blocks, -50.0), sizes[:blocks], 1, 6 * 512)


def test_scatter_between_blocks_earns_patience() -> None:
    sizes = np.full(4, 512, np.int32)
    assert is_hopeless(np.array([-3.0, -3, -3, -3]), sizes, 0, 8 * 512)
    assert not is_hopeless(np.array([-60.0, 48, -48, 48]), sizes, 0, 8 * 512)


def test_the_floor_moves_the_verdict() -> None:
    sizes = np.full(2, 512, np.int32)
    even = np.zeros(2)
    assert not is_hopeless(even, sizes, 0, 4 * 512)
    assert is_hopeless(even, sizes, 40, 4 * 512)
    assert not is_hopeless(np.full(2, -5.0), sizes, -40, 4 * 512)
