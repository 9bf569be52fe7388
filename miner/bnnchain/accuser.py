"""Reports of miners who signed two blocks on one parent: half of their reward goes to who reports them first."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bnnchain.consensus.header import block_id
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transaction, transaction_id
from bnnchain.consensus.types import Amount, Height

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.types import BlockId, Transaction, TransactionId

log = logging.getLogger(__name__)

REPORT_FEE = Amount(1_000)
REPORT_EXPIRY_BLOCKS = 100
MAX_REPORTS = 64


class Accuser:
    """Writes EQUIVOCATION transactions for what the chain has seen; each pair once while its transaction waits."""

    def __init__(self, chain: Chain, mempool: Mempool, key: Ed25519PrivateKey) -> None:
        self._chain = chain
        self._mempool = mempool
        self._key = key
        self._reports: dict[BlockId, TransactionId] = {}
        """Of the pair's first block."""

    def accuse(self) -> list[Transaction]:
        """Return new transactions, for the one door; none where this account cannot pay the fee."""
        own = public_key(self._key)
        state = self._chain.head
        nonce = self._mempool.next_nonce(own)
        accused = self._chain.equivocations()
        transactions: list[Transaction] = []
        for evidence in accused[:MAX_REPORTS]:
            first = block_id(evidence.first)
            waits = first in self._reports and self._mempool.get(self._reports[first]) is not None
            can_pay = state.ledger.account(own).balance >= REPORT_FEE * (len(transactions) + 1)
            if waits or not can_pay or evidence.first.miner == own:
                continue
            transaction = sign_transaction(
                self._key,
                evidence,
                chain_id=state.spec.chain_id,
                nonce=nonce + len(transactions),
                fee=REPORT_FEE,
                expiry_height=Height(state.height + REPORT_EXPIRY_BLOCKS),
            )
            self._reports[first] = transaction_id(transaction)
            log.warning("miner %s signed two blocks on one parent; reporting it", evidence.first.miner.hex()[:16])
            transactions.append(transaction)
        seen = {block_id(evidence.first) for evidence in accused}
        self._reports = {first: identity for first, identity in self._reports.items() if first in seen}
        return transactions
