from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import CLASSES, SIDE, tiny_dataset

from bnnchain.mining.founders import FoundedModel
from bnnchain.mining.pareto import domination
from bnnchain.mining.shape_operators import ShapeSpace
from bnnchain.mining.shape_search import (
    GenerationProgress,
    ShapeRequest,
    ShapeSearch,
    Trial,
    TrialResult,
    measures,
    run_trial,
    split_pool,
)
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SPACE = ShapeSpace(SIDE, SIDE, 1, CLASSES, 600, 5_000)
REQUEST = ShapeRequest(
    SPACE,
    seed=5,
    population=6,
    generations=4,
    training_size=200,
    validation_size=300,
    epochs=1,
    max_trials=2,
    least_accuracy_bp=3_000,
)
POOL = tiny_dataset().pool


class Judge(Executor):
    """Answers for each training what a rule says, at once, and keeps what it was asked."""

    def __init__(self, rule: Callable[[Trial], float]) -> None:
        self.trials: list[Trial] = []
        self._rule = rule

    def map(self, _function: Any, *iterables: Iterable[Any], **_options: Any) -> Iterator[Any]:  # type: ignore[override]
        trials = list(iterables[0])
        self.trials += trials
        return iter([TrialResult(FoundedModel(None, 0, 0, 0, 0), self._right(trial)) for trial in trials])  # type: ignore[arg-type]

    def _right(self, trial: Trial) -> int:
        return round(self._rule(trial) * len(trial.validation))


def by_weights(trial: Trial) -> float:
    return 0.3 + 0.7 * trial.architecture.weight_count / SPACE.max_connection_count


def run(executor: Executor, **changes: Any) -> ShapeSearch:
    search = ShapeSearch(replace(REQUEST, **changes), POOL)
    search.run(executor)
    return search


def test_the_split_is_disjoint_drawn_by_the_seed_and_leaves_the_rest_for_founding() -> None:
    numbered = POOL.take(np.arange(len(POOL), dtype=np.int32))
    numbered.images[:, 0], numbered.images[:, 1] = np.arange(len(POOL)) % 256, np.arange(len(POOL)) // 256
    training, validation, rest = (
        set((part.images[:, 0] + 256 * part.images[:, 1].astype(int)).tolist())
        for part in split_pool(numbered, REQUEST)
    )
    assert (len(training), len(validation), len(rest)) == (200, 300, 400)
    assert training < rest
    assert not validation & rest
    other = split_pool(POOL, replace(REQUEST, seed=6))[1]
    assert not np.array_equal(split_pool(POOL, REQUEST)[1].images, other.images)


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        ShapeSearch(replace(REQUEST, training_size=401), POOL)
    assert (caught.value.code, caught.value.values["pool"]) == ("bad-shape-search", 700)


def test_trainings_never_see_what_judges_them() -> None:
    judge = Judge(by_weights)
    search = run(judge)
    assert len(judge.trials) == search.result.trials
    assert {(len(trial.training), len(trial.validation), trial.epochs) for trial in judge.trials} == {(200, 300, 1)}
    judge.trials.clear()
    search.found(search.result.front[:2], 7, judge)
    assert {(len(trial.training), trial.epochs) for trial in judge.trials} == {(400, 7)}


def test_every_shape_is_new_and_within_bounds() -> None:
    judge = Judge(by_weights)
    result = run(judge, generations=8).result
    assert len(result.scored) >= 6 * 8 - 6
    assert all(SPACE.is_within(shape) for shape in result.scored)
    first_trials = [trial.architecture for trial in judge.trials]
    assert all(first_trials.count(shape) == len(scored.correct) <= 2 for shape, scored in result.scored.items())
    assert len({trial.seed for trial in judge.trials}) == len(judge.trials)


def test_the_front_is_what_nothing_tried_beats_and_spans_cheap_to_accurate() -> None:
    result = run(Judge(by_weights), generations=12, population=4).result
    front, tried = result.front, list(result.scored.values())
    assert [each.accuracy for each in front] == sorted((each.accuracy for each in front), reverse=True)
    beaten = domination(*measures(tried, REQUEST.least_accuracy_bp)).any(axis=0)
    on_front = {each.architecture for each in front}
    assert [each.architecture in on_front for each in tried] == (~beaten).tolist()
    assert len(front) > 4  # more than the population holds
    assert all(len(each.correct) == 2 for each in front)
    assert front[0].architecture.weight_count > 0.9 * SPACE.max_connection_count
    assert front[-1].architecture.mac_count < front[0].architecture.mac_count / 2


