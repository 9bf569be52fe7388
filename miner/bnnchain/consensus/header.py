"""What is derived from a header: its id, its core, its signature; and the Merkle root of a body."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnnchain.consensus import signatures
from bnnchain.consensus.codec import encode_core, encode_header, encode_proof, encode_transaction, encode_unsigned
from bnnchain.consensus.types import (
    VERSION,
    AvailabilityProof,
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

_PROOF, _STALE, _TRANSACTION = b"\x00", b"\x01", b"\x02"


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
    body_root: bytes,
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
        body_root=body_root,
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


def body_root(
    transactions: Sequence[Transaction], proofs: Sequence[AvailabilityProof] = (), stale: Header | None = None
) -> bytes:
    """Return the Merkle root over the body's items, each behind its tag byte: proofs, stale header, transactions.

    Whole bytes, signatures included: nothing of a body can be changed, added or taken away under its block's id.
    """
    items = [_PROOF + encode_proof(proof) for proof in proofs]
    if stale is not None:
        items.append(_STALE + encode_header(stale))
    return merkle_root([*items, *(_TRANSACTION + encode_transaction(each) for each in transactions)])


def sign_header(header: Header, key: Ed25519PrivateKey) -> Header:
    """Return the header with the miner's signature over its id."""
    return replace(header, signature=signatures.sign(key, block_id(header)))


def is_signed(header: Header) -> bool:
    """Answer whether the signature is the miner's."""
    return signatures.is_valid(header.miner, block_id(header), header.signature)
