"""Tickets drawn by a pool's workers: ranges of nonces in order; the lowest winner counts, whoever drew it when."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from bnnchain.bnn.encoding import encode_model
from bnnchain.consensus import lottery
from bnnchain.consensus.header import core_hash
from bnnchain.consensus.transition import lottery_task
from bnnchain.mining.pool.tasks import TicketOrder, draw_tickets
from bnnchain.mining.tickets import ALWAYS_WINNING, MAX_NONCE, TICKETS_TOGETHER, with_ticket
from bnnchain.wire import tagged_hash

if TYPE_CHECKING:
    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header
    from bnnchain.mining.evidence import TicketEvidence
    from bnnchain.mining.founders import ShouldStop
    from bnnchain.mining.pool.workers import WorkerPool

BATCH_S = 0.6
"""Of work in one task: a round trip takes a fiftieth of it."""
FIRST_BATCH = 4 * TICKETS_TOGETHER
"""Until a task has told how long its tickets took."""
MAX_BATCH = 1 << 20
WAITING_PER_THREAD = 2
"""Tasks handed out for each thread of the pool: one runs, one waits, so that none is ever without work."""


class PooledTicketDrawer:
    """As :class:`~bnnchain.mining.tickets.TicketDrawer`, on the workers of a pool."""

    def __init__(
        self,
        pool: WorkerPool,
        state: ChainState,
        header: Header,
        validator: Validator,
        should_stop: ShouldStop,
        evidence: TicketEvidence | None = None,
    ) -> None:
        """should_stop: ends a :meth:`draw` that waits for workers."""
        params = state.spec.params_at(header.height)
        task = lottery_task(state, header, params)
        samples = validator.pool(task.dataset_id)
        indices = lottery.sample_indices(task.previous_hash, task.dataset_id, len(samples), params.n_eval)
        base = encode_model(task.base)
        flips = params.ticket_flips.to_bytes(8, "little")
        key = tagged_hash("pool-tickets", pool.key_of(samples).encode(), indices.tobytes(), flips, base).hex()
        self._pool = pool
        self._samples = pool.share_samples(samples)
        self._order = pool.share(key, TicketOrder(key, base, indices, params.ticket_flips))
        self._is_open = bool(params.is_lottery_open)
        self._should_stop = should_stop
        self._evidence = evidence
        self._header: Header | None = None
        self._waiting: deque[tuple[range, Any]] = deque()
        self._next_nonce = 0
        self._batch = FIRST_BATCH
        self._drawn = 0

    @property
    def tickets_together(self) -> int:
        """Return how many tickets the last :meth:`draw` drew."""
        return self._drawn

    def draw(self, header: Header, first_nonce: int) -> Header | None:
        """Draw the next range of nonces from ``first_nonce`` on; return the header with the lowest winner, or None."""
        if header != self._header or (self._waiting and self._waiting[0][0].start != first_nonce):
            self._waiting.clear()  # which cancels them
            self._header = header
        if not self._waiting:
            self._next_nonce = first_nonce
        self._hand_out(header)
        nonces, future = self._waiting[0]
        self._drawn = 0
        answer = self._pool.result(future, self._should_stop)
        if answer is None:
            return None
        drawn, seconds = answer
        self._waiting.popleft()
        self._drawn = len(nonces)
        if drawn.won is None:
            self._adapt(len(nonces), seconds)
        if self._evidence is not None and drawn.flips:
            self._evidence.record(drawn.flips, drawn.gains)
        return with_ticket(header, drawn)

    def _hand_out(self, header: Header) -> None:
        wants_gains = self._evidence is not None and not self._evidence.is_complete
        core, target = core_hash(header), ALWAYS_WINNING if self._is_open else header.target
        while len(self._waiting) < max(1, WAITING_PER_THREAD * self._pool.threads):
            nonces = range(self._next_nonce, min(self._next_nonce + self._batch, MAX_NONCE + 1))
            arguments = (self._samples, self._order, core, nonces, target)
            self._waiting.append((nonces, self._pool.submit(draw_tickets, *arguments, wants_gains=wants_gains)))
            self._next_nonce = nonces.stop

    def _adapt(self, tickets: int, seconds: float) -> None:
        """Make the next batches last ``BATCH_S``, as this one took ``seconds``; the first also built the base."""
        wanted = tickets * BATCH_S / max(seconds, 1e-3)
        limited = min(max(wanted, self._batch / 2, TICKETS_TOGETHER), self._batch * 4, MAX_BATCH)
        self._batch = max(1, round(limited / TICKETS_TOGETHER)) * TICKETS_TOGETHER
