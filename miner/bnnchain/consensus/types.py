"""The things consensus speaks of: headers, blocks, transactions, accounts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NewType, TypeAlias

if TYPE_CHECKING:
    from bnnchain.datasets.manifest import Manifest

BlockId = NewType("BlockId", bytes)
ModelHash = NewType("ModelHash", bytes)
ShapeHash = NewType("ShapeHash", bytes)
DatasetId = NewType("DatasetId", bytes)
TransactionId = NewType("TransactionId", bytes)
PublicKey = NewType("PublicKey", bytes)
Signature = NewType("Signature", bytes)
Height = NewType("Height", int)
Amount = NewType("Amount", int)

VERSION = 1
MAX_TARGET = (1 << 256) - 1


class BlockKind(IntEnum):
    """What a block brings (paper section 4.3)."""

    FOUND = 1
    """A founding model of a family, trained by any means."""
    EVOLVE = 2
    """The next generation of a family, as a difference to its best model."""
    IDLE = 3
    """No model; carries transactions where nothing can be learned just now."""


class TransactionKind(IntEnum):
    """What a transaction orders."""

    TRANSFER = 1
    UPLOAD = 2
    BOUNTY = 3
    EQUIVOCATION = 4


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header; encoded in this order (PROTOCOL.md, section "Header").

    Fields that a kind does not use are zero.  ``correct_*`` and ``eval_total`` are claims that every node recounts.
    """

    version: int
    chain_id: int
    height: Height
    previous_hash: BlockId
    timestamp: int
    """Seconds since 1970 (UTC)."""
    miner: PublicKey
    body_root: bytes
    """Merkle root of the body's items, signatures included; so is the body bound to the id."""
    params_hash: bytes
    kind: BlockKind
    dataset_id: DatasetId
    family_id: int
    generation: int
    """0 for founding models; an EVOLVE block's is the family's plus one."""
    model_count: int
    """Models of the family on this chain, this one included (paper section 4.4)."""
    previous_model_hash: BlockId
    """The block that holds the family's previous model (paper section 4), zero for a family's first."""
    shape_hash: ShapeHash
    model_hash: ModelHash
    correct_new: int
    """Samples of the pool that the carried model labels right."""
    correct_parent: int
    """The same for the parent of an EVOLVE child, 0 for others."""
    eval_total: int
    """Size of the pool."""
    target: int
    nonce: int
    y: bytes
    """The lottery value."""
    signature: Signature


@dataclass(frozen=True, slots=True)
class Transfer:
    """Moves ``amount`` units from the sender to ``recipient``."""

    recipient: PublicKey
    amount: Amount


@dataclass(frozen=True, slots=True)
class Upload:
    """Proposes a data set (paper section 4.3); its pool travels between nodes, not in the block."""

    manifest: Manifest
    min_family_acc_bp: int
    """The least accuracy of a founding model, in place of the chain's."""
    bounty: Amount
    """Paid to those who better the data set's models."""


@dataclass(frozen=True, slots=True)
class Bounty:
    """Adds ``amount`` to what a data set pays for better models."""

    dataset_id: DatasetId
    amount: Amount


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two headers of one miner on one parent: what no honest miner signs."""

    first: Header
    second: Header


TransactionBody: TypeAlias = "Transfer | Upload | Bounty | Equivocation"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed order of an account; ``nonce`` counts the account's transactions from 0."""

    version: int
    chain_id: int
    sender: PublicKey
    nonce: int
    fee: Amount
    expiry_height: Height
    """The last height at which a block may include it."""
    body: TransactionBody
    signature: Signature


@dataclass(frozen=True, slots=True)
class AvailabilityProof:
    """Shows that a block's miner holds a data set: the piece of its pool that this miner and parent draw.

    leaf: up to 1 KiB of the pool's payload; path: its 32-byte siblings up to the manifest's pool root.
    """

    dataset_id: DatasetId
    leaf: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A header with its body: model bytes (wire form, difference, or none), proofs, a stale header, transactions."""

    header: Header
    model: bytes
    transactions: tuple[Transaction, ...]
    proofs: tuple[AvailabilityProof, ...] = ()
    """At most one a data set, ascending by its id."""
    stale: Header | None = None
    """The header of a block that lost its race, with its lottery won all the same."""


@dataclass(frozen=True, slots=True)
class Account:
    """Money, in units, and how many transactions its owner has made."""

    balance: Amount
    nonce: int
    """The nonce its next transaction must have."""
