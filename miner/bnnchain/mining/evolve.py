"""The evolutionary search that turns a family's parent into its next generation (paper section 4.2).

A hill-climb in few-flip steps from the best model so far, with mutation and crossover among the population beside it.
Candidates race against the model in hand and are accepted on the exact count over the whole pool alone.  Where no step
helps any more the search takes one step down and climbs again from there (threshold accepting).
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bnnchain.bnn.encoding import flat_weights
from bnnchain.mining.operators import Crossover, FewFlips, GuidedFlips, Move, Mutation, Operator, Situation, apply_move
from bnnchain.mining.racing import Racer
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import BoolArray, Int32Array, Model

MAX_SEARCH_THREADS = 64
REPORT_INTERVAL_S = 0.25
GUIDED_SHARE = 0.7
MUTATION_SHARE = CROSSOVER_SHARE = 0.02
"""How often these are asked, blind few-flip steps the rest: mutants and crossings rarely gain at a small difference."""
PATIENCE_CANDIDATES = 400
"""Candidates without progress before the search steps down from a local optimum."""
FIRST_SLACK_SHARE, LAST_SLACK_SHARE = 0.0002, 0.01
"""How far down such a step may go, as a share of the pool: doubled each time it did not help, then from the start."""


@dataclass(frozen=True, slots=True, eq=False)
class EvolveRequest:
    """What a child must achieve, and how to search for it.

    samples: the pool, to guide flips by gradients; None: all flips are blind.
    novel: ``bool[weight_count]``, the weights whose flip counts as novel; None: all.  population: further members of
    the family to cross with; those of another shape are of no use and refused.
    """

    parent: Model
    pool_size: int
    gain: int
    """Right labels on the whole pool that the child must have above its parent."""
    min_flips: int
    """Weights in which the child must differ from its parent, and novel flips among them."""
    seed: int
    """Of all random choices; another seed is another search."""
    samples: Samples | None = None
    novel: BoolArray | None = None
    population: tuple[Model, ...] = ()
    max_flips: int | None = None
    """Weights in which the child may differ at most; None: a quarter of them."""
    max_candidates: int = 1_000_000
    population_size: int = 10
    population_mutate_percent: float = 10
    mutate_probability: float = 0.05
    population_cross_percent: float = 10


@dataclass(frozen=True, slots=True)
class EvolveProgress:
    """How far a search is."""

    candidates: int
    candidates_per_s: float
    accepted: int
    gain: int
    """Of the best model so far over the parent, right labels on the whole pool."""
    flips: int
    novel_flips: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class EvolveResult:
    """A child that meets every requirement of its request."""

    child: Model
    correct: int
    correct_parent: int
    flips: int
    novel_flips: int
    candidates: int
    accepted: int
    seconds: float


ReportEvolve: TypeAlias = "Callable[[EvolveProgress], None]"
ShouldStop: TypeAlias = "Callable[[], bool]"


def evolve(
    request: EvolveRequest,
    evaluator: Evaluator,
    *,
    threads: int = 1,
    on_progress: ReportEvolve | None = None,
    should_stop: ShouldStop | None = None,
) -> EvolveResult | None:
    """Return a child of the request's parent, or None where the search was stopped or out of candidates.

    With one thread the same request gives the same child; with more, the order in which races end decides.
    Raises :class:`Invalid` ``bad-search`` where the request makes no sense.
    """
    search = Search(request, evaluator)
    return search.run(threads=threads, on_progress=on_progress, should_stop=should_stop)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A fully counted model: everything that later candidates are compared with."""

    model: Model
    weights: BoolArray
    counts: Int32Array
    correct: int
    flips: int
    novel_flips: int


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    base: _State
    move: Move
    model: Model
    floor: int
    first_block: int


