"""The miner's learning: from the open places of the election order to a candidate that keeps every gate.

What was learned is kept: a search that a block interrupts goes on after it, where the block was not of its family.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import model_hash
from bnnchain.consensus import learning
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.lineage import novel_flips
from bnnchain.consensus.params import Params, share_ceil
from bnnchain.consensus.transition import elapsed, other_models
from bnnchain.consensus.types import BlockKind, DatasetId
from bnnchain.mining.evidence import TicketEvidence
from bnnchain.mining.evolve import EvolveProgress, EvolveRequest, Search
from bnnchain.mining.shapes import new_shape
from bnnchain.mining.template import Candidate, next_timestamp, open_places
from bnnchain.wire import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.election import Place
    from bnnchain.consensus.state import ChainState, FamilyState
    from bnnchain.mining.evolve import ShouldStop
    from bnnchain.mining.founders import FoundedModel, Founder, FoundProgress
    from bnnchain.mining.miner import MiningOptions
    from bnnchain.mining.pool.search import PooledSearch
    from bnnchain.mining.pool.workers import WorkerPool
    from bnnchain_kernels.model import Architecture

log = logging.getLogger(__name__)

FOUNDING_MARGIN_BP = 200
"""A founding model is trained this far above the chain's least accuracy, and no further: evolution needs room."""
FOUNDING_EPOCHS = (4, 15, 60)
"""Of a place's first tries and of every later one: most founders need less than one, and a hard data set more."""
MAX_CANDIDATES = 1_000_000
"""Judged for one block, before a chain that allows blocks without a model gets one where the lottery is open."""
SLICE_S = 0.5
"""For so long one place is learned for before the next open one has its turn, and the gate is looked at again."""
GRACE_S = 3.0
"""Between a block and mining on the next; a training stops when nobody has mined for so long."""
SEARCHES_KEPT = 8
MODELS_KEPT = 8
UNBOUNDED = 1 << 62


@dataclass(slots=True, eq=False)
class _Evolution:
    """The search for one parent's child, and what tickets have shown of that parent."""

    search: Search | PooledSearch
    evidence: TicketEvidence


@dataclass(slots=True, eq=False)
class _Round:
    """What has been spent on the block after one state."""

    state: ChainState
    candidates: dict[int, int] = field(default_factory=dict)
    """By family."""
    trainings: dict[int, int] = field(default_factory=dict)
    refused: set[DatasetId] = field(default_factory=set)
    """Data sets that cannot be learned from here."""


