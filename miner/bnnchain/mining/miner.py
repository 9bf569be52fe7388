"""The miner: one evolutionary search whose mutants are the lottery's tickets; it seals what wins.

Where the lottery is closed it draws tickets at once on what it has: a block without a model, or a valid candidate.  It
learns beside that, and the first valid candidate, and every better one, replaces the block in the making: tickets have
no memory, so nothing is lost.  A child's tickets are mutants of its parent, and what they show goes back into the
search.  Import and relay are the node's business.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from bnnchain.consensus.codec import HEADER_BYTES, encode_block, encode_proof
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.signatures import public_key
from bnnchain.mining.availability import availability_proofs
from bnnchain.mining.learner import Learner
from bnnchain.mining.template import IDLE, Candidate, draft_block, model_bytes, select_transactions
from bnnchain.mining.tickets import TicketDrawer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import AvailabilityProof, Block, Header
    from bnnchain.mining.founders import Founder
    from bnnchain.mining.pool.tickets import PooledTicketDrawer
    from bnnchain.mining.pool.workers import WorkerPool
    from bnnchain_kernels.model import Architecture

log = logging.getLogger(__name__)

REFRESH_S = 2.0
"""A block in the making is drafted anew this often: its time moves, and better transactions may wait."""
POOL_REFRESH_S = 15.0
"""Of a pool: what its workers are drawing when the block is drafted anew is lost."""
RETRY_S = 1.0
MAX_REST_S = 0.5
"""At once, so that learning ends soon where it is told to; what is left is rested later."""
PERCENT = 100
LEARNING_PERCENT = 10
"""Of the miner's power; PROTOCOL.md, "Lottery", says what a higher share costs the chain's safety."""

ShouldStop: TypeAlias = "Callable[[], bool]"


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What a miner may choose; nothing of it is consensus."""

    seed: int
    threads: int
    founding_target_bp: int | None = None
    """Accuracy at which training of a founder stops; None: ``FOUNDING_MARGIN_BP`` above the least that counts."""
    architecture: Architecture | None = None
    """Shape wanted for the first new family; None: the zoo's for the data set."""
    is_thrifty: bool | None = None
    """Be content with the gain that the chain asks for: what is left serves later blocks.

    None: where a block costs a lottery and the data set has no bounty, so that nobody pays for more.
    """
    learning_percent: int = LEARNING_PERCENT
    """Share of the time that goes to learning beside a closed lottery; what is left of the power draws tickets.

    Learning does not protect the chain, tickets do; but a model earns four times what a block without one does.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.learning_percent <= PERCENT:
            raise Invalid("bad-search", learning_percent=self.learning_percent)


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
        pool: WorkerPool | None = None,
    ) -> None:
        """on_progress gets a line for people now and then, from whichever thread learns.

        pool: draws the tickets and searches; None: this process does.
        """
        self._chain = chain
        self._mempool = mempool
        self._key = key
        self._options = options
        self._pool = pool
        self._learner = Learner(chain, founder, options, on_progress, pool)
        self._beside: _LearningBeside | None = None
        self.ticket_count = 0
        """Tickets drawn since the process began."""

    @property
    def candidate_count(self) -> int:
        """Candidates that searches have judged since the process began."""
        return self._learner.candidate_count

    def mine(self, should_stop: ShouldStop) -> bytes | None:
        """Return a sealed block for the present head, or None where ``should_stop`` came first."""
        state = self._chain.head
        params = state.spec.params_at(state.height + 1)
        return self._learn_first(state, should_stop) if params.is_lottery_open else self._play(state, should_stop)

    def _learn_first(self, state: ChainState, should_stop: ShouldStop) -> bytes | None:
        """Return a block where every ticket wins: the model alone decides when."""
        params = state.spec.params_at(state.height + 1)
        while not should_stop():
            candidate = self._learner.learn(state, None, should_stop)
            if candidate is None and params.is_idle_allowed and not should_stop():
                candidate = IDLE
            if candidate is not None:
                block = self._draft(state, candidate, self._proofs(state))
                won = TicketDrawer(state, block.header, self._chain.validator).draw(block.header, 0)
                self.ticket_count += 1
                return None if won is None else self._seal(block, won)
            time.sleep(0 if should_stop() else RETRY_S)
        return None

    def _play(self, state: ChainState, should_stop: ShouldStop) -> bytes | None:
        """Return the block whose ticket won, drawn while learning goes on beside."""
        params = state.spec.params_at(state.height + 1)
        proofs = self._proofs(state)
        self._learner.attend(should_stop)
        learning = self._beside = _LearningBeside(self._learner, state, self._options, should_stop, self._beside)
        held: Candidate | None = None
        block: Block | None = None
        nonce = 0

        def is_outdated() -> bool:
            return should_stop() or learning.best() is not found

        try:
            while not should_stop():
                found = learning.best()
                candidate = found or (IDLE if params.is_idle_allowed else None)
                if candidate is None:
                    time.sleep(RETRY_S)
                    continue
                draft = self._draft(state, candidate, proofs)
                if held is None or candidate.place is not held.place:
                    drawer = self._drawer(state, candidate, draft.header, is_outdated)
                if block is None or draft.header != block.header:
                    block, nonce = draft, 0
                held = candidate
                won, nonce = self._draw(drawer, block.header, nonce, is_outdated)
                if won is not None:
                    return self._seal(block, won)
        finally:
            learning.stop()
        return None

    def _draw(
        self, drawer: TicketDrawer | PooledTicketDrawer, header: Header, nonce: int, is_outdated: ShouldStop
    ) -> tuple[Header | None, int]:
        """Draw tickets from ``nonce`` on until one wins or it is time for another draft; return also the next nonce."""
        until = time.monotonic() + (REFRESH_S if self._pool is None else POOL_REFRESH_S)
        while not is_outdated() and time.monotonic() < until:
            won = drawer.draw(header, nonce)
            nonce += drawer.tickets_together
            self.ticket_count += drawer.tickets_together
            if won is not None:
                return won, nonce
        return None, nonce

    def _drawer(
        self, state: ChainState, candidate: Candidate, header: Header, is_outdated: ShouldStop
    ) -> TicketDrawer | PooledTicketDrawer:
        evidence = self._learner.evidence(candidate)
        if self._pool is not None:
            return self._pool.drawer(state, header, self._chain.validator, is_outdated, evidence)
        return TicketDrawer(state, header, self._chain.validator, threads=self._options.threads, evidence=evidence)

    def _draft(self, state: ChainState, candidate: Candidate, proofs: tuple[AvailabilityProof, ...]) -> Block:
        params = state.spec.params_at(state.height + 1)
        stale = next(iter(self._chain.stale_headers(1)), None) if self._chain.head is state else None
        taken = len(model_bytes(candidate)) + sum(len(encode_proof(proof)) for proof in proofs)
        transactions = select_transactions(self._mempool, params, taken + (HEADER_BYTES if stale else 0))
        return draft_block(state, candidate, public_key(self._key), transactions, self._chain.now(), proofs, stale)

    def _proofs(self, state: ChainState) -> tuple[AvailabilityProof, ...]:
        return availability_proofs(state, public_key(self._key), self._chain.store.dataset)

    def _seal(self, block: Block, won: Header) -> bytes:
        return encode_block(replace(block, header=sign_header(won, self._key)))


class _LearningBeside:
    """A thread that learns for one head, a share of the time, and keeps the best valid candidate."""

    def __init__(
        self,
        learner: Learner,
        state: ChainState,
        options: MiningOptions,
        should_stop: ShouldStop,
        before: _LearningBeside | None,
    ) -> None:
        """before: the one for the last head, which the learner must have left first."""
        self._learner = learner
        self._state = state
        self._percent = options.learning_percent
        self._should_stop = should_stop
        self._stopping = threading.Event()
        self._best: Candidate | None = None
        self._error: BaseException | None = None
        self._resumed, self._owed_s = time.monotonic(), 0.0
        self._thread = threading.Thread(target=self._run, args=(before,), name="bnnchain-learn", daemon=True)
        if self._percent:
            self._thread.start()

    def best(self) -> Candidate | None:
        """Return the best candidate so far; raises here what went wrong in the thread."""
        if self._error is not None:
            raise self._error
        return self._best

    def stop(self) -> None:
        """Tell the thread to end soon; the block that was won is not kept waiting for it."""
        self._stopping.set()

    def wait(self) -> None:
        """Return once the thread has ended."""
        if self._percent:
            self._thread.join()

    def _run(self, before: _LearningBeside | None) -> None:
        try:
            if before is not None:
                before.wait()
            while not self._is_stopped():
                candidate = self._learner.learn(self._state, self._best, self._pause, outlasts_blocks=True)
                if candidate is not None:
                    self._best = candidate
                else:
                    self._stopping.wait(RETRY_S)
        except BaseException as error:  # noqa: BLE001  (raised in the miner's thread)
            self._error = error

    def _is_stopped(self) -> bool:
        return self._stopping.is_set() or self._should_stop()

    def _pause(self) -> bool:
        """Rest for the work since the last rest, as the share of time asks for; answer whether to stop."""
        now = time.monotonic()
        self._owed_s += (now - self._resumed) * (PERCENT - self._percent) / self._percent
        rest_s = min(self._owed_s, MAX_REST_S)
        time.sleep(rest_s)
        self._owed_s -= rest_s
        self._resumed = time.monotonic()
        return self._is_stopped()
