"""Judging a stored chain anew, from genesis, kernel included: what `bnnchain verify` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.chain.validator import Validator
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.dataset import dataset_from_payloads

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

    Raises :class:`BadBlock` at the first bad block, :class:`Unavailable` where the data set is not here.
    """
    spec = store.spec
    validator = Validator(evaluator_factory)
    dataset_id = DatasetId(spec.dataset.dataset_id)
    payload = store.dataset(dataset_id)
    if payload is None:
        raise Unavailable(f"data set {spec.dataset.name} is not here; run the node once to fetch it")
    validator.add_dataset(dataset_id, dataset_from_payloads(spec.dataset, payload).pool)
    state = genesis_state(spec)
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
            on_block(state)
    return state
