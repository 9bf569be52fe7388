"""Transactions that cannot be made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builders import (
    BOB,
    CAROL,
    COINS,
    Builder,
    transfer,
)

from bnnchain.consensus.codec import HEADER_BYTES, encode_block, encode_transaction
from bnnchain.consensus.params import MAX_MONEY
from refusals import refused

if TYPE_CHECKING:
    from bnnchain.consensus.types import Transaction


def transactions(code: str, name: str, *made: Transaction, blocks: int = 0, **params: int) -> None:
    def make(builder: Builder) -> bytes:
        return encode_block(builder.idle(transactions=made))

    make.__name__ = name
    refused(code, blocks=blocks, **params)(make)


transactions("bad-tx-count", "one_too_many", transfer(nonce=0), transfer(nonce=1), max_block_transactions=1)
transactions(
    "bad-tx-count", "one_byte_too_many", transfer(), max_transactions_bytes=len(encode_transaction(transfer())) - 1
)
transactions("bad-tx-version", "version_2", replace(transfer(), version=2))
transactions("bad-chain-id", "of_another_chain", transfer(chain_id=8))
transactions("bad-tx-amount", "nothing_sent", transfer(amount=0))
transactions("bad-tx-amount", "more_than_all_money", transfer(amount=MAX_MONEY + 1))
transactions("bad-tx-amount", "fee_of_more_than_all_money", transfer(fee=MAX_MONEY + 1))
transactions("bad-tx-signature", "amount_changed", replace(transfer(), body=replace(transfer().body, amount=101)))
transactions("bad-tx-signature", "sender_changed", replace(transfer(), sender=transfer(BOB).sender))
transactions("bad-tx-signature", "signature_of_another", replace(transfer(), signature=transfer(nonce=1).signature))
transactions("bad-tx-nonce", "double_spend_in_one_block", transfer(), transfer(recipient=BOB))
transactions("bad-tx-nonce", "same_transaction_twice", transfer(), transfer())
transactions("bad-tx-nonce", "gap", transfer(nonce=1))
transactions("bad-tx-balance", "one_unit_too_much", transfer(amount=COINS, fee=1))
transactions("bad-tx-balance", "empty_account", transfer(CAROL))
transactions(
    "bad-tx-balance", "spent_by_the_one_before", transfer(amount=COINS - 1, fee=1), transfer(nonce=1, amount=1, fee=0)
)
transactions("bad-tx-expired", "expired", transfer(expiry_height=2), blocks=2)


@refused("bad-tx-kind")
def unknown_transaction_kind(builder: Builder) -> bytes:
    raw = bytearray(encode_block(builder.idle(transactions=[transfer()])))
    # After the sizes of model, proofs and stale header (3 bytes), the count (1), the item's size (2), its version (1).
    raw[HEADER_BYTES + 7] = 5
    return bytes(raw)


@refused("bad-tx-nonce")
def double_spend_over_two_blocks(builder: Builder) -> bytes:
    builder.extend(transactions=[transfer()])
    return encode_block(builder.idle(transactions=[transfer(recipient=BOB)]))


@refused("bad-body-root")
def transactions_in_another_order(builder: Builder) -> bytes:
    block = builder.idle(transactions=[transfer(nonce=0), transfer(nonce=1)])
    return encode_block(replace(block, transactions=block.transactions[::-1]))


@refused("bad-body-root")
def transaction_taken_out(builder: Builder) -> bytes:
    return encode_block(replace(builder.idle(transactions=[transfer()]), transactions=()))
