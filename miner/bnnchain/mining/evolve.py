"""The evolutionary search that turns a family's parent into its next generation (paper section 4.2).

A climb from the best model so far: batches of small moves, of mutants and of crossings race against the model in hand,
those that help are combined, and the best is taken, on its exact count over the whole pool alone.  Where climbing is
stuck, straight-through fine-tuning from the best model gives another model to climb from.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bnnchain.bnn.encoding import flat_weights
from bnnchain.mining.fine_tune import FineTune
from bnnchain.mining.operators import (
    FEW_FLIPS_MOVES,
    Crossover,
    FewFlips,
    GuidedFlips,
    Move,
    Mutation,
    Operator,
    Situation,
    apply_move,
    recombine,
)
from bnnchain.mining.yields import Yields
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import BLOCK_IMAGES, count_correct
from bnnchain_kernels.mutants import RaceRules, pack_mutants
from bnnchain_kernels.select import mutants_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import BoolArray, Model
    from bnnchain_kernels.mutants import MutantEvaluator

MAX_SEARCH_THREADS = 64
REPORT_INTERVAL_S = 0.25
REJECT_SIGMAS = 0.25
"""A candidate is dropped when it lies this many standard deviations below what it must reach.

Low on purpose: on MNIST with cnn-4k this found the most gain per image counted.  Good candidates lost to bad luck cost
less than mediocre ones counted to the end, and a move lost here may be drawn again.
"""
PAUSE_STEPS, PAUSE_MACS = 64, 6_400_000
"""Candidates raced, or steps of fine-tuning, between two moments at which a search may be stopped; fewer where a model
takes more multiply-accumulates an image.  Fine-tuning cnn-4k pauses about every half second."""
MIN_ROUND_WORK = 256
"""Blocks of images that a round counts for at least, since proposing takes time too, and some propose nothing."""
MIN_RACED_TOGETHER = 8
"""Enough for every thread of a small machine."""
STUCK_POOLS, STUCK_BATCHES, STUCK_GAIN_SHARE = 100, 8, 0.0003
"""Climbing is stuck when work worth so many whole pools and batches has gained no more than this share of the pool."""
FIRST_TUNING_STEPS, MAX_TUNING_STEPS = 512, 4096
"""Of fine-tuning: twice as many each time that climbing from its result did not pass the best."""
TUNING_CHECK_STEPS = 64
"""After so many the models in fine-tuning are counted, for one may be better than the best already."""
TUNED_TOGETHER = 2
"""Fine-tunings side by side, of which the better is taken; a constant, so that threads change nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class EvolveRequest:
    """What a child must achieve, and how to search for it.

    samples: the pool, those that the evaluator was built from.
    novel: ``bool[weight_count]``, the weights whose flip counts as novel; None: all.  population: further members of
    the family to cross with; those of another shape are of no use and refused.
    """

    parent: Model
    samples: Samples
    gain: int
    """Right labels on the whole pool that the child must have above its parent."""
    min_flips: int
    """Weights in which the child must differ from its parent, and novel flips among them."""
    seed: int
    """Of all random choices; another seed is another search."""
    novel: BoolArray | None = None
    population: tuple[Model, ...] = ()
    max_flips: int | None = None
    """Weights in which the child may differ at most; None: a quarter of them."""
    is_thrifty: bool = False
    """Be content with the gain that is asked for: more right labels than that make a model no better."""
    max_candidates: int = 1_000_000
    population_size: int = 10
    population_mutate_percent: float = 10
    mutate_probability: float = 0.05
    population_cross_percent: float = 10

    @property
    def pool_size(self) -> int:
        """Return the number of images in the pool."""
        return len(self.samples)


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

    The same request gives the same child, whatever the number of threads.  ``threads`` is for fine-tuning; races run on
    the evaluator's own.
    Raises :class:`Invalid` ``bad-search`` where the request makes no sense.
    """
    search = Search(request, evaluator)
    return search.run(threads=threads, on_progress=on_progress, should_stop=should_stop)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A fully counted model: what later candidates are compared with."""

    model: Model
    weights: BoolArray
    correct: int
    flips: int
    novel_flips: int


