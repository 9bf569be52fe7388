"""Checked states on disk: where a start, or an old fork point, begins to replay instead of at genesis."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bnnchain.chain.state_codec import decode_state, encode_state
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.types import Height

if TYPE_CHECKING:
    from bnnchain.chain.store import Store
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import BlockId

log = logging.getLogger(__name__)

KEPT_STATE_BLOCKS = 128
"""A state is kept at every such height: at most so many blocks are replayed at a start."""
DENSE_STATES = 8
"""So many of the last ones all stay; of older ones half as many for each time as far back."""
SPARE_STATES = 2
"""States that a pruned store keeps below its first whole block: one may be damaged."""


class KeptStates:
    """Keeps states of a store's blocks, the older, the fewer; used under the chain's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, block_id: BlockId) -> ChainState | None:
        """Return the state kept after a block, or None: where none is, or the disk or a new program has spoiled it."""
        data = self._store.state(block_id)
        if data is None:
            return None
        try:
            state = decode_state(self._store.spec, data)
        except Invalid as error:
            log.warning("the state kept after block %s is of no use, replaying: %s", block_id.hex()[:16], error)
            return None
        return state if state.head == block_id else None

    def keep(self, state: ChainState) -> None:
        """Keep a state whose height asks for it, on disk before this returns, and forget some older ones."""
        if not state.height or state.height % KEPT_STATE_BLOCKS:
            return
        number = state.height // KEPT_STATE_BLOCKS
        drop = [height for height in self._store.state_heights() if not _stays(height // KEPT_STATE_BLOCKS, number)]
        self._store.put_state(state.head, state.height, encode_state(state), drop)

    def prunable_height(self, wanted: int) -> Height:
        """Return the height at most ``wanted`` up to which no start needs a block's body any more."""
        below = [height for height in self._store.state_heights() if height <= wanted]
        return Height(below[-SPARE_STATES]) if len(below) >= SPARE_STATES else Height(0)


def _stays(number: int, newest: int) -> bool:
    return newest - number < DENSE_STATES * (number & -number)
