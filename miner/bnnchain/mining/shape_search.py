"""Evolution of shapes: which architectures are worth founding a family with (paper 4.2).

A population of architectures, crossed and mutated under a chain's bounds.  Each is judged by short trainings, all of
the same epochs on the same part of the pool, by the accuracy on another part of the pool that none of them trained on;
ranked by accuracy against multiply-accumulates and bytes (NSGA-II).  Short trainings are noisy: a survivor is trained
again with another seed until it has ``max_trials``, and its accuracy is the mean, so luck does not stay.

The data set's held-out samples are never looked at.  The result depends on the request alone, whatever the executor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bnnchain.bnn.encoding import shape_hash, wire_size_bytes
from bnnchain.consensus.params import BP
from bnnchain.mining.pareto import fronts, survivors
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain.wire import tagged_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from bnnchain.mining.founders import FoundedModel
    from bnnchain.mining.pareto import Float64Array
    from bnnchain.mining.shape_operators import ShapeSpace
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Architecture

MIN_POPULATION, MAX_POPULATION = 2, 1_024
MAX_TRIES_PER_CHILD = 16
"""Draws that may give a shape already tried before a generation stays smaller."""


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    """What to search for; the same request gives the same shapes on one machine.

    space: the shapes allowed.  start: shapes in the first population beside random ones.
    training_size, validation_size: samples drawn from the pool, disjoint.  epochs: of each short training.
    crossover_bp: children that have two parents.  mutation_bp: layers that a mutation changes, at least one.
    least_accuracy_bp: a shape below it ranks behind all that reach it, the nearer the better.
    Raises :class:`Invalid` ``bad-shape-search``.
    """

    space: ShapeSpace
    seed: int
    start: tuple[Architecture, ...] = ()
    population: int = 16
    generations: int = 10
    training_size: int = 8_000
    validation_size: int = 8_000
    epochs: int = 3
    max_trials: int = 3
    crossover_bp: int = 5_000
    mutation_bp: int = 2_500
    least_accuracy_bp: int = 8_000

    def __post_init__(self) -> None:
        least = min(self.generations, self.training_size, self.validation_size, self.epochs, self.max_trials)
        shares = (self.crossover_bp, self.mutation_bp, self.least_accuracy_bp)
        if (
            least < 1
            or not MIN_POPULATION <= self.population <= MAX_POPULATION
            or not 0 <= min(shares) <= max(shares) <= BP
        ):
            raise Invalid("bad-shape-search", population=self.population, generations=self.generations, shares=shares)
        outside = [shape for shape in self.start if not self.space.is_within(shape)]
        if outside or len(self.start) > self.population:
            raise Invalid("bad-shape-search", reason="start shapes", outside=len(outside), limit=self.population)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One training of one shape: everything it depends on, so that it may run on any thread, process or host."""

    architecture: Architecture
    seed: int
    epochs: int
    training: Samples
    validation: Samples
    backend: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class TrialResult:
    """A trained model, its exact count on the images it trained on, and on the validation images."""

    founded: FoundedModel
    validation_correct: int


@dataclass(frozen=True, slots=True)
class ScoredShape:
    """A shape and what its trainings reached.

    correct: right labels of ``validation_size``, one count a trial.  generation: in which it was first tried.
    """

    architecture: Architecture
    correct: tuple[int, ...]
    validation_size: int
    generation: int

    @property
    def accuracy(self) -> float:
        """Mean share of right validation labels."""
        return sum(self.correct) / (len(self.correct) * self.validation_size)

    @property
    def size_bytes(self) -> int:
        """Bytes of a founding model on the wire."""
        return wire_size_bytes(self.architecture, has_biases=False)


@dataclass(slots=True)
class ShapeResult:
    """What a search found.

    scored: every shape tried, in the order of trying.
    front: the shapes that no other beats in accuracy, work and bytes at once, most accurate first; while the search
        runs, of the population, at its end of all shapes tried, each then trained ``max_trials`` times.
    trials: short trainings made.
    """

    scored: dict[Architecture, ScoredShape] = field(default_factory=dict)
    front: list[ScoredShape] = field(default_factory=list)
    trials: int = 0
    seconds: float = 0.0
    """Of the clock."""


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """How far a search is, told after each generation."""

    generation: int
    generations: int
    trials: int
    front: list[ScoredShape]
    seconds: float