class Search:
    """A search that can be stopped and run on: state is kept between calls of :meth:`run`.

    operators: further sources of moves, beside those of every search.  start: a model to climb from; None: the parent.
    jumps: how often climbing was stuck before; above 0 the search begins by fine-tuning.
    """

    def __init__(
        self,
        request: EvolveRequest,
        evaluator: Evaluator,
        operators: Sequence[Operator] = (),
        *,
        start: Model | None = None,
        jumps: int = 0,
    ) -> None:
        _validate(request)
        self._request = request
        self._gain = request.gain
        self._evaluator = evaluator
        self._rng = np.random.default_rng(request.seed)
        self._block_count = -(-len(request.samples) // BLOCK_IMAGES)
        quarter = request.parent.architecture.weight_count // 4
        self._max_flips = max(1, request.min_flips, quarter) if request.max_flips is None else request.max_flips
        self._parent_weights = flat_weights(request.parent)
        # The population: the model in hand, the family's members, and what this search had in hand last.
        self._family = [flat_weights(model) for model in request.population[1 - request.population_size :]]
        self._recent: deque[BoolArray] = deque(maxlen=max(1, request.population_size - 1 - len(self._family)))
        operators = [
            *operators,
            FewFlips(),
            GuidedFlips(request.samples),
            Mutation(request.population_mutate_percent, request.mutate_probability),
            Crossover(request.population_cross_percent),
        ]
        self._yields = Yields(operators, round_work=MIN_ROUND_WORK)
        self._mutants = self._mutants_of(request.parent)
        correct = int(self._mutants.base_counts.sum(dtype=np.int64))
        self._parent = self._best = self._current = self._state(request.parent, self._parent_weights, correct)
        if start is not None:
            self._start_from(start)
        self._tuning_steps = min(FIRST_TUNING_STEPS << max(0, jumps - 1), MAX_TUNING_STEPS)
        self._candidates = self._accepted = 0
        self._seconds = 0.0
        self._threads = 1
        self._work = self._search(is_stuck=jumps > 0)

    @property
    def best(self) -> Model:
        """Return the best model so far, the parent at first."""
        return self._best.model

    @property
    def parent_correct(self) -> int:
        """Return the parent's right labels on the whole pool."""
        return self._parent.correct

    @property
    def candidates(self) -> int:
        """Return how many candidates have been judged."""
        return self._candidates

    def require(self, gain: int) -> None:
        """Ask for another gain from now on: a chain asks for less as time passes, and a miner for more than it has."""
        if not 1 <= gain <= self._request.pool_size:
            raise Invalid("bad-search", pool_size=self._request.pool_size, gain=gain)
        self._gain = gain

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
        self._threads = threads
        started, spent = time.monotonic(), self._seconds
        reported = started
        found = self._finished()
        while found is None and self._candidates < self._request.max_candidates:
            if should_stop is not None and should_stop():
                break
            next(self._work)
            found = self._finished()
            now = time.monotonic()
            self._seconds = spent + now - started
            if on_progress is not None and now - reported >= REPORT_INTERVAL_S:
                reported = now
                on_progress(self._progress())
        if on_progress is not None:
            on_progress(self._progress())
        return None if found is None else self._result(found)

    def _search(self, *, is_stuck: bool) -> Iterator[None]:
        """Search for ever, pausing wherever the caller may stop: climb, and where that is stuck, jump and climb."""
        if not is_stuck:
            yield from self._climb()
        while True:
            best = self._best
            yield from self._jump()
            yield from self._climb()
            if self._best is best:
                self._tuning_steps = min(2 * self._tuning_steps, MAX_TUNING_STEPS)

    def _climb(self) -> Iterator[None]:
        """Take steps uphill from the model in hand until they hardly gain for their work."""
        patience = STUCK_POOLS * self._block_count + STUCK_BATCHES * FEW_FLIPS_MOVES
        least = self._request.pool_size * STUCK_GAIN_SHARE
        gained, work = 0, 0.0
        while work < patience:
            before = self._current
            operator = self._yields.draw(self._rng)
            spent = yield from self._step(operator)
            yield
            gain = self._current.correct - before.correct
            self._yields.record(operator, max(0, gain), spent)
            has_moved = self._current is not before and self._needs_flips(self._current)
            gained, work = gained + gain, work + spent
            if gained > least or has_moved:
                gained, work = 0, 0.0

    def _step(self, operator: Operator) -> Generator[None, None, float]:
        """Race a batch of moves, then the best of it combined; take the best of all.  Returns the work in blocks."""
        situation = self._look()
        proposed = operator.propose(situation, self._rng)
        self._candidates += not proposed  # so that no search is endless
        helpful, work = yield from self._race(proposed)
        if len(helpful) > 1:
            moves = [move for move, _ in helpful]
            # The thrifty want enough, not more: what is together need not be better than the best alone.
            least = None if self._request.is_thrifty else helpful[0][1].correct
            together, more = yield from self._race(recombine(moves), least)
            helpful = sorted([*together, *helpful], key=lambda pair: self._preference(self._current, pair[1]))
            work += more
        if helpful:
            self._accept(helpful[0][1])
        return max(work, float(MIN_ROUND_WORK))

    def _race(
        self, proposed: list[Move], least: int | None = None
    ) -> Generator[None, None, tuple[list[tuple[Move, _State]], float]]:
        """Return the moves to a better model than the one in hand, best first, and the work in blocks.

        least: right labels to be passed; None: those of the model in hand.
        """
        base = self._current
        floor = 0 if self._needs_flips(base) else 1
        if self._request.is_thrifty and self._needs_flips(base):
            floor = min(0, self._parent.correct + self._gain - base.correct)
        if least is not None:
            floor += least - base.correct
        rules = RaceRules(floor, REJECT_SIGMAS)
        proposed = proposed[: self._request.max_candidates - self._candidates]
        moves = [move for move in proposed if self._is_allowed(move)]
        self._candidates += len(proposed) - len(moves)
        better, work = [], float(len(proposed))
        together = max(MIN_RACED_TOGETHER, self._pause_steps)
        for start in range(0, len(moves), together):
            part = moves[start : start + together]
            first_blocks = self._rng.integers(0, self._block_count, len(part))
            races = self._mutants.race(pack_mutants([(move.flips, move.steps) for move in part]), first_blocks, rules)
            for index in races.survivors().tolist():
                correct = int(races.counts[index].sum(dtype=np.int64))
                if correct - base.correct >= floor:
                    better.append((part[index], self._child(base, part[index], correct)))
            self._candidates += len(part)
            work += float(races.seen.sum())
            yield
        better = [pair for pair in better if self._rank(pair[1]) > self._rank(base)]
        better.sort(key=lambda pair: self._preference(base, pair[1]))
        return better, work

    def _jump(self) -> Iterator[None]:
        """Fine-tune the best model and take what comes out, though it may be worse: climbing from there may pass it."""
        self._hold(self._best)
        seeds = self._rng.integers(0, 1 << 63, TUNED_TOGETHER).tolist()
        request, base = self._request, self._best
        tunings = [FineTune(base.model, request.samples, self._tuning_steps, seed) for seed in seeds]
        done, result, last = 0, base, request.max_candidates - TUNED_TOGETHER
        with ThreadPoolExecutor(min(self._threads, TUNED_TOGETHER), "bnnchain-tune") as executor:
            while done < self._tuning_steps and result.correct <= base.correct and self._candidates <= last:
                for trained in range(0, TUNING_CHECK_STEPS, self._pause_steps):
                    steps = min(self._pause_steps, TUNING_CHECK_STEPS - trained)
                    list(executor.map(FineTune.train, tunings, [steps] * len(tunings)))
                    yield
                done += TUNING_CHECK_STEPS
                result = max((self._count(tuning.move()) for tuning in tunings), key=lambda state: state.correct)
        if result is not base and result.flips <= self._max_flips:
            self._accept(result)

    def _count(self, move: Move) -> _State:
        """Return the model after a move from the one in hand, counted in full."""
        self._candidates += 1
        batch = pack_mutants([(move.flips, move.steps)])
        races = self._mutants.race(batch, np.zeros(1, np.int64), RaceRules(-self._request.pool_size))
        return self._child(self._current, move, int(races.counts[0].sum(dtype=np.int64)))

    def _is_allowed(self, move: Move) -> bool:
        """Tell whether a move has an effect and keeps the child within its greatest difference."""
        undone = int(np.count_nonzero(self._current.weights[move.flips] != self._parent_weights[move.flips]))
        flips = self._current.flips + len(move.flips) - 2 * undone
        return flips <= self._max_flips and (len(move.flips) > 0 or len(move.steps) > 0)

    def _rank(self, state: _State) -> tuple[int, int]:
        """Return what makes one model better than another: right labels, then novel flips while they are lacking."""
        correct = state.correct
        if self._request.is_thrifty:
            correct = min(correct, self._parent.correct + self._gain)
        return correct, min(state.novel_flips, self._request.min_flips)

    def _preference(self, base: _State, state: _State) -> tuple[int, ...]:
        """Return what orders models, the best first; of equals the thrifty prefer the one that changes least."""
        return (*(-value for value in self._rank(state)), abs(state.correct - base.correct))

    @property
    def _pause_steps(self) -> int:
        return max(1, min(PAUSE_STEPS, PAUSE_MACS // self._request.parent.architecture.mac_count))

    def _needs_flips(self, state: _State) -> bool:
        return state.novel_flips < self._request.min_flips

    def _accept(self, child: _State) -> None:
        self._accepted += 1
        self._recent.append(self._current.weights)
        self._hold(child)
        if self._rank(child) > self._rank(self._best):
            self._best = child

    def _start_from(self, model: Model) -> None:
        if model.architecture != self._request.parent.architecture:
            raise Invalid("bad-search", reason="start of another shape")
        correct = count_correct(self._evaluator, model, self._request.pool_size)
        self._hold(self._state(model, flat_weights(model), correct))
        self._best = max(self._parent, self._current, key=self._rank)

    def _hold(self, state: _State) -> None:
        """Make a model the one in hand, which later moves start from."""
        if state is not self._current:
            self._current = state
            self._mutants = self._mutants_of(state.model)

    def _mutants_of(self, model: Model) -> MutantEvaluator:
        return mutants_of(self._evaluator, self._request.samples, model, self._request.pool_size)

    def _look(self) -> Situation:
        """Return what operators see; a model with its gain but too few flips draws only flips that count."""
        state = self._current
        eligible = np.ones(len(state.weights), np.bool_)
        if state.correct - self._parent.correct >= self._gain and self._needs_flips(state):
            eligible = state.weights == self._parent_weights
            if self._request.novel is not None:
                eligible &= self._request.novel
        return Situation(state.model, state.weights, [*self._family, *self._recent], np.flatnonzero(eligible))

    def _child(self, base: _State, move: Move, correct: int) -> _State:
        weights = base.weights.copy()
        weights[move.flips] ^= True
        return self._state(apply_move(base.model, move), weights, correct)

    def _state(self, model: Model, weights: BoolArray, correct: int) -> _State:
        flipped = weights != self._parent_weights
        flips = int(np.count_nonzero(flipped))
        novel = self._request.novel
        novel_flips = flips if novel is None else int(np.count_nonzero(flipped & novel))
        return _State(model, weights, correct, flips, novel_flips)

    def _finished(self) -> _State | None:
        return next((state for state in (self._current, self._best) if self._meets_request(state)), None)

    def _meets_request(self, state: _State) -> bool:
        return state.correct - self._parent.correct >= self._gain and not self._needs_flips(state)

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
    if not 1 <= request.gain <= request.pool_size:
        raise Invalid("bad-search", pool_size=request.pool_size, gain=request.gain)
    request.samples.validate_fits(request.parent.architecture)
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
