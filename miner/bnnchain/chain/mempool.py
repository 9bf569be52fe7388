"""Transactions that wait for a block: checked against the head, best fee per byte first, never more than the limits.

What a kind of transaction asks of the chain is judged by :mod:`bnnchain.consensus.booking`, as in a block; nothing here
knows kinds.  Conflicts are two transactions of one sender with one nonce, and nothing else.
"""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, replace
from itertools import count as count_up
from typing import TYPE_CHECKING

from bnnchain.consensus.booking import Booking, book
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.transactions import cost, transaction_id, validate_spendable
from bnnchain.consensus.types import Account, Amount, Height, PublicKey, Transaction, TransactionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.state import ChainState

MAX_TRANSACTIONS = 10_000
MAX_POOL_BYTES = 1 << 22
MAX_PER_SENDER = 256
MAX_SENDER_BYTES = 1 << 18
REPLACEMENT_DIVISOR = 8
"""A replacement pays at least this part of the old fee more, and at least one unit."""
RATE_SCALE = 1 << 20
"""Fees per byte are compared as integers, in units of 1/2^20."""
MIN_TRANSACTION_BYTES = 128
"""No transaction is smaller: with less room than this nothing more is looked for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transaction in its sender's queue."""

    transaction: Transaction
    identity: TransactionId
    size_bytes: int
    sequence: int
    """Order of arrival, from 1; 0 before it has a place."""
    floor_rate: int
    """Least fee per byte of this one and all before it in the queue: no block takes it sooner than that."""
    spent: Amount
    """What this one and all before it take from the sender."""
    queue_bytes: int
    """Encoded size of this one and all before it."""

    @property
    def rate(self) -> int:
        return self.transaction.fee * RATE_SCALE // self.size_bytes


