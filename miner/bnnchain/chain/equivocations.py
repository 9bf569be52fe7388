"""Watching for miners who sign two blocks on one parent, which the chain punishes (PROTOCOL.md, "Penalty")."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import decode_header
from bnnchain.consensus.header import block_id, is_signed
from bnnchain.consensus.types import BlockId, Equivocation, PublicKey

if TYPE_CHECKING:
    from bnnchain.chain.store import Store
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header

MAX_PAIRS = 64
"""Pairs kept, the newest: as many miners punished at a time are enough."""


class EquivocationWatch:
    """Keeps pairs of headers that prove it.  Thread-safe."""

    def __init__(self, store: Store, state: ChainState) -> None:
        """Start with the pairs that the store holds from the time whose rewards still wait at ``state``."""
        self._store = store
        self._lock = threading.Lock()
        self._pairs: OrderedDict[tuple[BlockId, PublicKey], Equivocation] = OrderedDict()
        waiting_blocks = state.spec.params_at(state.height).coinbase_maturity_blocks
        for previous, miner in reversed(store.doubly_signed(state.height - waiting_blocks, MAX_PAIRS)):
            first, second = (decode_header(raw) for raw in store.siblings(previous, miner, 2))
            self._keep(first, second)

    def see(self, header: Header) -> None:
        """Look at a header before its block is judged: a signature is enough, the block need not be valid."""
        identity = block_id(header)
        if (header.previous_hash, header.miner) in self._pairs:
            return
        # One stored block of this miner on this parent is enough to compare with, and there may be many.
        for raw in self._store.siblings(header.previous_hash, header.miner, 1):
            other = decode_header(raw)
            if block_id(other) != identity and is_signed(header):
                self._keep(other, header)

    def provable(self, state: ChainState) -> list[Equivocation]:
        """Return the pairs of which one block's reward still waits on the chain of ``state``, oldest first."""
        waiting = {coinbase.block_id for coinbase in state.coinbases}
        with self._lock:
            pairs = list(self._pairs.values())
        return [pair for pair in pairs if waiting & {block_id(pair.first), block_id(pair.second)}]

    def _keep(self, one: Header, other: Header) -> None:
        first, second = sorted((one, other), key=block_id)
        with self._lock:
            self._pairs[one.previous_hash, one.miner] = Equivocation(first, second)
            while len(self._pairs) > MAX_PAIRS:
                self._pairs.popitem(last=False)
