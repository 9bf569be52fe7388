"""The miner: elected place -> candidate -> ticket -> sealed block; import and relay are the node's business."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from bnnchain.bnn.distance import prediction_difference
from bnnchain.bnn.encoding import model_hash
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.learning import required_accuracy, required_flips, required_gain
from bnnchain.consensus.lineage import novel_flips
from bnnchain.consensus.params import BP, Params, share_ceil
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transition import elapsed
from bnnchain.consensus.types import BlockKind
from bnnchain.mining.evolve import EvolveProgress, EvolveRequest, evolve
from bnnchain.mining.shapes import new_shape
from bnnchain.mining.template import (
    Candidate,
    draft_block,
    model_bytes,
    next_timestamp,
    open_places,
    select_transactions,
)
from bnnchain.mining.tickets import draw_winning_ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.election import Place
    from bnnchain.consensus.state import ChainState, FamilyState
    from bnnchain.mining.founders import FoundedModel, Founder, FoundProgress
    from bnnchain_kernels.model import Architecture

log = logging.getLogger(__name__)

FOUNDING_MARGIN_BP = 200
"""A founding model is trained this far above the chain's least accuracy, and no further: evolution needs room."""
MAX_FOUNDING_EPOCHS = 60
MAX_FOUNDING_TRIES = 8
RETRY_S = 1.0

ShouldStop: TypeAlias = "Callable[[], bool]"


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What a miner may choose; nothing of it is consensus."""

    seed: int
    threads: int
    founding_target_bp: int | None = None
    """Accuracy at which training of a founder stops; None: the chain's least plus ``FOUNDING_MARGIN_BP``."""
    architecture: Architecture | None = None
    """Shape wanted for the first new family; None: the zoo's for the data set."""


class Miner:
    """Makes sealed blocks on the chain's head, one at a time; blocking, so it runs in a thread of its own."""

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        key: Ed25519PrivateKey,
        founder: Founder,
        options: MiningOptions,
        on_progress: Callable[[str], None] = log.info,
    ) -> None:
        """on_progress gets a line for people now and then, from the mining thread."""
        self._chain = chain
        self._mempool = mempool
        self._key = key
        self._founder = founder
        self._options = options
        self._on_progress = on_progress
        self._attempts = 0

    def mine(self, should_stop: ShouldStop) -> bytes | None:
        """Return a sealed block for the present head, or None where ``should_stop`` came first."""
        state = self._chain.head
        while not should_stop():
            self._attempts += 1
            candidate = self._find_candidate(state, should_stop)
            if candidate is None:
                time.sleep(0 if should_stop() else RETRY_S)
                continue
            return self._seal(state, candidate, should_stop)
        return None

    def _find_candidate(self, state: ChainState, should_stop: ShouldStop) -> Candidate | None:
        params = state.spec.params_at(state.height + 1)
        for place in open_places(state, self._chain.now()):
            if place.kind == BlockKind.EVOLVE:
                candidate = self._evolve(state, place, params, should_stop)
            else:
                candidate = self._found(state, place, params, should_stop)
            if candidate is not None or should_stop():
                return candidate
        return Candidate(None, None, 0) if params.is_idle_allowed else None

    def _found(self, state: ChainState, place: Place, params: Params, should_stop: ShouldStop) -> Candidate | None:
        manifest = state.datasets[place.dataset_id].manifest
        if place.family is not None:
            shape = place.family.architecture
        else:
            shape = new_shape(state, manifest, params, self._options.architecture)
        for _ in range(MAX_FOUNDING_TRIES):
            founded = self._train(place, shape, params, should_stop)
            if should_stop():
                return None
            if founded.correct < required_accuracy(state.datasets[place.dataset_id], params):
                log.info("founding model reached only %d of %d", founded.correct, founded.pool_size)
            elif self._is_different(place, founded, params):
                return Candidate(place, founded.model, founded.correct)
            self._attempts += 1
        return None

    def _train(self, place: Place, shape: Architecture, params: Params, should_stop: ShouldStop) -> FoundedModel:
        pool = self._chain.validator.pool(place.dataset_id)
        least = required_accuracy(self._chain.head.datasets[place.dataset_id], params)
        target_bp = self._options.founding_target_bp
        if target_bp is None:
            target_bp = min(BP, params.min_family_acc_bp + FOUNDING_MARGIN_BP)
        return self._founder.found(
            shape,
            pool,
            self._chain.validator.evaluator(place.dataset_id),
            seed=self._options.seed + self._attempts,
            target_correct=max(least, share_ceil(len(pool), target_bp)),
            max_epochs=MAX_FOUNDING_EPOCHS,
            on_progress=self._tell_founding,
            should_stop=should_stop,
        )

    def _is_different(self, place: Place, founded: FoundedModel, params: Params) -> bool:
        if place.family is None:
            return True
        validator = self._chain.validator
        own = validator.predictions(place.dataset_id, founded.model, model_hash(founded.model))
        wanted = share_ceil(len(own), params.min_family_diff_bp)
        return all(
            prediction_difference(own, validator.predictions(place.dataset_id, other.model, other.model_hash)) >= wanted
            for other in place.family.founders
        )

    def _evolve(self, state: ChainState, place: Place, params: Params, should_stop: ShouldStop) -> Candidate | None:
        family = place.family
        if family is None:
            raise Unavailable("an EVOLVE place without a family")
        validator = self._chain.validator
        pool = validator.pool(place.dataset_id)
        waited = elapsed(state, next_timestamp(state, self._chain.now()))
        request = EvolveRequest(
            parent=family.best.model,
            samples=pool,
            population=tuple(founder.model for founder in family.founders),
            gain=required_gain(family, len(pool), waited, params),
            min_flips=required_flips(family.architecture, params),
            novel=novel_flips(family),
            seed=self._options.seed + self._attempts,
        )
        result = evolve(
            request,
            validator.evaluator(place.dataset_id),
            threads=self._options.threads,
            on_progress=lambda progress: self._tell_evolving(family, request, progress),
            should_stop=should_stop,
        )
        return None if result is None else Candidate(place, result.child, result.correct)

    def _tell_founding(self, progress: FoundProgress) -> None:
        share = 100 * progress.best_correct / progress.pool_size
        self._on_progress(f"founding: epoch {progress.epochs:.1f}, {share:.2f} % of the pool")

    def _tell_evolving(self, family: FamilyState, request: EvolveRequest, progress: EvolveProgress) -> None:
        self._on_progress(
            f"evolving family {family.family_id}, generation {family.generation + 1}:"
            f" {progress.candidates} candidates, {progress.candidates_per_s:.0f}/s,"
            f" gain {progress.gain} of {request.gain}, flips {progress.flips} of {request.min_flips}"
        )

    def _seal(self, state: ChainState, candidate: Candidate, should_stop: ShouldStop) -> bytes | None:
        params = state.spec.params_at(state.height + 1)
        transactions = select_transactions(self._mempool, params, len(model_bytes(candidate)))
        block = draft_block(state, candidate, public_key(self._key), transactions, self._chain.now())
        header = draw_winning_ticket(state, block.header, self._chain.validator, should_stop)
        if header is None:
            return None
        return encode_block(replace(block, header=sign_header(header, self._key)))
