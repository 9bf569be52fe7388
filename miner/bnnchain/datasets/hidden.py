"""The commitment to held-out samples: a salted Merkle root that a manifest carries and an owner may reveal later.

PROTOCOL.md, section "Data sets".  Labels are few and images may be guessed, so every leaf is hashed behind a salt of
its own: revealing one leaf tells nothing about its neighbours.  Never a validity rule of blocks.
"""

from __future__ import annotations

from bnnchain.datasets.chunks import split_leaves
from bnnchain.wire import merkle_root, tagged_hash

PUBLIC_SECRET = b""
"""The secret of held-out samples that everybody has anyway (MNIST's test images): anyone can check their root."""
LEAF_INDEX_BYTES = 4


def hidden_salt(secret: bytes, pool_root: bytes) -> bytes:
    """Return the 32-byte salt of one data set's hidden split.

    secret: at least 32 random bytes of the owner, one secret for all data sets, or ``PUBLIC_SECRET``.
    """
    return tagged_hash("hidden-salt", pool_root, secret)


def hidden_root(payload: bytes, salt: bytes) -> bytes:
    """Return the root over the payload's 1 KiB leaves, leaf i behind H("hidden-leaf", salt, u32 i); zero if empty."""
    salted = [
        tagged_hash("hidden-leaf", salt, index.to_bytes(LEAF_INDEX_BYTES, "little")) + leaf
        for index, leaf in enumerate(split_leaves(payload))
    ]
    return merkle_root(salted)