def test_evolution_finds_what_random_shapes_do_not() -> None:
    def rule(trial: Trial) -> float:
        # A needle: two convolutions of 5 and 3 filters and a dense layer of 7.
        layers, wanted = trial.architecture.layers[:-1], (Conv3x3(5), Conv3x3(3, pool=True), Dense(7))
        shared = sum(type(a) is type(b) for a, b in zip(layers, wanted, strict=False)) - abs(len(layers) - 3)
        sizes = sum(abs(_width(a) - _width(b)) for a, b in zip(layers, wanted, strict=False))
        return max(0.0, 0.5 + shared / 8 - sizes / 100)

    # As many trainings; the floor is what keeps a small population from spreading over shapes of no use.
    floor = {"least_accuracy_bp": 8_000}
    evolved = [run(Judge(rule), generations=15, population=10, seed=seed, **floor) for seed in range(5)]
    drawn = [run(Judge(rule), generations=1, population=150, seed=seed, **floor) for seed in range(5)]
    best = [[search.result.front[0].accuracy for search in searches] for searches in (evolved, drawn)]
    assert float(np.mean(best[0])) > float(np.mean(best[1])), best


def _width(layer: Conv3x3 | Dense) -> int:
    return layer.filters if isinstance(layer, Conv3x3) else layer.units


def test_luck_does_not_stay() -> None:
    seen: set[Architecture] = set()

    def rule(trial: Trial) -> float:
        is_first = trial.architecture not in seen
        seen.add(trial.architecture)
        return 0.9 if is_first else 0.4

    result = run(Judge(rule), generations=3, max_trials=3).result
    assert all(len(each.correct) == 3 for each in result.front)
    assert max(each.accuracy for each in result.front) == pytest.approx((0.9 + 0.4 + 0.4) / 3)


def test_below_the_least_accuracy_the_nearer_ranks_first() -> None:
    result = run(Judge(lambda trial: by_weights(trial) / 4), least_accuracy_bp=9_999, generations=8).result
    assert len(result.front) == 1
    assert result.front[0].accuracy == max(each.accuracy for each in result.scored.values())


def test_start_shapes_are_tried_first() -> None:
    start = (Architecture(SIDE, SIDE, 1, (Conv3x3(3), Dense(CLASSES))),)
    judge = Judge(by_weights)
    run(judge, start=start)
    assert judge.trials[0].architecture == start[0]


def test_a_search_that_is_stopped_keeps_its_front_and_tells_each_generation() -> None:
    told: list[GenerationProgress] = []
    search = ShapeSearch(REQUEST, POOL)
    result = search.run(Judge(by_weights), told.append, lambda: len(told) == 2)
    assert [progress.generation for progress in told] == [1, 2]
    assert result.front
    assert result.trials >= told[-1].trials


@pytest.mark.parametrize(
    "changes",
    [
        {"population": 1},
        {"population": 1_025},
        {"generations": 0},
        {"epochs": 0},
        {"training_size": 0},
        {"max_trials": 0},
        {"crossover_bp": 10_001},
        {"mutation_bp": -1},
        {"start": (Architecture(SIDE, SIDE, 1, (Dense(30), Dense(CLASSES))),)},
        {"start": (Architecture(SIDE, SIDE, 1, (Dense(CLASSES),)),) * 7},
    ],
)
def test_requests_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        replace(REQUEST, **changes)
    assert caught.value.code == "bad-shape-search"


def test_a_start_shape_of_another_input_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(Invalid):
        replace(REQUEST, start=(Architecture(SIDE, SIDE, 2, (Dense(CLASSES),)),))


def test_a_trial_counts_the_trained_model_exactly() -> None:
    training, validation, _ = split_pool(POOL, REQUEST)
    shape = Architecture(SIDE, SIDE, 1, (Conv3x3(4), Dense(CLASSES)))
    result = run_trial(Trial(shape, 1, 2, training, validation))
    model = result.founded.model
    assert result.validation_correct == count_correct(ReferenceEvaluator(validation), model, len(validation))
    assert result.founded.correct == count_correct(ReferenceEvaluator(training), model, len(training))


def test_threads_and_processes_change_nothing() -> None:
    results = []
    context = get_context("spawn")
    for executor in (ThreadPoolExecutor(1), ThreadPoolExecutor(4), ProcessPoolExecutor(2, mp_context=context)):
        with executor:
            search = run(executor, generations=2)
            models = [each.founded.model for each in search.found(search.result.front[:2], 2, executor)]
        results.append((search.result.scored, search.result.front, [model.weights[0].tolist() for model in models]))
    assert results[0] == results[1] == results[2]
    assert results[0] != run(ThreadPoolExecutor(1), generations=2, seed=6).result
