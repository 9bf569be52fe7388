"""Who calls this node, by connection: what its calls leave behind for the next ones."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from bnnchain.consensus.errors import Invalid
from bnnchain.net import limits
from bnnchain.net.address import Address, parse_connection
from bnnchain.net.inventory import Inventory
from bnnchain.net.messages import NODE_ID_BYTES

SENT_IDS = 1_024
"""Transactions of a guest that are not told back to it."""


@dataclass(slots=True)
class Caller:
    """One connection, as far as this side keeps it in mind: hints, never trusted."""

    node_id: bytes = bytes(NODE_ID_BYTES)
    """As its Handshake said; all zero for observers."""
    sent: Inventory = field(default_factory=lambda: Inventory(SENT_IDS))
    """Transactions that came from it."""
    told_peers_s: float = float("-inf")
    range_count: int = 0
    watch_count: int = 0


class Callers:
    """The latest ``MAX_SESSIONS`` connections."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, Caller] = OrderedDict()

    def of(self, connection: str) -> Caller:
        """Return what is kept of a connection, which gRPC names so."""
        caller = self._callers.setdefault(connection, Caller())
        self._callers.move_to_end(connection)
        while len(self._callers) > limits.MAX_SESSIONS:
            self._callers.popitem(last=False)
        return caller


def address_of(connection: str) -> Address:
    """Return the address behind gRPC's name of a connection; of one that has none, an address like no other."""
    try:
        return parse_connection(connection)
    except Invalid:
        return Address(connection, 0)


def conduct_key(connection: str) -> str:
    """Return whom to blame for what came by a connection."""
    return address_of(connection).conduct_key
