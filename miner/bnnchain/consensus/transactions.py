"""Transactions: signed, ordered per account, paid for; what each kind costs and when it is wrong whatever the state is.

What they do to accounts and data sets is :mod:`bnnchain.consensus.booking`'s (paper section 4.5; PROTOCOL.md, "Money").
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from bnnchain.consensus import signatures
from bnnchain.consensus.codec import encode_unsigned_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import block_id, is_signed
from bnnchain.consensus.params import BP, MAX_MONEY, Params
from bnnchain.consensus.types import (
    VERSION,
    Account,
    Amount,
    Bounty,
    DatasetId,
    Equivocation,
    Height,
    PublicKey,
    Signature,
    Transaction,
    TransactionId,
    Transfer,
    Upload,
)
from bnnchain.wire import tagged_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.consensus.types import TransactionBody

SIGNATURE_CACHE = 8_192
"""Verified (sender, id, signature) triples kept, so that a transaction seen in the mempool is not verified twice."""
_KIB = 1_024


def transaction_id(transaction: Transaction) -> TransactionId:
    """Return the 32-byte id; it excludes the signature, so it cannot be changed by a third party."""
    return TransactionId(tagged_hash("tx", encode_unsigned_transaction(transaction)))


def sign_transaction(
    key: Ed25519PrivateKey, body: TransactionBody, *, chain_id: int, nonce: int, fee: Amount, expiry_height: Height
) -> Transaction:
    """Return the order ``body`` signed as number ``nonce`` of ``key``'s account."""
    sender = signatures.public_key(key)
    unsigned = Transaction(VERSION, chain_id, sender, nonce, fee, expiry_height, body, Signature(b""))
    return replace(unsigned, signature=signatures.sign(key, transaction_id(unsigned)))


def sign_transfer(
    key: Ed25519PrivateKey,
    *,
    chain_id: int,
    nonce: int,
    recipient: PublicKey,
    amount: Amount,
    fee: Amount,
    expiry_height: Height,
) -> Transaction:
    """Return a signed transfer of ``amount`` units from ``key``'s account."""
    body = Transfer(recipient, amount)
    return sign_transaction(key, body, chain_id=chain_id, nonce=nonce, fee=fee, expiry_height=expiry_height)


def validate_stateless(transaction: Transaction, chain_id: int) -> None:
    """Raise :class:`Invalid` where the transaction is wrong whatever the state is."""
    if transaction.version != VERSION:
        raise Invalid("bad-tx-version", version=transaction.version)
    if transaction.chain_id != chain_id:
        raise Invalid("bad-chain-id", chain_id=transaction.chain_id, wanted=chain_id)
    if not 0 <= transaction.fee <= MAX_MONEY:
        raise Invalid("bad-tx-amount", fee=transaction.fee)
    body = transaction.body
    if isinstance(body, Transfer | Bounty) and not 0 < body.amount <= MAX_MONEY:
        raise Invalid("bad-tx-amount", amount=body.amount)
    if isinstance(body, Upload) and not 0 <= body.bounty <= MAX_MONEY:
        raise Invalid("bad-tx-amount", bounty=body.bounty)
    if isinstance(body, Upload) and not 0 <= body.min_family_acc_bp <= BP:
        raise Invalid("bad-upload", min_family_acc_bp=body.min_family_acc_bp)
    if isinstance(body, Equivocation):
        _validate_evidence(body, chain_id)
    if not _is_signed(transaction.sender, transaction_id(transaction), transaction.signature):
        raise Invalid("bad-tx-signature", sender=transaction.sender.hex())


def validate_spendable(transaction: Transaction, account: Account, height: Height, params: Params) -> None:
    """Raise :class:`Invalid` where ``account`` cannot make this transaction in a block of ``height``."""
    if transaction.expiry_height < height:
        raise Invalid("bad-tx-expired", expiry=transaction.expiry_height, height=height)
    if transaction.nonce != account.nonce:
        raise Invalid("bad-tx-nonce", nonce=transaction.nonce, wanted=account.nonce)
    if cost(transaction, params) > account.balance:
        raise Invalid("bad-tx-balance", cost=cost(transaction, params), balance=account.balance)


def cost(transaction: Transaction, params: Params) -> Amount:
    """Return all that the transaction takes from its sender, the fee included."""
    body, total = transaction.body, int(transaction.fee)
    if isinstance(body, Transfer | Bounty):
        total += body.amount
    elif isinstance(body, Upload):
        total += body.bounty + params.upload_deposit + upload_fee(body, params)
    return Amount(total)


def upload_fee(upload: Upload, params: Params) -> Amount:
    """Return what an upload burns, by the size of its pool's payload."""
    return Amount(-(-upload.manifest.pool_bytes // _KIB) * params.upload_fee_per_kib)


def upload_id(upload: Upload) -> DatasetId:
    """Return the id under which blocks name the data set."""
    return DatasetId(upload.manifest.dataset_id)


def _validate_evidence(evidence: Equivocation, chain_id: int) -> None:
    first, second = evidence.first, evidence.second
    same = (first.miner, first.previous_hash) == (second.miner, second.previous_hash)
    is_ours = first.chain_id == second.chain_id == chain_id
    # Ordered, so that a pair has one spelling.
    if not (same and is_ours and block_id(first) < block_id(second)):
        raise Invalid("bad-evidence", reason="not two blocks of one miner on one parent, in order of their ids")
    if not (is_signed(first) and is_signed(second)):
        raise Invalid("bad-evidence", reason="a header is not signed by its miner")


@lru_cache(maxsize=SIGNATURE_CACHE)
def _is_signed(sender: PublicKey, message: TransactionId, signature: Signature) -> bool:
    return signatures.is_valid(sender, message, signature)
