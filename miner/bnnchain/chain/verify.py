"""Judging a stored chain anew, from genesis, kernel included: what `bnnchain verify` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.chain.pools import Pools
from bnnchain.chain.validator import Validator
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.state import ChainState, genesis_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.chain.store import Store
    from bnnchain_kernels.evaluator import EvaluatorFactory

BATCH_BLOCKS = 64


class BadBlock(Invalid):
    """The first block of a stored chain that breaks a rule; ``code`` is the rule's."""

    def __init__(self, height: int, cause: Invalid) -> None:
        self.height = height
        super().__init__(cause.code, **cause.values)

    def __str__(self) -> str:
        return f"block {self.height}: {super().__str__()}"


def verify_chain(
    store: Store, evaluator_factory: EvaluatorFactory, now: int, on_block: Callable[[ChainState], None]
) -> ChainState:
    """Return the state after the store's active chain, every rule judged and every model counted again.

    Raises :class:`BadBlock` at the first bad block, :class:`Unavailable` where a data set that a block needs is not
    here, :class:`Fault` where a stored one is damaged.
    """
    validator = Validator(evaluator_factory)
    state = genesis_state(store.spec)
    pools = Pools(store, validator)
    if pools.missing(state):
        raise Unavailable(f"data set {store.spec.dataset.name} is not here; run the node once to fetch it")
    while blocks := store.active_blocks(state.height + 1, BATCH_BLOCKS):
        for block_id, raw in blocks:
            height = state.height + 1
            try:
                judged = validator.judge(state, raw, now)
            except Invalid as error:
                raise BadBlock(height, error) from error
            if judged.block_id != block_id:
                raise BadBlock(height, Invalid("bad-store-link", stored=block_id.hex()))
            state = judged.state
            # A data set becomes known before any block needs its pool.
            pools.missing(state)
            on_block(state)
    return state
