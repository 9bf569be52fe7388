"""Blocks that a node's operator has pinned: a chain without them is not followed, whatever it weighs.

The operator's choice and no rule: a block that contradicts it is refused here and may be valid everywhere else
(PROTOCOL.md, section "Difficulty, weight, forks").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnchain.chain.store import Store
    from bnnchain.consensus.types import BlockId

MAX_CHECKPOINTS = 1_024


class Checkpoints:
    """Ids by height, held against the active chain of a store; used under the chain's lock."""

    def __init__(self, ids: Mapping[int, BlockId], store: Store) -> None:
        """Raises :class:`Fault` where the store's active chain contradicts one, or there are too many."""
        if len(ids) > MAX_CHECKPOINTS:
            raise Fault(f"{len(ids)} checkpoints are more than the {MAX_CHECKPOINTS} that a node keeps")
        self._ids = dict(sorted(ids.items()))
        self._store = store
        self._reached = 0
        for height, wanted in self._ids.items():
            stored = store.active_id(height)
            if stored is not None and stored != wanted:
                raise Fault(
                    f"the chain of this home contradicts the checkpoint at height {height}: it has {stored.hex()}"
                    f" there, not {wanted.hex()}; take the checkpoint away or start with a new home"
                )

    def refuse(self, block_id: BlockId, height: int) -> bool:
        """Answer whether a new block of that height cannot be on a chain with all the pinned blocks."""
        return self._ids.get(height, block_id) != block_id or height <= self._reached_height()

    def refuse_branch(self, branch: Sequence[BlockId], last_height: int) -> bool:
        """Answer the same of a branch, the ids from the first block that is not active up to ``last_height``.

        Its lower blocks may be older than a checkpoint, and stored beside the active chain.
        """
        first = last_height - len(branch) + 1
        is_other = any(self._ids.get(height, identity) != identity for height, identity in enumerate(branch, first))
        return is_other or first <= self._reached_height()

    def _reached_height(self) -> int:
        """Return the height of the highest checkpoint that the active chain has come to, 0 for none; it never falls."""
        for height in self._ids:
            if height > self._reached:
                if self._store.active_id(height) is None:
                    break
                self._reached = height
        return self._reached