class Learner:
    """Learns for one miner, head after head; one thread at a time calls :meth:`learn`."""

    def __init__(
        self,
        chain: Chain,
        founder: Founder,
        options: MiningOptions,
        on_progress: Callable[[str], None],
        pool: WorkerPool | None = None,
    ) -> None:
        self._chain = chain
        self._founder = founder
        self._options = options
        self._on_progress = on_progress
        self._pool = pool
        self._evolutions: OrderedDict[bytes, _Evolution] = OrderedDict()
        self._trained: OrderedDict[tuple[DatasetId, Architecture], FoundedModel] = OrderedDict()
        self._round: _Round | None = None
        self._trainings = 0
        self.candidate_count = 0
        """Candidates judged in all searches so far."""
        self._outlasts_blocks = False
        self._newest_stop: ShouldStop = lambda: False
        self._over_since: float | None = None

    def attend(self, should_stop: ShouldStop) -> None:
        """Take the newest word on when to stop: a training that a block has interrupted goes on by it."""
        self._newest_stop, self._over_since = should_stop, None

    def learn(
        self, state: ChainState, held: Candidate | None, should_stop: ShouldStop, *, outlasts_blocks: bool = False
    ) -> Candidate | None:
        """Return a valid candidate for the block after ``state``, better than the one ``held``.

        None where stopped first, or where nothing is to be had for now: a founding model need not be bettered, and a
        place gets ``MAX_CANDIDATES`` and a few trainings before the caller may think of something else.
        outlasts_blocks: let a training run on though this state's turn is over, while :meth:`attend` says that mining
        goes on; a search needs none of that, it keeps its state.
        """
        self._outlasts_blocks = outlasts_blocks
        if self._round is None or self._round.state is not state:
            self._round = _Round(state)
        while not should_stop():
            places = self._places(self._round, held)
            if not places:
                self._round = None
                return None
            for place in places:
                candidate = self._try(self._round, place, held, should_stop)
                if candidate is not None or should_stop():
                    return candidate
        return None

    def evidence(self, candidate: Candidate) -> TicketEvidence | None:
        """Return what gathers the tickets of a candidate's parent; None where the candidate is not a child."""
        if candidate.place is None or candidate.place.kind != BlockKind.EVOLVE:
            return None
        evolution = self._evolutions.get(_parent_key(candidate.place))
        return None if evolution is None else evolution.evidence

    def _places(self, spent: _Round, held: Candidate | None) -> list[Place]:
        """Return the places worth learning for now."""
        if held is not None and held.place is not None:
            return [held.place] if held.place.kind == BlockKind.EVOLVE else []
        return [
            place
            for place in open_places(spent.state, self._chain.now())
            if place.dataset_id not in spent.refused
            and spent.candidates.get(place.family_id, 0) < MAX_CANDIDATES
            and spent.trainings.get(place.family_id, 0) < len(FOUNDING_EPOCHS)
        ]

    def _try(self, spent: _Round, place: Place, held: Candidate | None, should_stop: ShouldStop) -> Candidate | None:
        try:
            if place.kind == BlockKind.EVOLVE:
                return self._evolve(spent, place, held, should_stop)
            return self._found(spent, place, should_stop)
        except Unavailable as reason:
            log.info("cannot learn for family %d: %s", place.family_id, reason)
            spent.refused.add(place.dataset_id)
            return None

    def _found(self, spent: _Round, place: Place, should_stop: ShouldStop) -> Candidate | None:
        """Return a founding model, from an earlier training or a new one, that keeps the gates."""
        state = spent.state
        params = state.spec.params_at(state.height + 1)
        if place.family is not None:
            shape = place.family.architecture
        else:
            manifest = state.datasets[place.dataset_id].manifest
            shape = new_shape(state, manifest, params, self._options.architecture)
        key = (place.dataset_id, shape)
        founded = self._trained.get(key)
        if founded is not None and self._keeps_gates(state, place, founded, params):
            return Candidate(place, founded.model, founded.correct)
        founded = self._train(spent, place, shape, params, should_stop)
        if not self._keeps_gates(state, place, founded, params):
            return None
        # Also where it comes too late for this block: the next one may want it.
        self._trained[key] = founded
        while len(self._trained) > MODELS_KEPT:
            self._trained.popitem(last=False)
        return None if should_stop() else Candidate(place, founded.model, founded.correct)

    def _train(
        self, spent: _Round, place: Place, shape: Architecture, params: Params, should_stop: ShouldStop
    ) -> FoundedModel:
        entry = spent.state.datasets[place.dataset_id]
        pool = self._chain.validator.pool(place.dataset_id)
        tried = spent.trainings[place.family_id] = spent.trainings.get(place.family_id, 0) + 1
        self._trainings += 1
        target_bp = self._options.founding_target_bp
        target = share_ceil(len(pool), target_bp or 0)
        least = learning.required_accuracy(entry, params)
        if entry.uploader is not None:
            majority = int(np.bincount(pool.labels).max())
            least = max(least, majority + share_ceil(len(pool), params.majority_margin_bp))
        if target_bp is None:
            target = least + share_ceil(len(pool), FOUNDING_MARGIN_BP)
        return self._founder.found(
            shape,
            pool,
            self._chain.validator.evaluator(place.dataset_id),
            seed=self._seed("found", self._trainings.to_bytes(8, "little")),
            target_correct=min(len(pool), max(least, target)),
            max_epochs=FOUNDING_EPOCHS[tried - 1],
            on_progress=self._tell_founding,
            should_stop=(lambda: self._is_over(should_stop)) if self._outlasts_blocks else should_stop,
        )

    def _is_over(self, should_stop: ShouldStop) -> bool:
        """Answer whether nobody has mined for a while; ``should_stop`` is asked too, for it may take its rest there."""
        if not should_stop() or not self._newest_stop():
            self._over_since = None
            return False
        self._over_since = self._over_since or time.monotonic()
        return time.monotonic() - self._over_since > GRACE_S

    def _keeps_gates(self, state: ChainState, place: Place, founded: FoundedModel, params: Params) -> bool:
        """Answer whether a founding model may take a place; where not, the log says why."""
        entry, validator, model = state.datasets[place.dataset_id], self._chain.validator, founded.model
        try:
            learning.validate_accuracy(founded.correct, entry, params)
            if entry.uploader is not None:
                majority = int(np.bincount(validator.pool(place.dataset_id).labels).max())
                learning.validate_above_majority(founded.correct, majority, founded.pool_size, params)
            learning.validate_rows(model, other_models(state, place), params)
            if place.family is not None:
                own = validator.predictions(place.dataset_id, model, model_hash(model))
                records = place.family.founders
                others = [validator.predictions(place.dataset_id, each.model, each.model_hash) for each in records]
                learning.validate_founder_difference(own, others, params)
        except Invalid as reason:
            log.info("founding model refused: %s", reason)
            return False
        return True

    def _evolve(self, spent: _Round, place: Place, held: Candidate | None, should_stop: ShouldStop) -> Candidate | None:
        """Search on for a slice of time; return a child that keeps the gates as they are now."""
        state, family = spent.state, _family(place)
        params = state.spec.params_at(state.height + 1)
        evolution = self._evolution(place, params)
        search, until = evolution.search, time.monotonic() + SLICE_S
        min_flips = learning.required_flips(family.architecture, params)
        pool_size = state.datasets[place.dataset_id].manifest.pool_size
        waited = elapsed(state, next_timestamp(state, self._chain.now()))
        gain = learning.required_gain(family, pool_size, waited, params)
        if held is not None:
            gain = max(gain, held.correct - family.best.correct + 1)
        if gain > pool_size - family.best.correct:
            spent.candidates[family.family_id] = MAX_CANDIDATES
            return None
        search.require(gain)
        before = search.candidates
        result = search.run(
            threads=self._options.threads,
            on_progress=lambda progress: self._tell_evolving(family, gain, min_flips, progress),
            should_stop=lambda: should_stop() or time.monotonic() > until,
        )
        judged = search.candidates - before
        self.candidate_count += judged
        spent.candidates[family.family_id] = spent.candidates.get(family.family_id, 0) + judged
        if result is None:
            return None
        try:
            learning.validate_rows(result.child, other_models(state, place), params, parent=family.best.model)
        except Invalid as reason:
            log.info("child refused: %s", reason)
            return None
        return Candidate(place, result.child, result.correct)

    def _evolution(self, place: Place, params: Params) -> _Evolution:
        family, key = _family(place), _parent_key(place)
        if key not in self._evolutions:
            validator = self._chain.validator
            request = EvolveRequest(
                parent=family.best.model,
                samples=validator.pool(place.dataset_id),
                population=tuple(founder.model for founder in family.founders),
                gain=1,
                min_flips=learning.required_flips(family.architecture, params),
                novel=novel_flips(family),
                seed=self._seed("evolve", key),
                is_thrifty=self._is_thrifty(place, params),
                max_candidates=UNBOUNDED,
            )
            evidence = TicketEvidence(family.best.model)
            search = self._search(request, place.dataset_id, evidence)
            self._evolutions[key] = _Evolution(search, evidence)
            while len(self._evolutions) > SEARCHES_KEPT:
                self._evolutions.popitem(last=False)
        return self._evolutions[key]

    def _is_thrifty(self, place: Place, params: Params) -> bool:
        if self._options.is_thrifty is not None:
            return self._options.is_thrifty
        return not params.is_lottery_open and not self._chain.head.datasets[place.dataset_id].bounty

    def _search(self, request: EvolveRequest, dataset_id: DatasetId, evidence: TicketEvidence) -> Search | PooledSearch:
        if self._pool is not None:
            return self._pool.search(request, self._options.learning_percent if self._outlasts_blocks else 100)
        return Search(request, self._chain.validator.evaluator(dataset_id), (evidence,))

    def _seed(self, use: str, *parts: bytes) -> int:
        """Return a seed of 63 bits that follows from the miner's own and from what it is for."""
        drawn = tagged_hash(use, str(self._options.seed).encode(), *parts)
        return int.from_bytes(drawn[:8], "little") >> 1

    def _tell_founding(self, progress: FoundProgress) -> None:
        share = 100 * progress.best_correct / progress.pool_size
        self._on_progress(f"founding: epoch {progress.epochs:.1f}, {share:.2f} % of the pool")

    def _tell_evolving(self, family: FamilyState, gain: int, min_flips: int, progress: EvolveProgress) -> None:
        self._on_progress(
            f"evolving family {family.family_id}, generation {family.generation + 1}:"
            f" {progress.candidates} candidates, {progress.candidates_per_s:.0f}/s,"
            f" gain {progress.gain} of {gain}, novel flips {progress.novel_flips} of {min_flips}"
        )


def _parent_key(place: Place) -> bytes:
    """Return what a search depends on: the family, its parent, and how many models have marked weights as used."""
    family = _family(place)
    return family.family_id.to_bytes(8, "little") + family.best.model_hash + family.latest.block_id


def _family(place: Place) -> FamilyState:
    if place.family is None:
        raise Fault("an EVOLVE place always has a family")
    return place.family
