"""Drawing tickets: mutants of the lottery's base, evaluated by the kernel until one wins (PROTOCOL.md, "Lottery")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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

MAX_NONCE = (1 << 64) - 1
TICKETS_TOGETHER = 64
"""Tickets evaluated in one call; between calls drawing may be stopped."""


def draw_winning_ticket(
    state: ChainState, header: Header, validator: Validator, should_stop: Callable[[], bool]
) -> Header | None:
    """Return the header with the first winning nonce and its y, or None where ``should_stop`` came first.

    Where the lottery is open every ticket wins.
    """
    params = state.spec.params_at(header.height)
    task = lottery_task(state, header, params)
    pool = validator.pool(task.dataset_id)
    samples = pool.take(lottery.sample_indices(task.previous_hash, task.dataset_id, len(pool), params.n_eval))
    evaluator = validator.ticket_evaluator(task.previous_hash, task.dataset_id, params.n_eval)
    mutants = mutants_of(evaluator, samples, task.base, len(samples))
    shape, core = task.base.architecture, core_hash(header)
    together = 1 if params.is_lottery_open else TICKETS_TOGETHER
    for first in range(0, MAX_NONCE + 1, together):
        if should_stop():
            return None
        seeds = [lottery.ticket_seed(core, nonce) for nonce in range(first, first + together)]
        flips = [lottery.mutant_flips(shape, seed, params.ticket_flips) for seed in seeds]
        logits = mutants.logits(pack_mutants([(each, ()) for each in flips]))
        for index, seed in enumerate(seeds):
            y = lottery.lottery_value(seed, logits[index])
            if params.is_lottery_open or lottery.is_winning(y, shape, header.target):
                return replace(header, nonce=first + index, y=y)
    return None
