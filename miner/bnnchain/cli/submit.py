"""Signing an order with the home's key and handing it to a running node; options of the commands that do it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from bnnchain.cli.options import open_node
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transaction
from bnnchain.consensus.types import Amount, Height, TransactionId

if TYPE_CHECKING:
    from bnnchain.cli.unlock import Unlocking
    from bnnchain.consensus.types import TransactionBody
    from bnnchain.home import Home

EXPIRY_BLOCKS = 100
"""A transaction that no block includes is void after this many blocks."""
DEFAULT_FEE = 1_000

fee_option = click.option(
    "--fee", type=click.IntRange(min=0), default=DEFAULT_FEE, show_default=True, help="Units for the miner."
)


def submit(home: Home, unlocking: Unlocking, address: str, body: TransactionBody, fee: int) -> TransactionId:
    """Return the id of the transaction that the node at ``address`` took, signed as this account's next one.

    Raises :class:`Invalid` with the code that the node gave, or :class:`Unavailable`.
    """
    key, spec = unlocking.key(home), home.spec()

    async def hand_over() -> TransactionId:
        async with open_node(address, spec) as node:
            status, account = await node.status(), await node.account(public_key(key))
            transaction = sign_transaction(
                key,
                body,
                chain_id=spec.chain_id,
                nonce=account.next_nonce,
                fee=Amount(fee),
                expiry_height=Height(status.head.height + EXPIRY_BLOCKS),
            )
            return await node.submit_transaction(encode_transaction(transaction))

    return asyncio.run(hand_over())