ReportGeneration: TypeAlias = "Callable[[GenerationProgress], None]"


def run_trial(trial: Trial) -> TrialResult:
    """Return what one training reaches; depends on the trial alone."""
    factory = select(trial.backend)
    founded = StraightThroughFounder().found(
        trial.architecture, trial.training, factory(trial.training), seed=trial.seed, max_epochs=trial.epochs
    )
    correct = count_correct(factory(trial.validation), founded.model, len(trial.validation))
    return TrialResult(founded, correct)


def split_pool(pool: Samples, request: ShapeRequest) -> tuple[Samples, Samples, Samples]:
    """Return (training, validation, rest): the short trainings' samples, the judging ones, all but the judging ones.

    Drawn by the request's seed.  Raises ``bad-shape-search`` where the pool is smaller.
    """
    if request.training_size + request.validation_size > len(pool):
        sizes = (request.training_size, request.validation_size)
        raise Invalid("bad-shape-search", reason="pool too small", pool=len(pool), wanted=sizes)
    order = np.random.default_rng(request.seed).permutation(len(pool)).astype(np.int32)
    judging, others = order[: request.validation_size], order[request.validation_size :]
    return pool.take(others[: request.training_size]), pool.take(judging), pool.take(others)


class ShapeSearch:
    """Runs one request; ``result`` is there while it runs and after."""

    def __init__(self, request: ShapeRequest, pool: Samples, backend: str = "auto") -> None:
        self.result = ShapeResult()
        self._request = request
        self._backend = backend
        self._training, self._validation, self._rest = split_pool(pool, request)
        # Apart from the split's stream, so that the first shapes do not depend on the pool's size.
        self._rng = np.random.default_rng([request.seed, 1])

    def run(
        self,
        executor: Executor,
        on_generation: ReportGeneration | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ShapeResult:
        """Return what the generations found; ``should_stop`` is asked between two of them."""
        request, started = self._request, time.monotonic()
        population: list[ScoredShape] = []
        for generation in range(request.generations):
            if generation and should_stop is not None and should_stop():
                break
            shapes = self._children(population) if population else self._first_shapes()
            population += self._try_new(shapes, generation, executor)
            kept = self._select(population)
            population = self._try_again([population[index] for index in kept], executor)
            self.result.front = front_of(population, request.least_accuracy_bp)
            self.result.seconds = time.monotonic() - started
            if on_generation is not None:
                front, trials = self.result.front, self.result.trials
                on_generation(
                    GenerationProgress(generation + 1, request.generations, trials, front, self.result.seconds)
                )
        self._confirm(executor)
        self.result.seconds = time.monotonic() - started
        return self.result

    def found(self, shapes: Sequence[ScoredShape], epochs: int, executor: Executor) -> list[TrialResult]:
        """Return a founding model for each shape, trained longer on all of the pool but the validation samples."""
        trials = [self._trial(each.architecture, self._rest, epochs, self._request.max_trials) for each in shapes]
        return list(executor.map(run_trial, trials))

    def _first_shapes(self) -> list[Architecture]:
        space, rng = self._request.space, self._rng
        drawn = (space.draw(rng) for _ in range(self._request.population * MAX_TRIES_PER_CHILD))
        return _distinct([*self._request.start], drawn, self._request.population)

    def _children(self, population: Sequence[ScoredShape]) -> list[Architecture]:
        rank = {id(population[index]): place for place, index in enumerate(self._select(population))}
        drawn = (self._child(population, rank) for _ in range(self._request.population * MAX_TRIES_PER_CHILD))
        fresh = (child for child in drawn if child is not None and child not in self.result.scored)
        return _distinct([], fresh, self._request.population)

    def _child(self, population: Sequence[ScoredShape], rank: dict[int, int]) -> Architecture | None:
        request, rng = self._request, self._rng
        first, second = (self._tournament(population, rank) for _ in range(2))
        if rng.random() * BP < request.crossover_bp:
            child = request.space.cross(first.architecture, second.architecture, rng)
            if child is not None and child not in self.result.scored:
                return child
        return request.space.mutate(first.architecture, request.mutation_bp, rng)

    def _tournament(self, population: Sequence[ScoredShape], rank: dict[int, int]) -> ScoredShape:
        first, second = (population[int(index)] for index in self._rng.integers(0, len(population), 2))
        return first if rank[id(first)] <= rank[id(second)] else second

    def _select(self, population: Sequence[ScoredShape]) -> list[int]:
        return survivors(*measures(population, self._request.least_accuracy_bp), self._request.population)

    def _try_new(self, shapes: Sequence[Architecture], generation: int, executor: Executor) -> list[ScoredShape]:
        results = self._run([self._trial(shape, self._training, self._request.epochs, 0) for shape in shapes], executor)
        size = len(self._validation)
        scored = [
            ScoredShape(shape, (correct,), size, generation) for shape, correct in zip(shapes, results, strict=True)
        ]
        self.result.scored.update({each.architecture: each for each in scored})
        return scored

    def _try_again(self, population: list[ScoredShape], executor: Executor) -> list[ScoredShape]:
        again = [each for each in population if len(each.correct) < self._request.max_trials]
        trials = [
            self._trial(each.architecture, self._training, self._request.epochs, len(each.correct)) for each in again
        ]
        for each, correct in zip(again, self._run(trials, executor), strict=True):
            self.result.scored[each.architecture] = replace(each, correct=(*each.correct, correct))
        return [self.result.scored[each.architecture] for each in population]

    def _confirm(self, executor: Executor) -> None:
        # A population keeps few of what stands close together; the front of everything tried misses none of it.
        front = front_of(list(self.result.scored.values()), self._request.least_accuracy_bp)
        while any(len(each.correct) < self._request.max_trials for each in front):
            self._try_again(front, executor)
            front = front_of(list(self.result.scored.values()), self._request.least_accuracy_bp)
        self.result.front = front

    def _run(self, trials: Sequence[Trial], executor: Executor) -> list[int]:
        self.result.trials += len(trials)
        return [result.validation_correct for result in executor.map(run_trial, trials)]

    def _trial(self, shape: Architecture, training: Samples, epochs: int, repetition: int) -> Trial:
        # Of the shape, not of the order of trying: a shape met again in another search of this seed scores the same.
        digest = tagged_hash("shape-trial", shape_hash(shape), f"{self._request.seed}/{repetition}".encode())
        return Trial(shape, int.from_bytes(digest[:4], "little"), epochs, training, self._validation, self._backend)


def measures(shapes: Sequence[ScoredShape], least_accuracy_bp: int) -> tuple[Float64Array, Float64Array]:
    """Return (objectives ``[n, 3]``: error, multiply-accumulates, bytes; violations ``[n]``), all to be made small."""
    objectives = np.array(
        [(1 - each.accuracy, each.architecture.mac_count, each.size_bytes) for each in shapes], np.float64
    )
    violations = np.maximum(0.0, least_accuracy_bp / BP - np.array([each.accuracy for each in shapes]))
    return objectives, violations


def front_of(shapes: Sequence[ScoredShape], least_accuracy_bp: int) -> list[ScoredShape]:
    """Return the shapes that no other beats in accuracy, work and bytes at once, most accurate first."""
    first, *_ = fronts(*measures(shapes, least_accuracy_bp))
    return sorted((shapes[index] for index in first), key=lambda each: -each.accuracy)


def _distinct(given: list[Architecture], drawn: Iterable[Architecture], count: int) -> list[Architecture]:
    result = dict.fromkeys(given)
    for shape in drawn:
        if len(result) >= count:
            break
        result.setdefault(shape)
    return list(result)
