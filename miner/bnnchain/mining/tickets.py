"""Drawing tickets: mutants of the lottery's base, evaluated by the kernel until one wins (PROTOCOL.md, "Lottery")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.consensus import lottery
from bnnchain.consensus.header import core_hash
from bnnchain.consensus.transition import lottery_task
from bnnchain_kernels.mutants import pack_mutants
from bnnchain_kernels.select import mutants_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header
    from bnnchain.mining.evidence import TicketEvidence
    from bnnchain_kernels.model import Int32Array, UInt8Array

MAX_NONCE = (1 << 64) - 1
TICKETS_TOGETHER = 64
"""Tickets that a thread evaluates in one call; between calls drawing may be stopped."""


class TicketDrawer:
    """Draws the tickets of headers of one kind and family on ``state``; remembers their base's activations.

    evidence: is told what each ticket says of the base's weights; None where the base is not a parent being bettered.
    """

    def __init__(
        self,
        state: ChainState,
        header: Header,
        validator: Validator,
        *,
        threads: int = 1,
        evidence: TicketEvidence | None = None,
    ) -> None:
        self._params = state.spec.params_at(header.height)
        task = lottery_task(state, header, self._params)
        pool = validator.pool(task.dataset_id)
        samples = pool.take(lottery.sample_indices(task.previous_hash, task.dataset_id, len(pool), self._params.n_eval))
        evaluator = validator.ticket_evaluator(task.previous_hash, task.dataset_id, self._params.n_eval)
        self._mutants = mutants_of(evaluator, samples, task.base, len(samples))
        self._base_correct = int(self._mutants.base_counts.sum(dtype=np.int64))
        self._labels = samples.labels
        self._shape = task.base.architecture
        self._threads = threads
        self._evidence = evidence

    @property
    def tickets_together(self) -> int:
        """Tickets of one :meth:`draw`; one where every ticket wins."""
        return 1 if self._params.is_lottery_open else TICKETS_TOGETHER * self._threads

    def draw(self, header: Header, first_nonce: int) -> Header | None:
        """Draw ``tickets_together`` nonces from ``first_nonce``; return the header with the first winner, or None."""
        starts = range(first_nonce, min(first_nonce + self.tickets_together, MAX_NONCE + 1), TICKETS_TOGETHER)
        if len(starts) == 1:
            return self._draw(header, range(first_nonce, first_nonce + min(self.tickets_together, TICKETS_TOGETHER)))
        with ThreadPoolExecutor(self._threads, "bnnchain-tickets") as executor:
            parts = [range(start, min(start + TICKETS_TOGETHER, MAX_NONCE + 1)) for start in starts]
            return next(filter(None, executor.map(lambda nonces: self._draw(header, nonces), parts)), None)

    def _draw(self, header: Header, nonces: range) -> Header | None:
        core = core_hash(header)
        seeds = [lottery.ticket_seed(core, nonce) for nonce in nonces]
        flips = [lottery.mutant_flips(self._shape, seed, self._params.ticket_flips) for seed in seeds]
        logits = self._mutants.logits(pack_mutants([(each, ()) for each in flips]))
        if self._evidence is not None and not self._evidence.is_complete:
            self._evidence.record(flips, count_right(logits, self._labels) - self._base_correct)
        for index, nonce in enumerate(nonces):
            y = lottery.lottery_value(seeds[index], logits[index])
            if self._params.is_lottery_open or lottery.is_winning(y, self._shape, header.target):
                return replace(header, nonce=nonce, y=y)
        return None


def draw_winning_ticket(
    state: ChainState, header: Header, validator: Validator, should_stop: Callable[[], bool]
) -> Header | None:
    """Return the header with the first winning nonce and its y, or None where ``should_stop`` came first.

    Where the lottery is open every ticket wins.
    """
    drawer = TicketDrawer(state, header, validator)
    for first in range(0, MAX_NONCE + 1, drawer.tickets_together):
        if should_stop():
            return None
        won = drawer.draw(header, first)
        if won is not None:
            return won
    return None


def count_right(logits: Int32Array, labels: UInt8Array) -> Int32Array:
    """Return ``int32[m]``: images that each mutant labels right, by its ``int32[m, images, classes]`` logits.

    Class by class, which takes a tenth of an argmax's time; a class below the label must be beaten, one above only met.
    """
    own = np.take_along_axis(logits, labels.astype(np.int64)[None, :, None], axis=2)[:, :, 0]
    is_right = np.ones(own.shape, np.bool_)
    for number in range(logits.shape[2]):
        is_right &= own - (labels > number) >= logits[:, :, number]
    counts: Int32Array = np.count_nonzero(is_right, axis=1).astype(np.int32)
    return counts
