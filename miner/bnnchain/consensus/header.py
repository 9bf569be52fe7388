"""What is derived from a header: its id, its core, its signature, the Merkle root of its transactions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnnchain.consensus import signatures
from bnnchain.consensus.codec import encode_core, encode_transaction, encode_unsigned
from bnnchain.consensus.types import (
    VERSION,
    BlockId,
    BlockKind,
    DatasetId,
    Header,
    Height,
    ModelHash,
    PublicKey,
    ShapeHash,
    Signature,
    Transaction,
)
from bnnchain.wire import ZERO_HASH, merkle_root, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def block_id(header: Header) -> BlockId:
    """Return the 32-byte id of a block; it excludes the signature, so no third party can change it."""
    return BlockId(tagged_hash("block", encode_unsigned(header)))


def idle_header(
    *,
    chain_id: int,
    height: Height,
    previous_hash: BlockId,
    timestamp: int,
    miner: PublicKey,
    tx_root: bytes,
    params_hash: bytes,
    target: int,
) -> Header:
    """Return the header of a block without a model, its ticket and signature still empty; others fill in the rest."""
    return Header(
        version=VERSION,
        chain_id=chain_id,
        height=height,
        previous_hash=previous_hash,
        timestamp=timestamp,
        miner=miner,
        tx_root=tx_root,
        params_hash=params_hash,
        kind=BlockKind.IDLE,
        dataset_id=DatasetId(ZERO_HASH),
        family_id=0,
        generation=0,
        model_count=0,
        previous_model_hash=BlockId(ZERO_HASH),
        shape_hash=ShapeHash(ZERO_HASH),
        model_hash=ModelHash(ZERO_HASH),
        correct_new=0,
        correct_parent=0,
        eval_total=0,
        target=target,
        nonce=0,
        y=ZERO_HASH,
        signature=Signature(bytes(signatures.SIGNATURE_BYTES)),
    )


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
