"""What workers run: functions of plain data alone, so that Dask may run any of them anywhere, and once more.

A worker keeps the samples of a data set and what it has built of them; one thread of the kernel a task.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import decode_model, encode_model, flat_weights
from bnnchain.chain.validator import Cache
from bnnchain.mining.evolve import EvolveRequest, Search
from bnnchain.mining.founders import FoundedModel, select_founder
from bnnchain.mining.operators import Move, recombine
from bnnchain.mining.tickets import TICKETS_TOGETHER, Drawn, TicketBase
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.select import select
from bnnchain_kernels.sliced_evaluator import SlicedEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.mining.evolve import EvolveProgress
    from bnnchain.mining.operators import Situation
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture, BoolArray, Int32Array

STOP_INTERVAL_S = 0.5
"""How often a task asks whether its answer is still wanted."""
KEPT_EVALUATORS = 4
KEPT_TICKET_BASES = 4

_evaluators: Cache[str, Evaluator] = Cache(KEPT_EVALUATORS)
_ticket_bases: Cache[str, TicketBase] = Cache(KEPT_TICKET_BASES)


@dataclass(frozen=True, slots=True, eq=False)
class SharedSamples:
    """A data set's pool, sent to each worker once; the same key means the same samples."""

    key: str
    samples: Samples


@dataclass(frozen=True, slots=True, eq=False)
class TicketOrder:
    """The base of one height's tickets.  indices: ``int32[n]``, the samples they are evaluated on."""

    key: str
    base: bytes
    indices: Int32Array
    ticket_flips: int


@dataclass(frozen=True, slots=True, eq=False)
class Migrant:
    """What another lane changed in the last round's start: moves to try on this round's."""

    flips: Int32Array
    steps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class LaneOrder:
    """One lane's search in one round: as :class:`EvolveRequest`, models as bytes.

    start: where it climbs from.  jumps: how often climbing has been stuck before; above 0 it begins by fine-tuning.
    """

    parent: bytes
    start: bytes
    population: tuple[bytes, ...]
    migrants: tuple[Migrant, ...]
    gain: int
    min_flips: int
    max_flips: int | None
    novel: BoolArray | None
    is_thrifty: bool
    seed: int
    max_candidates: int
    jumps: int


@dataclass(frozen=True, slots=True, eq=False)
class LaneResult:
    """The best model of a lane's round, counted on the whole pool; is_found: it meets the order."""

    model: bytes
    is_found: bool
    correct: int
    correct_parent: int
    flips: int
    novel_flips: int
    candidates: int
    accepted: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """One lane's founding training, as :class:`~bnnchain.mining.founders.Founder` takes it."""

    trainer: str
    architecture: Architecture
    seed: int
    target_correct: int | None
    max_epochs: int


def keep(value: object) -> object:
    """Return the value: a task that holds what other tasks need, so that Dask can make it again."""
    return value


def draw_tickets(
    shared: SharedSamples, order: TicketOrder, core: bytes, nonces: range, target: int, *, wants_gains: bool
) -> tuple[Drawn, float]:
    """Return what a range of tickets shows up to its first winner, and the seconds it took."""
    started = time.monotonic()
    base = _ticket_bases.get(order.key, lambda: _ticket_base(shared, order))
    flips, gains, won = [], [np.zeros(0, np.int32)], None
    for first in range(nonces.start, nonces.stop, TICKETS_TOGETHER):
        part = range(first, min(first + TICKETS_TOGETHER, nonces.stop))
        drawn = base.draw(core, part, target, wants_gains=wants_gains)
        flips += drawn.flips
        gains.append(drawn.gains)
        if drawn.won is not None:
            won = drawn.won
            break
    return Drawn(won, flips, np.concatenate(gains)), time.monotonic() - started


def run_lane(shared: SharedSamples, order: LaneOrder, stop: str) -> LaneResult:
    """Return what a lane reaches in one round; depends on the order alone, unless it was stopped."""
    started = time.monotonic()
    parent, start = decode_model(order.parent), decode_model(order.start)
    request = EvolveRequest(
        parent=parent,
        samples=shared.samples,
        gain=order.gain,
        min_flips=order.min_flips,
        max_flips=order.max_flips,
        novel=order.novel,
        population=tuple(decode_model(each) for each in order.population),
        seed=order.seed,
        is_thrifty=order.is_thrifty,
        max_candidates=order.max_candidates,
    )
    evaluator = _evaluator(shared)
    operators = [Migration(order.migrants, flat_weights(start))] if order.migrants else []
    search = Search(request, evaluator, operators, start=start, jumps=order.jumps)
    reports: list[EvolveProgress] = []
    found = search.run(on_progress=reports.append, should_stop=_stop_check(stop))
    last, best = reports[-1], search.best if found is None else found.child
    correct = count_correct(evaluator, best, len(shared.samples))
    return LaneResult(
        model=encode_model(best),
        is_found=found is not None,
        correct=correct,
        correct_parent=search.parent_correct,
        flips=last.flips if found is None else found.flips,
        novel_flips=last.novel_flips if found is None else found.novel_flips,
        candidates=last.candidates,
        accepted=last.accepted,
        seconds=time.monotonic() - started,
    )


def train(shared: SharedSamples, order: TrainingOrder, stop: str) -> tuple[bytes, FoundedModel]:
    """Return a founded model, its bytes apart; raises :class:`Unavailable` where the trainer is not installed here."""
    founded = select_founder(order.trainer, 1).found(
        order.architecture,
        shared.samples,
        _evaluator(shared),
        seed=order.seed,
        target_correct=order.target_correct,
        max_epochs=order.max_epochs,
        should_stop=_stop_check(stop),
    )
    return encode_model(founded.model), founded


class Migration:
    """Proposes once what the other lanes found in the last round, alone and together: most of it adds up."""

    name = "migration"

    def __init__(self, migrants: tuple[Migrant, ...], start: BoolArray) -> None:
        """start: the flat weights that the migrants' changes are for."""
        self._moves = [Move(migrant.flips.astype(np.int64), migrant.steps) for migrant in migrants]
        self._start = start

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:  # noqa: ARG002  (nothing random)
        """Return the moves whose weights are still as they were, and their unions, the first time; then none."""
        is_open = situation.weights == self._start
        moves = [move for move in self._moves if is_open[move.flips].all()]
        self._moves = []
        return [*moves, *recombine(moves)] if moves else []


def _evaluator(shared: SharedSamples) -> Evaluator:
    return _evaluators.get(shared.key, partial(_single_threaded, shared.samples))


def _single_threaded(samples: Samples) -> Evaluator:
    evaluator = select("auto")(samples)
    if isinstance(evaluator, SlicedEvaluator):
        # A worker has a task for each of its threads already.
        evaluator.threads = 1
    return evaluator


def _ticket_base(shared: SharedSamples, order: TicketOrder) -> TicketBase:
    samples = shared.samples.take(order.indices)
    return TicketBase(decode_model(order.base), samples, _single_threaded(samples), order.ticket_flips)


def _stop_check(name: str) -> Callable[[], bool]:
    """Return what answers whether the event of a name has been set, asking the scheduler now and then."""
    from distributed import Event

    event, asked, answer = Event(name), time.monotonic(), False

    def should_stop() -> bool:
        nonlocal asked, answer
        if not answer and time.monotonic() - asked > STOP_INTERVAL_S:
            asked, answer = time.monotonic(), event.is_set()
        return answer

    return should_stop