class Mempool:
    """Waiting transactions of each sender, in unbroken nonce order from the account's next one.  Thread-safe."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._state: ChainState = chain.head
        """What the queues were last checked against."""
        self._lock = threading.Lock()
        self._queues: dict[PublicKey, list[Waiting]] = {}
        self._by_id: dict[TransactionId, Transaction] = {}
        self._size_bytes = 0
        self._sequence = count_up(1)
        self._tails: list[tuple[int, int, PublicKey]] = []
        """Heap of (floor rate, minus arrival, sender), the latest of the cheapest first; some entries are outdated."""

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def size_bytes(self) -> int:
        """Encoded size of all that waits."""
        return self._size_bytes

    def add(self, transaction: Transaction) -> bool:
        """Take a transaction in; answer False where it waits already.

        Raises :class:`Invalid` with the rule's code, judged as if all the sender's waiting ones were in blocks.  One
        with the nonce of a waiting one replaces it, or is ``fee-too-low``; ``mempool-full`` where a limit is reached
        and all that waits pays more per byte.
        """
        identity = transaction_id(transaction)
        with self._lock:
            if identity in self._by_id:
                return False
            queue = self._queues.get(transaction.sender, [])
            first_nonce = self._state.ledger.account(transaction.sender).nonce
            place = transaction.nonce - first_nonce
            if 0 <= place < len(queue):
                self._replace(transaction, queue, place)
            else:
                self._append(transaction, queue)
            return True

    def get(self, identity: TransactionId) -> Transaction | None:
        """Return a waiting transaction, or None."""
        return self._by_id.get(identity)

    def waiting(self) -> list[Transaction]:
        """Return all waiting transactions, each sender's in nonce order."""
        with self._lock:
            return [each.transaction for queue in self._queues.values() for each in queue]

    def next_nonce(self, sender: PublicKey) -> int:
        """Return the nonce that the sender's next transaction needs, its waiting ones counted."""
        with self._lock:
            return self._state.ledger.account(sender).nonce + len(self._queues.get(sender, ()))

    def select(self, count: int, size_bytes: int) -> list[Transaction]:
        """Return up to ``count`` transactions of at most ``size_bytes`` together that make a valid next block.

        Best fee per byte first, the earlier of equals, but a sender's always in nonce order.
        """
        with self._lock:
            head, chosen, failed = self._chain.head, list[Transaction](), list[Transaction]()
            booking = Booking(head)
            heap = [(-queue[0].rate, queue[0].sequence, sender, 0) for sender, queue in self._queues.items()]
            heapq.heapify(heap)
            while heap and len(chosen) < count and size_bytes >= MIN_TRANSACTION_BYTES:
                _, _, sender, place = heapq.heappop(heap)
                queue = self._queues[sender]
                each = queue[place]
                if each.size_bytes > size_bytes:
                    continue
                try:
                    booking.apply(each.transaction)
                except Invalid:
                    failed.append(each.transaction)
                    continue
                chosen.append(each.transaction)
                size_bytes -= each.size_bytes
                if place + 1 < len(queue):
                    following = queue[place + 1]
                    heapq.heappush(heap, (-following.rate, following.sequence, sender, place + 1))
            if head is self._state:
                self._drop_impossible(failed)
        return chosen

    def refresh(self, abandoned: Sequence[Transaction] = ()) -> None:
        """Drop what the current head has included, outdated or made impossible; call it after each new head.

        abandoned: transactions of blocks that left the active chain, oldest first: they wait again if they can.
        """
        with self._lock:
            waiting = [*map(_measured, abandoned), *(each for queue in self._queues.values() for each in queue)]
            self._queues, self._by_id, self._tails, self._size_bytes = {}, {}, [], 0
            self._state = self._chain.head
            height = Height(self._state.height + 1)
            params = self._state.spec.params_at(height)
            for each in waiting:
                sender = each.transaction.sender
                queue = self._queues.get(sender, [])
                try:
                    validate_spendable(each.transaction, self._account_after(sender, queue), height, params)
                    self._put(each, queue)
                except Invalid:
                    continue

    def _append(self, transaction: Transaction, queue: list[Waiting]) -> None:
        self._validate(transaction, self._account_after(transaction.sender, queue))
        self._put(_measured(transaction), queue)

    def _replace(self, transaction: Transaction, queue: list[Waiting], place: int) -> None:
        old = queue[place].transaction
        least = old.fee + max(1, -(-old.fee // REPLACEMENT_DIVISOR))
        if transaction.fee < least:
            raise Invalid("fee-too-low", fee=transaction.fee, least=least)
        self._validate(transaction, self._account_after(transaction.sender, queue[:place]))
        following = [each.transaction for each in queue[place + 1 :]]
        removed = self._cut(transaction.sender, place)
        try:
            self._put(_measured(transaction), self._queues.get(transaction.sender, []))
        except Invalid:
            self._restore(removed)
            raise
        for each in following:
            try:
                self._append(each, self._queues[transaction.sender])
            except Invalid:
                return  # the replacement costs more: what can no longer be paid, with all after it, is gone

    def _validate(self, transaction: Transaction, account: Account) -> None:
        """Raise :class:`Invalid` where no next block could include it with the sender's account as given."""
        ledger = self._state.ledger.updated({transaction.sender: account})
        book(replace(self._state, ledger=ledger), [transaction])

    def _account_after(self, sender: PublicKey, queue: Sequence[Waiting]) -> Account:
        account = self._state.ledger.account(sender)
        spent = queue[-1].spent if queue else 0
        return Account(Amount(account.balance - spent), account.nonce + len(queue))

    def _put(self, entry: Waiting, queue: list[Waiting]) -> None:
        """Append to a sender's queue, then make room; raises ``mempool-full``, and then nothing has changed."""
        entry = self._placed(entry, queue)
        if len(queue) >= MAX_PER_SENDER or entry.queue_bytes > MAX_SENDER_BYTES:
            raise Invalid("mempool-full", waiting=len(self._by_id), of_sender=len(queue))
        self._keep(entry)
        evicted: list[Waiting] = []
        while len(self._by_id) > MAX_TRANSACTIONS or self._size_bytes > MAX_POOL_BYTES:
            cheapest = self._cheapest_tail()
            self._cut(cheapest.transaction.sender, -1)
            if cheapest is entry:
                self._restore(evicted[::-1])
                raise Invalid("mempool-full", waiting=len(self._by_id), rate=entry.rate)
            evicted.append(cheapest)

    def _placed(self, entry: Waiting, queue: Sequence[Waiting]) -> Waiting:
        """Return the entry with its sums over the queue that it joins."""
        params = self._state.spec.params_at(self._state.height + 1)
        floor, spent, size = entry.rate, int(cost(entry.transaction, params)), entry.size_bytes
        if queue:
            last = queue[-1]
            floor, spent, size = min(floor, last.floor_rate), spent + last.spent, size + last.queue_bytes
        return replace(
            entry,
            sequence=entry.sequence or next(self._sequence),
            floor_rate=floor,
            spent=Amount(spent),
            queue_bytes=size,
        )

    def _keep(self, entry: Waiting) -> None:
        sender = entry.transaction.sender
        self._queues.setdefault(sender, []).append(entry)
        self._by_id[entry.identity] = entry.transaction
        self._size_bytes += entry.size_bytes
        self._push_tail(sender)

    def _restore(self, entries: Sequence[Waiting]) -> None:
        for entry in entries:
            self._keep(entry)

    def _cut(self, sender: PublicKey, place: int) -> list[Waiting]:
        """Remove a sender's transactions from ``place`` on; return them in order."""
        queue = self._queues[sender]
        removed = queue[place:]
        del queue[place:]
        for entry in removed:
            del self._by_id[entry.identity]
            self._size_bytes -= entry.size_bytes
        if queue:
            self._push_tail(sender)
        else:
            del self._queues[sender]
        return removed

    def _push_tail(self, sender: PublicKey) -> None:
        tail = self._queues[sender][-1]
        heapq.heappush(self._tails, (tail.floor_rate, -tail.sequence, sender))
        if len(self._tails) > 2 * (len(self._by_id) + MAX_PER_SENDER):
            self._tails = [(queue[-1].floor_rate, -queue[-1].sequence, key) for key, queue in self._queues.items()]
            heapq.heapify(self._tails)

    def _cheapest_tail(self) -> Waiting:
        """Return the last transaction of the queue that blocks would reach last; it is on the heap in any case."""
        while True:
            _, minus_sequence, sender = self._tails[0]
            queue = self._queues.get(sender)
            if queue and queue[-1].sequence == -minus_sequence:
                return queue[-1]
            heapq.heappop(self._tails)

    def _drop_impossible(self, failed: Sequence[Transaction]) -> None:
        """Drop those that cannot be in a next block even without the others, and all that build on them."""
        for transaction in failed:
            queue = self._queues[transaction.sender]
            place = next(index for index, each in enumerate(queue) if each.transaction is transaction)
            try:
                self._validate(transaction, self._account_after(transaction.sender, queue[:place]))
            except Invalid:
                self._cut(transaction.sender, place)


def _measured(transaction: Transaction) -> Waiting:
    """Return an entry that has no place in a queue yet."""
    return Waiting(transaction, transaction_id(transaction), len(encode_transaction(transaction)), 0, 0, Amount(0), 0)