class Search:
    """A search that can be stopped and run on: state is kept between calls of :meth:`run`."""

    def __init__(self, request: EvolveRequest, evaluator: Evaluator) -> None:
        _validate(request)
        self._request = request
        self._rng = np.random.default_rng(request.seed)
        self._racer = Racer(evaluator, request.pool_size)
        quarter = request.parent.architecture.weight_count // 4
        self._max_flips = max(1, request.min_flips, quarter) if request.max_flips is None else request.max_flips
        self._parent_weights = flat_weights(request.parent)
        self._parent = self._state(request.parent, self._parent_weights, self._racer.count(request.parent))
        self._best = self._current = self._parent
        # The population: the model in hand, the family's members, and what this search counted last.
        self._family = [flat_weights(model) for model in request.population[1 - request.population_size :]]
        self._recent: deque[BoolArray] = deque(maxlen=max(1, request.population_size - 1 - len(self._family)))
        self._few_flips = FewFlips()
        self._guided = None if request.samples is None else GuidedFlips(request.samples)
        self._mutation = Mutation(request.population_mutate_percent, request.mutate_probability)
        self._crossover = Crossover(request.population_cross_percent)
        self._retries: deque[Move] = deque(maxlen=MAX_SEARCH_THREADS)
        self._situation = self._look()
        self._slack, self._next_slack = 0, self._first_slack
        self._candidates = self._accepted = self._since_progress = 0
        self._seconds = 0.0

    def run(
        self,
        *,
        threads: int = 1,
        on_progress: ReportEvolve | None = None,
        should_stop: ShouldStop | None = None,
    ) -> EvolveResult | None:
        """Return a child that meets the request, or None where stopped or out of candidates; see :func:`evolve`."""
        if not 1 <= threads <= MAX_SEARCH_THREADS:
            raise Invalid("bad-search", threads=threads)
        started, spent = time.monotonic(), self._seconds
        reported = started
        found = self._finished()
        races = self._races(threads)
        try:
            while found is None and self._candidates < self._request.max_candidates:
                if should_stop is not None and should_stop():
                    break
                self._judge(*next(races))
                found = self._finished()
                now = time.monotonic()
                self._seconds = spent + now - started
                if on_progress is not None and (found is not None or now - reported >= REPORT_INTERVAL_S):
                    reported = now
                    on_progress(self._progress())
        finally:
            races.close()
        return None if found is None else self._result(found)

    def _races(self, threads: int) -> Generator[tuple[_Candidate, Int32Array | None], None, None]:
        """Propose and race for ever; with several threads that many races are under way at once."""
        if threads == 1:
            while True:
                candidate = self._propose()
                yield candidate, self._race(candidate)
        with ThreadPoolExecutor(threads, thread_name_prefix="bnnchain-race") as executor:
            running: dict[Future[Int32Array | None], _Candidate] = {}
            while True:
                while len(running) < threads:
                    candidate = self._propose()
                    running[executor.submit(self._race, candidate)] = candidate
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()

    def _race(self, candidate: _Candidate) -> Int32Array | None:
        return self._racer.race(
            candidate.model, candidate.base.counts, floor=candidate.floor, first_block=candidate.first_block
        )

    def _propose(self) -> _Candidate:
        """Return the next candidate, a move from the model in hand that is worth a race."""
        while True:
            if self._retries:
                move = self._retries.popleft()
            else:
                move = self._draw_operator().propose(self._situation, self._rng)
            flips = self._current.flips + len(move.flips) - 2 * self._flips_undone(move)
            if flips > self._max_flips or (len(move.flips) == 0 and not move.steps):
                continue
            first_block = int(self._rng.integers(0, self._racer.block_count))
            model = apply_move(self._current.model, move)
            return _Candidate(self._current, move, model, self._floor(), first_block)

    def _draw_operator(self) -> Operator:
        draw = self._rng.random()
        if draw < MUTATION_SHARE:
            return self._mutation
        if draw < MUTATION_SHARE + CROSSOVER_SHARE:
            return self._crossover
        if self._guided is not None and draw < MUTATION_SHARE + CROSSOVER_SHARE + GUIDED_SHARE:
            return self._guided
        return self._few_flips

    def _flips_undone(self, move: Move) -> int:
        return int(np.count_nonzero(self._current.weights[move.flips] != self._parent_weights[move.flips]))

    def _floor(self) -> int:
        """Return the change in right labels that a candidate needs to be of use."""
        if self._slack:
            return -self._slack
        return 0 if self._needs_flips(self._current) else 1

    def _judge(self, candidate: _Candidate, counts: Int32Array | None) -> None:
        """Accept or drop a raced candidate, and see whether the search is stuck."""
        self._candidates += 1
        self._since_progress += 1
        if counts is not None:
            weights = candidate.base.weights.copy()
            weights[candidate.move.flips] ^= True
            child = self._state(candidate.model, weights, counts)
            if self._is_acceptable(child):
                self._accept(child)
            else:
                self._recent.append(weights)
                if candidate.base is not self._current and child.correct > candidate.base.correct:
                    # It beat a model that another race has replaced meanwhile: try its move on the new one.
                    self._retries.append(candidate.move)
        if self._since_progress >= PATIENCE_CANDIDATES:
            self._step_down()

    def _is_acceptable(self, child: _State) -> bool:
        if child.flips > self._max_flips:  # possible where another race has moved the base meanwhile
            return False
        if child.correct != self._current.correct:
            return child.correct > self._current.correct - self._slack
        return self._needs_flips(self._current) and child.novel_flips > self._current.novel_flips

    def _needs_flips(self, state: _State) -> bool:
        return state.novel_flips < self._request.min_flips

    def _accept(self, child: _State) -> None:
        self._accepted += 1
        self._recent.append(self._current.weights)
        self._current, self._slack = child, 0
        if child.correct >= self._best.correct:
            if child.correct > self._best.correct:
                self._next_slack = self._first_slack
            self._best, self._since_progress = child, 0
        self._situation = self._look()

    def _step_down(self) -> None:
        """Return to the best model and let the next step from it lose a little."""
        self._current, self._since_progress = self._best, 0
        self._slack = self._next_slack
        last = max(1, int(self._request.pool_size * LAST_SLACK_SHARE))
        self._next_slack = 2 * self._slack if self._slack < last else self._first_slack
        self._situation = self._look()

    @property
    def _first_slack(self) -> int:
        return max(1, int(self._request.pool_size * FIRST_SLACK_SHARE))

    def _look(self) -> Situation:
        """Return what operators see; a model with its gain but too few flips draws only flips that count."""
        state = self._current
        eligible = np.ones(len(state.weights), np.bool_)
        if state.correct - self._parent.correct >= self._request.gain and self._needs_flips(state):
            eligible = state.weights == self._parent_weights
            if self._request.novel is not None:
                eligible &= self._request.novel
        return Situation(state.model, state.weights, [*self._family, *self._recent], np.flatnonzero(eligible))

    def _state(self, model: Model, weights: BoolArray, counts: Int32Array) -> _State:
        flipped = weights != self._parent_weights
        flips = int(np.count_nonzero(flipped))
        novel = self._request.novel
        novel_flips = flips if novel is None else int(np.count_nonzero(flipped & novel))
        return _State(model, weights, counts, int(counts.sum(dtype=np.int64)), flips, novel_flips)

    def _finished(self) -> _State | None:
        for state in (self._current, self._best):
            gain = state.correct - self._parent.correct
            if gain >= self._request.gain and state.novel_flips >= self._request.min_flips:
                return state
        return None

    def _progress(self) -> EvolveProgress:
        best, seconds = self._best, self._seconds
        rate = self._candidates / seconds if seconds > 0 else 0.0
        gain = best.correct - self._parent.correct
        return EvolveProgress(self._candidates, rate, self._accepted, gain, best.flips, best.novel_flips, seconds)

    def _result(self, found: _State) -> EvolveResult:
        return EvolveResult(
            child=found.model,
            correct=found.correct,
            correct_parent=self._parent.correct,
            flips=found.flips,
            novel_flips=found.novel_flips,
            candidates=self._candidates,
            accepted=self._accepted,
            seconds=self._seconds,
        )


