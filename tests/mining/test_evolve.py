"""A child meets every requirement of its request, recounted by the reference; everything else is None or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mining.searching import POOL_SIZE, SHAPE, SpyEvaluator, toy_problem

from bnnchain.bnn.distance import hamming
from bnnchain.bnn.encoding import encode_model, flat_weights, flip_positions
from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.mnist import load_mnist
from bnnchain.mining import evolve as evolve_module
from bnnchain.mining.evolve import EvolveProgress, EvolveRequest, EvolveResult, Search, evolve
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples, count_correct
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain_kernels.model import Model

MNIST = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"


def toy_request(problem: int, **changes: Any) -> tuple[EvolveRequest, Samples]:
    parent, samples = toy_problem(problem)
    options = {"pool_size": POOL_SIZE, "gain": 30, "min_flips": 4, "seed": problem, "max_candidates": 4000} | changes
    return EvolveRequest(parent, **options), samples


def assert_meets(request: EvolveRequest, samples: Samples, result: EvolveResult) -> None:
    reference = ReferenceEvaluator(samples)
    correct_parent = count_correct(reference, request.parent, request.pool_size)
    correct = count_correct(reference, result.child, request.pool_size)
    flips = flip_positions(request.parent, result.child)
    novel = flips if request.novel is None else flips[request.novel[flips]]
    assert (result.correct, result.correct_parent) == (correct, correct_parent)
    assert correct - correct_parent >= request.gain
    assert (result.flips, result.novel_flips) == (len(flips), len(novel))
    assert len(novel) >= request.min_flips
    if request.max_flips is not None:
        assert len(flips) <= request.max_flips
    assert result.candidates <= request.max_candidates
    np.testing.assert_array_equal(result.child.biases, request.parent.biases)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gain=st.integers(1, 120),
    min_flips=st.integers(0, 20),
    spare_flips=st.none() | st.integers(0, 10),
    novel_share=st.none() | st.floats(0.3, 1),
    threads=st.sampled_from([1, 1, 2]),
    is_guided=st.booleans(),
)
def test_a_child_meets_every_requirement_or_there_is_none(
    seed: int,
    gain: int,
    min_flips: int,
    spare_flips: int | None,
    novel_share: float | None,
    threads: int,
    is_guided: bool,
) -> None:
    novel = None if novel_share is None else np.random.default_rng(seed).random(SHAPE.weight_count) < novel_share
    max_flips = None if spare_flips is None else max(1, min_flips + spare_flips)
    request, samples = toy_request(
        seed, gain=gain, min_flips=min_flips, max_flips=max_flips, novel=novel, max_candidates=200
    )
    if novel is not None and np.count_nonzero(novel) < min_flips:
        return
    if is_guided:
        request = replace(request, samples=samples)
    result = evolve(request, ReferenceEvaluator(samples), threads=threads)
    if result is not None:
        assert_meets(request, samples, result)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_children_are_found(seed: int, threads: int) -> None:
    request, samples = toy_request(seed)
    result = evolve(request, ReferenceEvaluator(samples), threads=threads)
    assert result is not None
    assert_meets(request, samples, result)


def test_gain_met_with_too_few_flips_goes_on_climbing() -> None:
    request, samples = toy_request(3, gain=1, min_flips=14)
    result = evolve(request, ReferenceEvaluator(samples))
    assert result is not None
    assert_meets(request, samples, result)


def test_only_novel_flips_count() -> None:
    novel = np.zeros(SHAPE.weight_count, np.bool_)
    novel[::4] = True
    request, samples = toy_request(5, gain=5, min_flips=8, novel=novel, max_candidates=20_000)
    result = evolve(request, ReferenceEvaluator(samples))
    assert result is not None
    assert_meets(request, samples, result)
    assert result.novel_flips >= 8


def test_one_thread_repeats_itself_and_another_seed_does_not() -> None:
    children = []
    for seed in (7, 7, 8):
        request, samples = toy_request(7, seed=seed)
        result = evolve(request, ReferenceEvaluator(samples))
        assert result is not None
        children.append((encode_model(result.child), result.candidates, result.accepted))
    assert children[0] == children[1]
    assert children[0] != children[2]


def test_accepted_models_were_counted_in_full_exactly_once() -> None:
    request, samples = toy_request(2)
    spy = SpyEvaluator(samples)
    result = evolve(request, spy)
    assert result is not None
    assert spy.images_counted(result.child) == list(range(POOL_SIZE))
    partial = [model for model in spy.models.values() if len(spy.images_counted(model)) < POOL_SIZE]
    assert len(partial) > result.candidates / 3  # racing does save work


def test_a_candidate_that_only_starts_well_is_not_accepted() -> None:
    request, samples = toy_request(4, gain=1, min_flips=0, max_candidates=60)
    parent = request.parent

    class Flattering(SpyEvaluator):
        def correct(self, model: Model, start: int, stop: int) -> np.ndarray:
            # Every child leads by one in the two first blocks of its race and loses all of it, and more, in the last.
            base = ReferenceEvaluator(self.samples).correct(parent, start, stop)
            counts = super().correct(model, start, stop)
            if model is parent:
                return base
            seen = len(self.images_counted(model))
            return base + 1 if seen < POOL_SIZE else np.maximum(base - 9, 0) + 0 * counts

    assert evolve(request, Flattering(samples)) is None


def test_out_of_candidates() -> None:
    request, samples = toy_request(1, gain=POOL_SIZE, max_candidates=37)
    search = Search(request, ReferenceEvaluator(samples))
    reports: list[EvolveProgress] = []
    assert search.run(on_progress=reports.append) is None
    assert search.run(on_progress=reports.append) is None
    assert search._candidates == 37


def test_a_stopped_search_runs_on_to_the_same_child() -> None:
    request, samples = toy_request(6)
    whole = evolve(request, ReferenceEvaluator(samples))
    search = Search(request, ReferenceEvaluator(samples))
    parts, result = 0, None
    while result is None:
        left = iter([False] * 10)
        result = search.run(should_stop=lambda left=left: next(left, True))
        parts += 1
    assert whole is not None
    assert parts > 1
    assert encode_model(result.child) == encode_model(whole.child)
    assert result.candidates == whole.candidates


def test_stopped_at_once_there_is_nothing() -> None:
    request, samples = toy_request(6)
    assert evolve(request, ReferenceEvaluator(samples), should_stop=lambda: True) is None
    assert evolve(request, ReferenceEvaluator(samples), should_stop=lambda: True, threads=2) is None


def test_progress_is_reported_and_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve_module, "REPORT_INTERVAL_S", 0)
    monkeypatch.setattr(evolve_module, "PATIENCE_CANDIDATES", 15)  # steps down often
    request, samples = toy_request(1, gain=POOL_SIZE, max_candidates=600)
    reports: list[EvolveProgress] = []
    assert evolve(request, ReferenceEvaluator(samples), on_progress=reports.append) is None
    assert [report.candidates for report in reports] == list(range(1, 601))
    gains = [report.gain for report in reports]
    assert gains == sorted(gains)
    assert gains[-1] > 0
    assert reports[-1].accepted > 0
    assert reports[-1].candidates_per_s > 0


def test_stepping_down_leaves_a_local_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve_module, "PATIENCE_CANDIDATES", 60)
    request, samples = toy_request(11, gain=POOL_SIZE, max_candidates=1500)
    search = Search(request, ReferenceEvaluator(samples))
    lows: list[int] = []

    def watch() -> bool:
        lows.append(search._current.correct - search._best.correct)
        return False

    assert search.run(should_stop=watch) is None
    assert min(lows) < 0
    last = POOL_SIZE * evolve_module.LAST_SLACK_SHARE
    assert min(lows) >= -2 * max(1, last)
    after_low = lows[lows.index(min(lows)) :]
    assert 0 in after_low


def test_mates_of_the_family_are_crossed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve_module, "CROSSOVER_SHARE", 0.5)
    parent, samples = toy_problem(12)
    teacher = toy_problem(12, wrong=0)[0]
    gain = POOL_SIZE - count_correct(ReferenceEvaluator(samples), parent, POOL_SIZE) - 40
    options = {"seed": 1, "population_size": 2, "population_cross_percent": 100, "max_candidates": 100}
    alone = EvolveRequest(parent, POOL_SIZE, gain, 3, **options)
    assert evolve(alone, ReferenceEvaluator(samples)) is None
    request = EvolveRequest(parent, POOL_SIZE, gain, 3, population=(teacher,), **options)
    result = evolve(request, ReferenceEvaluator(samples))
    assert result is not None
    assert_meets(request, samples, result)
    assert hamming(result.child, teacher) < hamming(parent, teacher)


@pytest.mark.parametrize(
    "changes",
    [
        {"gain": 0},
        {"gain": -1},
        {"gain": POOL_SIZE + 1},
        {"pool_size": 0},
        {"min_flips": -1},
        {"min_flips": SHAPE.weight_count + 1},
        {"novel": np.zeros(SHAPE.weight_count, np.bool_)},
        {"novel": np.ones(SHAPE.weight_count - 1, np.bool_)},
        {"novel": np.ones(SHAPE.weight_count, np.uint8)},
        {"max_flips": 3},
        {"max_flips": 0, "min_flips": 0},
        {"max_candidates": 0},
        {"population_size": 1},
        {"seed": -1},
        {"population_mutate_percent": 101},
        {"mutate_probability": 2},
        {"population_cross_percent": -1},
    ],
    ids=str,
)
def test_requests_without_sense_are_refused(changes: dict[str, Any]) -> None:
    request, samples = toy_request(0, **changes)
    with pytest.raises(Invalid) as refusal:
        evolve(request, ReferenceEvaluator(samples))
    assert refusal.value.code == "bad-search"


@pytest.mark.parametrize("threads", [0, 65])
def test_thread_counts_out_of_range_are_refused(threads: int) -> None:
    request, samples = toy_request(0)
    with pytest.raises(Invalid) as refusal:
        evolve(request, ReferenceEvaluator(samples), threads=threads)
    assert refusal.value.code == "bad-search"


def test_samples_that_are_not_the_pool_are_refused() -> None:
    request, samples = toy_request(0)
    for wrong, code in ((samples.take(np.arange(9)), "bad-search"), (load_digits().pool, "bad-architecture")):
        with pytest.raises(Invalid) as refusal:
            evolve(replace(request, samples=wrong), ReferenceEvaluator(samples))
        assert refusal.value.code == code


def test_guidance_needs_fewer_candidates() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    founded = StraightThroughFounder().found(
        architecture("cnn-digits"), pool, evaluator, seed=2, max_epochs=20, target_correct=1050
    )
    candidates = {True: 0, False: 0}
    for seed in range(4):
        for is_guided in (True, False):
            request = EvolveRequest(founded.model, len(pool), 40, 22, seed, samples=pool if is_guided else None)
            result = evolve(request, evaluator)
            assert result is not None
            assert_meets(request, pool, result)
            candidates[is_guided] += result.candidates
    assert 1.5 * candidates[True] < candidates[False]


def test_a_population_of_another_shape_is_refused() -> None:
    pool = load_digits().pool
    founder = StraightThroughFounder().found(
        architecture("cnn-digits"), pool, select("auto")(pool), seed=1, max_epochs=1
    )
    request, samples = toy_request(0, population=(founder.model,))
    with pytest.raises(Invalid) as refusal:
        evolve(request, ReferenceEvaluator(samples))
    assert refusal.value.code == "bad-search"


def test_digits_evolve_ten_generations_in_a_row() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    target = round(0.85 * len(pool))
    founded = StraightThroughFounder().found(
        architecture("cnn-digits"), pool, evaluator, seed=1, max_epochs=20, target_correct=target
    )
    parent = founded.model
    ones = flat_weights(parent)
    had_zero, had_one = ~ones, ones.copy()
    for generation in range(10):
        novel = ~(had_zero & had_one)
        request = EvolveRequest(
            parent, len(pool), 1, 22, seed=generation, samples=pool, novel=novel, max_candidates=30_000
        )
        result = evolve(request, evaluator)
        assert result is not None, generation
        assert_meets(request, pool, result)
        parent = result.child
        ones = flat_weights(parent)
        had_zero |= ~ones
        had_one |= ones


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST is not here")
def test_mnist_gains_one_percent_of_the_pool() -> None:
    pool = load_mnist(MNIST).pool
    evaluator = select("auto")(pool)
    founded = StraightThroughFounder().found(
        architecture("cnn-4k"), pool, evaluator, seed=1, max_epochs=8, target_correct=48_000
    )
    request = EvolveRequest(founded.model, len(pool), 600, 22, seed=1, samples=pool, max_candidates=20_000)
    result = evolve(request, evaluator, threads=2)
    assert result is not None
    assert_meets(request, pool, result)
