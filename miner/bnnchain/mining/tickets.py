"""Drawing tickets: mutants of the lottery's base, evaluated by the kernel until one wins (PROTOCOL.md, "Lottery")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    from bnnchain.consensus.lottery import LotteryTask
    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header
    from bnnchain.mining.evidence import TicketEvidence
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Int32Array, Model, UInt8Array

MAX_NONCE = (1 << 64) - 1
TICKETS_TOGETHER = 64
"""Tickets that a thread evaluates in one call; between calls drawing may be stopped."""
ALWAYS_WINNING = 1 << 512
"""The target of an open lottery: above any y, whatever a ticket costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A range of tickets: the first winner's nonce and y, or None, and what each ticket up to it says of the base.

    flips: the flat positions that each ticket flipped.  gains: ``int32[tickets]``, right labels above the base's.
    """

    won: tuple[int, bytes] | None
    flips: list[list[int]]
    gains: Int32Array


class TicketBase:
    """The base of one height's tickets with its activations on their samples; thread-safe."""

    def __init__(self, base: Model, samples: Samples, evaluator: Evaluator, ticket_flips: int) -> None:
        """samples: those that tickets are evaluated on; evaluator: built from them."""
        self._mutants = mutants_of(evaluator, samples, base, len(samples))
        self._base_correct = int(self._mutants.base_counts.sum(dtype=np.int64))
        self._labels = samples.labels
        self._shape = base.architecture
        self._ticket_flips = ticket_flips

    def draw(self, core: bytes, nonces: range, target: int, *, wants_gains: bool) -> Drawn:
        """Draw the tickets of a header core; without ``wants_gains`` there are no flips and no gains in the answer."""
        seeds = [lottery.ticket_seed(core, nonce) for nonce in nonces]
        flips = [lottery.mutant_flips(self._shape, seed, self._ticket_flips) for seed in seeds]
        logits = self._mutants.logits(pack_mutants([(each, ()) for each in flips]))
        gains = np.zeros(0, np.int32)
        if wants_gains:
            gains = count_right(logits, self._labels) - np.int32(self._base_correct)
        won = None
        for index, nonce in enumerate(nonces):
            y = lottery.lottery_value(seeds[index], logits[index])
            if lottery.is_winning(y, self._shape, target):
                won = nonce, y
                break
        return Drawn(won, flips if wants_gains else [], gains)


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
        samples = ticket_samples(validator.pool(task.dataset_id), task, self._params)
        evaluator = validator.ticket_evaluator(task.previous_hash, task.dataset_id, self._params.n_eval)
        self._base = TicketBase(task.base, samples, evaluator, self._params.ticket_flips)
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
        target = ALWAYS_WINNING if self._params.is_lottery_open else header.target
        wants_gains = self._evidence is not None and not self._evidence.is_complete
        drawn = self._base.draw(core_hash(header), nonces, target, wants_gains=wants_gains)
        if self._evidence is not None and wants_gains:
            self._evidence.record(drawn.flips, drawn.gains)
        return with_ticket(header, drawn)


def ticket_samples(pool: Samples, task: LotteryTask, params: Params) -> Samples:
    """Return the samples that a header's tickets are evaluated on."""
    return pool.take(lottery.sample_indices(task.previous_hash, task.dataset_id, len(pool), params.n_eval))


def with_ticket(header: Header, drawn: Drawn) -> Header | None:
    """Return the header with its winning ticket, or None where none won."""
    return None if drawn.won is None else replace(header, nonce=drawn.won[0], y=drawn.won[1])


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
