"""Payouts: what a miner's key has earned goes to a key whose secret need not be on the miner's machine.

The protocol pays a block to the key that signed it (PROTOCOL.md, "Money"), so a payout is an ordinary transfer, made
once rewards have matured.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transfer
from bnnchain.consensus.types import Amount, Height

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.types import PublicKey, Transaction

log = logging.getLogger(__name__)

PAYOUT_FEE = Amount(1_000)
PAYOUT_LEAST = Amount(1_000 * PAYOUT_FEE)
"""Less is not worth its fee yet."""
PAYOUT_RESERVE = Amount(100 * PAYOUT_FEE)
"""What stays with the miner, for the fees of reports and of the next payouts."""
PAYOUT_EXPIRY_BLOCKS = 100


class Payout:
    """Writes the miner's transfers to ``recipient``, one at a time.

    Raises :class:`Invalid` ``bad-payout`` where the recipient is the miner.
    """

    def __init__(self, chain: Chain, mempool: Mempool, key: Ed25519PrivateKey, recipient: PublicKey) -> None:
        if recipient == public_key(key):
            raise Invalid("bad-payout", payout=recipient.hex(), reason="it is the miner's own key")
        self._chain = chain
        self._mempool = mempool
        self._key = key
        self._recipient = recipient

    def pay(self) -> list[Transaction]:
        """Return the next transfer, for the one door; none while one of the miner's transactions waits."""
        own = public_key(self._key)
        state = self._chain.head
        account = state.ledger.account(own)
        amount = Amount(account.balance - PAYOUT_RESERVE - PAYOUT_FEE)
        if amount < PAYOUT_LEAST or self._mempool.next_nonce(own) != account.nonce:
            return []
        log.info("paying %d units to %s", amount, self._recipient.hex()[:16])
        return [
            sign_transfer(
                self._key,
                chain_id=state.spec.chain_id,
                nonce=account.nonce,
                recipient=self._recipient,
                amount=amount,
                fee=PAYOUT_FEE,
                expiry_height=Height(state.height + PAYOUT_EXPIRY_BLOCKS),
            )
        ]
