"""What a peer has, as far as we know: it is not told of that again."""

from __future__ import annotations

from collections import OrderedDict

MAX_INVENTORY = 8_192


class Inventory:
    """The blocks and transactions that a peer has; the oldest are forgotten first."""

    def __init__(self, limit: int = MAX_INVENTORY) -> None:
        self._limit = limit
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, identity: bytes) -> None:
        """Remember that the peer has it."""
        self._ids[identity] = None
        self._ids.move_to_end(identity)
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)
