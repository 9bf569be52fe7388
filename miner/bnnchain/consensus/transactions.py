"""Transfers: signed, ordered per account, paid for; and the money that a block makes (paper section 4.5)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from bnnchain.consensus import signatures
from bnnchain.consensus.codec import encode_unsigned_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.params import MAX_MONEY
from bnnchain.consensus.types import (
    VERSION,
    Account,
    Amount,
    Height,
    PublicKey,
    Signature,
    Transaction,
    TransactionId,
    TransactionKind,
    Transfer,
)
from bnnchain.wire import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.consensus.ledger import Ledger
    from bnnchain.consensus.state import Coinbase

SIGNATURE_CACHE = 8_192
"""Verified (sender, id, signature) triples kept, so that a transaction seen in the mempool is not verified twice."""


def transaction_id(transaction: Transaction) -> TransactionId:
    """Return the 32-byte id; it excludes the signature, so it cannot be changed by a third party."""
    return TransactionId(tagged_hash("tx", encode_unsigned_transaction(transaction)))


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
    unsigned = Transaction(
        VERSION,
        TransactionKind.TRANSFER,
        chain_id,
        signatures.public_key(key),
        nonce,
        fee,
        expiry_height,
        Transfer(recipient, amount),
        Signature(b""),
    )
    return replace(unsigned, signature=signatures.sign(key, transaction_id(unsigned)))


def validate_stateless(transaction: Transaction, chain_id: int) -> None:
    """Raise :class:`Invalid` where the transaction is wrong whatever the state is."""
    if transaction.version != VERSION:
        raise Invalid("bad-tx-version", version=transaction.version)
    if transaction.chain_id != chain_id:
        raise Invalid("bad-chain-id", chain_id=transaction.chain_id, wanted=chain_id)
    if not 0 < transaction.body.amount <= MAX_MONEY or not 0 <= transaction.fee <= MAX_MONEY:
        raise Invalid("bad-tx-amount", amount=transaction.body.amount, fee=transaction.fee)
    if not _is_signed(transaction.sender, transaction_id(transaction), transaction.signature):
        raise Invalid("bad-tx-signature", sender=transaction.sender.hex())


def validate_spendable(transaction: Transaction, account: Account, height: Height) -> None:
    """Raise :class:`Invalid` where ``account`` cannot make this transaction in a block of ``height``."""
    if transaction.expiry_height < height:
        raise Invalid("bad-tx-expired", expiry=transaction.expiry_height, height=height)
    if transaction.nonce != account.nonce:
        raise Invalid("bad-tx-nonce", nonce=transaction.nonce, wanted=account.nonce)
    cost = transaction.body.amount + transaction.fee
    if cost > account.balance:
        raise Invalid("bad-tx-balance", cost=cost, balance=account.balance)


def apply_transactions(
    ledger: Ledger, transactions: Sequence[Transaction], chain_id: int, height: Height
) -> tuple[Ledger, Amount]:
    """Return the ledger after the transactions, in order, and the sum of their fees; raises as they are checked."""
    changes: dict[PublicKey, Account] = {}
    fees = 0
    for transaction in transactions:
        validate_stateless(transaction, chain_id)
        sender = changes.get(transaction.sender) or ledger.account(transaction.sender)
        validate_spendable(transaction, sender, height)
        cost = transaction.body.amount + transaction.fee
        changes[transaction.sender] = Account(Amount(sender.balance - cost), sender.nonce + 1)
        recipient = changes.get(transaction.body.recipient) or ledger.account(transaction.body.recipient)
        balance = Amount(recipient.balance + transaction.body.amount)
        changes[transaction.body.recipient] = replace(recipient, balance=balance)
        fees += transaction.fee
    return ledger.updated(changes), Amount(fees)


def pay_mature(ledger: Ledger, coinbases: Iterable[Coinbase], height: Height) -> tuple[Ledger, tuple[Coinbase, ...]]:
    """Return the ledger with the rewards paid that mature at ``height``, and those still waiting."""
    changes: dict[PublicKey, Account] = {}
    waiting = []
    for coinbase in coinbases:
        if coinbase.mature_height > height:
            waiting.append(coinbase)
            continue
        account = changes.get(coinbase.miner) or ledger.account(coinbase.miner)
        changes[coinbase.miner] = replace(account, balance=Amount(account.balance + coinbase.amount))
    return ledger.updated(changes), tuple(waiting)


@lru_cache(maxsize=SIGNATURE_CACHE)
def _is_signed(sender: PublicKey, message: TransactionId, signature: Signature) -> bool:
    return signatures.is_valid(sender, message, signature)
