"""Drawing tickets: mutants of the lottery's base, evaluated by the kernel until one wins (PROTOCOL.md, "Lottery")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnnchain.consensus import lottery
from bnnchain.consensus.transition import lottery_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header

MAX_NONCE = (1 << 64) - 1


def draw_winning_ticket(
    state: ChainState, header: Header, validator: Validator, should_stop: Callable[[], bool]
) -> Header | None:
    """Return the header with the first winning nonce and its y, or None where ``should_stop`` came first.

    Where the lottery is open every ticket wins.
    """
    params = state.spec.params_at(header.height)
    for nonce in range(MAX_NONCE + 1):
        if should_stop():
            return None
        header = replace(header, nonce=nonce)
        task = lottery_task(state, header, params)
        evaluator = validator.ticket_evaluator(task.previous_hash, task.dataset_id, params.n_eval)
        size = min(params.n_eval, len(validator.pool(task.dataset_id)))
        y = lottery.lottery_value(task.seed, evaluator.logits(task.child, 0, size))
        if params.is_lottery_open or lottery.is_winning(y, task.base.architecture, header.target):
            return replace(header, y=y)
    return None
