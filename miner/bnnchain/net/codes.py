"""The reject codes of the network; those of blocks and transactions are in :mod:`bnnchain.consensus.errors`."""

from __future__ import annotations

CODES: dict[str, str] = {
    "bad-message": "a field of a gRPC message breaks its bounds",
    "bad-range": "a range of blocks or chunks is not what was asked for",
    "other-version": "the peer speaks another version of the protocol",
    "other-chain": "the peer keeps a chain with another id",
    "other-genesis": "the peer keeps a chain with another genesis",
    # what this node's user asked for
    "bad-address": "an address is not host:port",
    "insecure-address": "plain TCP would leave this machine without permission",
    "bad-seeds": "a seed list is not one host:port a line",
    "too-many-peers": "more peers to dial than a node keeps",
}