def _validate(request: EvolveRequest) -> None:
    weight_count = request.parent.architecture.weight_count
    if request.pool_size < 1 or not 1 <= request.gain <= request.pool_size:
        raise Invalid("bad-search", pool_size=request.pool_size, gain=request.gain)
    if request.samples is not None:
        request.samples.validate_fits(request.parent.architecture)
        if len(request.samples) != request.pool_size:
            raise Invalid("bad-search", pool_size=request.pool_size, samples=len(request.samples))
    novel_count = weight_count
    if request.novel is not None:
        if request.novel.dtype != np.bool_ or request.novel.shape != (weight_count,):
            raise Invalid("bad-search", reason="novelty of another shape")
        novel_count = int(np.count_nonzero(request.novel))
    if not 0 <= request.min_flips <= novel_count:
        raise Invalid("bad-search", min_flips=request.min_flips, novel=novel_count)
    if request.max_flips is not None and request.max_flips < max(1, request.min_flips):
        raise Invalid("bad-search", min_flips=request.min_flips, max_flips=request.max_flips)
    if request.seed < 0 or request.max_candidates < 1 or request.population_size < 2:  # noqa: PLR2004  (a pair)
        raise Invalid("bad-search", reason="seed, budget or population size out of range")
    if any(model.architecture != request.parent.architecture for model in request.population):
        raise Invalid("bad-search", reason="population of another shape")
