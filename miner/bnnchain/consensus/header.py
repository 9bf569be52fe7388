"""What is derived from a header: its id, its core, its signature, the Merkle root of its transactions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnnchain.consensus import signatures
from bnnchain.consensus.codec import encode_core, encode_transaction, encode_unsigned
from bnnchain.consensus.types import BlockId, Header, Transaction
from bnnchain.wire import merkle_root, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def block_id(header: Header) -> BlockId:
    """Return the 32-byte id of a block; it excludes the signature, so no third party can change it."""
    return BlockId(tagged_hash("block", encode_unsigned(header)))


def core_hash(header: Header) -> bytes:
    """Return the hash that a lottery ticket is bound to: parent, miner, transactions, model, time."""
    return tagged_hash("core", encode_core(header))


def transactions_root(transactions: Sequence[Transaction]) -> bytes:
    """Return the Merkle root over the transactions' whole bytes."""
    return merkle_root([encode_transaction(transaction) for transaction in transactions])


def sign_header(header: Header, key: Ed25519PrivateKey) -> Header:
    """Return the header with the miner's signature over its id."""
    return replace(header, signature=signatures.sign(key, block_id(header)))


def is_signed(header: Header) -> bool:
    """Answer whether the signature is the miner's."""
    return signatures.is_valid(header.miner, block_id(header), header.signature)
