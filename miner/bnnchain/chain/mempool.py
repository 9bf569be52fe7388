"""Transactions that wait for a block: checked against the head, best fee first, never more than the limits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.transactions import cost, transaction_id, validate_spendable, validate_stateless
from bnnchain.consensus.types import Account, Amount, Height, PublicKey, Transaction, TransactionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.params import Params

MAX_TRANSACTIONS = 10_000
MAX_PER_SENDER = 256


class Mempool:
    """Waiting transactions of each sender, in unbroken nonce order from the account's next one.  Thread-safe."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._queues: dict[PublicKey, list[Transaction]] = {}
        self._by_id: dict[TransactionId, Transaction] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, transaction: Transaction) -> bool:
        """Take a transaction in; answer False where it waits already.

        Raises :class:`Invalid` with the rule's code, judged as if all the sender's waiting ones were in blocks;
        ``mempool-full`` where a limit is reached.
        """
        identity = transaction_id(transaction)
        with self._lock:
            if identity in self._by_id:
                return False
            validate_stateless(transaction, self._chain.spec.chain_id)
            queue = self._queues.get(transaction.sender, [])
            if len(queue) >= MAX_PER_SENDER or len(self._by_id) >= MAX_TRANSACTIONS:
                raise Invalid("mempool-full", waiting=len(self._by_id), of_sender=len(queue))
            head = self._chain.head
            height = Height(head.height + 1)
            params = head.spec.params_at(height)
            account = _after(head.ledger.account(transaction.sender), queue, params)
            validate_spendable(transaction, account, height, params)
            self._queues[transaction.sender] = [*queue, transaction]
            self._by_id[identity] = transaction
            return True

    def get(self, identity: TransactionId) -> Transaction | None:
        """Return a waiting transaction, or None."""
        return self._by_id.get(identity)

    def waiting(self) -> list[Transaction]:
        """Return all waiting transactions, each sender's in nonce order."""
        with self._lock:
            return [transaction for queue in self._queues.values() for transaction in queue]

    def select(self, count: int, size_bytes: int) -> list[Transaction]:
        """Return up to ``count`` transactions of at most ``size_bytes`` together for the next block.

        Best fee first, but a sender's always in nonce order.
        """
        with self._lock:
            queues = {sender: list(queue) for sender, queue in self._queues.items()}
        chosen: list[Transaction] = []
        while queues and len(chosen) < count:
            sender = max(queues, key=lambda key: (queues[key][0].fee, key))
            transaction = queues[sender].pop(0)
            if not queues[sender]:
                del queues[sender]
            size_bytes -= len(encode_transaction(transaction))
            if size_bytes < 0:
                break
            chosen.append(transaction)
        return chosen

    def refresh(self, abandoned: Sequence[Transaction] = ()) -> None:
        """Drop what the current head has included, outdated or made impossible; call it after each new head.

        abandoned: transactions of blocks that left the active chain, oldest first: they wait again if they can.
        """
        with self._lock:
            waiting = [*abandoned, *(transaction for queue in self._queues.values() for transaction in queue)]
            self._queues, self._by_id = {}, {}
            head = self._chain.head
            height = Height(head.height + 1)
            params = head.spec.params_at(height)
            for transaction in waiting:
                queue = self._queues.get(transaction.sender, [])
                if len(queue) >= MAX_PER_SENDER or len(self._by_id) >= MAX_TRANSACTIONS:
                    continue
                account = _after(head.ledger.account(transaction.sender), queue, params)
                try:
                    validate_spendable(transaction, account, height, params)
                except Invalid:
                    continue
                self._queues[transaction.sender] = [*queue, transaction]
                self._by_id[transaction_id(transaction)] = transaction


def _after(account: Account, queue: list[Transaction], params: Params) -> Account:
    spent = sum(cost(transaction, params) for transaction in queue)
    return Account(Amount(account.balance - spent), account.nonce + len(queue))
