"""What a node tells about its chain: ranges of blocks, chunks of data sets, accounts, transactions.  Blocking."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import decode_block, encode_transaction
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import Amount, BlockId, DatasetId, Height, PublicKey, TransactionId
from bnnchain.datasets.chunks import ChunkTree, encode_chunk
from bnnchain.net.messages import AccountStatus, TransactionAccepted, TransactionState, TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool

MAX_RANGE_BLOCKS = 256
MAX_RANGE_BYTES = 1 << 23
MAX_RANGE_HEADERS = 2_048
MAX_RANGE_CHUNKS = 64
"""4 MiB of payload."""
MAX_INDEXED_BLOCKS = 50_000
MAX_SNAPSHOT_TRANSACTIONS = 1_000
CACHED_CHUNK_TREES = 2
_READ_BLOCKS = 32


class ChainReads:
    """Answers about one chain and its mempool; safe to use from several threads."""

    def __init__(self, chain: Chain, mempool: Mempool) -> None:
        self._chain = chain
        self._mempool = mempool
        self._transactions = TransactionIndex(chain)
        self._trees: OrderedDict[DatasetId, ChunkTree] = OrderedDict()
        self._lock = threading.Lock()

    def blocks(self, locator: Sequence[BlockId], start_height: int, count: int) -> list[bytes]:
        """Return active blocks above the fork with ``locator``, or from ``start_height`` where it is not 0.

        At most ``MAX_RANGE_BLOCKS`` and about ``MAX_RANGE_BYTES``, but at least one where there is one.
        """
        start = start_height or self._chain.common_height(locator) + 1
        blocks: list[bytes] = []
        size_bytes, count = 0, min(count, MAX_RANGE_BLOCKS)
        while len(blocks) < count and size_bytes < MAX_RANGE_BYTES:
            batch = self._chain.store.active_blocks(start, min(_READ_BLOCKS, count - len(blocks)))
            for _, raw in batch:
                if blocks and size_bytes + len(raw) > MAX_RANGE_BYTES:
                    return blocks
                blocks.append(raw)
                size_bytes += len(raw)
            if not batch:
                break
            start += len(batch)
        return blocks

    def headers(self, locator: Sequence[BlockId], start_height: int, count: int) -> list[bytes]:
        """Return the 439-byte headers of such a range, at most ``MAX_RANGE_HEADERS``."""
        start = start_height or self._chain.common_height(locator) + 1
        headers: list[bytes] = []
        count = min(count, MAX_RANGE_HEADERS)
        while len(headers) < count:
            batch = self._chain.store.active_headers(start, min(_READ_BLOCKS, count - len(headers)))
            if not batch:
                break
            headers += batch
            start += len(batch)
        return headers

    def chunks(self, dataset_id: DatasetId, start: int, count: int) -> list[bytes]:
        """Return encoded chunks of a data set's pool, at most ``MAX_RANGE_CHUNKS``; fewer at the end.

        Raises :class:`Unavailable` where it is not here, ``bad-chunk`` where it has no chunk ``start``.
        """
        tree = self._tree(dataset_id)
        first = encode_chunk(tree.chunk(start))
        stop = min(len(tree), start + max(1, min(count, MAX_RANGE_CHUNKS)))
        return [first, *(encode_chunk(tree.chunk(index)) for index in range(start + 1, stop))]

    def account(self, key: PublicKey) -> AccountStatus:
        """Return an account as of the head; unknown keys have nothing."""
        state = self._chain.head
        account = state.ledger.account(key)
        immature = sum(coinbase.amount for coinbase in state.coinbases if coinbase.owner == key)
        return AccountStatus(
            key=key,
            balance=account.balance,
            nonce=account.nonce,
            next_nonce=self._mempool.next_nonce(key),
            immature=Amount(immature),
            height=state.height,
        )

    def transaction(self, identity: TransactionId) -> TransactionStatus:
        """Return where a transaction is: in the active chain, in the mempool, or nowhere known."""
        found = self._transactions.find(identity)
        if found is not None:
            block_id, height = found
            return TransactionStatus(
                TransactionState.INCLUDED, block_id, height, max(1, self._chain.head.height - height + 1)
            )
        is_waiting = self._mempool.get(identity) is not None
        return TransactionStatus(TransactionState.WAITING if is_waiting else TransactionState.UNKNOWN)

    def backend(self) -> str:
        """Return the name of the kernel that counts, empty while there is no data set to count on."""
        try:
            return self._chain.validator.evaluator(next(iter(self._chain.head.datasets))).backend
        except Unavailable:
            return ""

    def waiting_transactions(self) -> list[TransactionAccepted]:
        """Return up to ``MAX_SNAPSHOT_TRANSACTIONS`` of the waiting transactions, each sender's in nonce order."""
        waiting = self._mempool.waiting()[:MAX_SNAPSHOT_TRANSACTIONS]
        return [TransactionAccepted(transaction_id(one), encode_transaction(one)) for one in waiting]

    def _tree(self, dataset_id: DatasetId) -> ChunkTree:
        with self._lock:
            tree = self._trees.get(dataset_id)
            if tree is None:
                payload = self._chain.store.dataset(dataset_id)
                if payload is None:
                    raise Unavailable(f"data set {dataset_id.hex()[:16]} is not here")
                tree = self._trees[dataset_id] = ChunkTree(payload)
                while len(self._trees) > CACHED_CHUNK_TREES:
                    self._trees.popitem(last=False)
            return tree


class TransactionIndex:
    """Finds the active block of a transaction; follows the head when asked, a reorg included.

    Only the last ``MAX_INDEXED_BLOCKS`` are looked at: the index is rebuilt from blocks, never stored.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._blocks: deque[tuple[BlockId, tuple[TransactionId, ...]]] = deque()
        self._first_height = 1
        """Of ``_blocks[0]``."""
        self._heights: dict[TransactionId, int] = {}

    def find(self, identity: TransactionId) -> tuple[BlockId, Height] | None:
        """Return (block id, height) of a transaction of the active chain, or None."""
        with self._lock:
            self._follow()
            height = self._heights.get(identity)
            return None if height is None else (self._blocks[height - self._first_height][0], Height(height))

    def _follow(self) -> None:
        store = self._chain.store
        pruned_height = store.pruned_height()
        while self._blocks and (
            self._next_height <= pruned_height or store.active_id(self._next_height - 1) != self._blocks[-1][0]
        ):
            self._forget(self._blocks.pop()[1])
        if not self._blocks:
            lowest = self._chain.head.height + 1 - MAX_INDEXED_BLOCKS
            self._first_height = max(1, lowest, pruned_height + 1)
        while batch := store.active_blocks(self._next_height, _READ_BLOCKS):
            for block_id, raw in batch:
                block = decode_block(raw)
                if self._blocks and block.header.previous_hash != self._blocks[-1][0]:
                    return  # a reorg between two batches: the next question finds the fork
                ids = tuple(transaction_id(transaction) for transaction in block.transactions)
                self._heights.update(dict.fromkeys(ids, self._next_height))
                self._blocks.append((block_id, ids))
        while len(self._blocks) > MAX_INDEXED_BLOCKS:
            self._forget(self._blocks.popleft()[1])
            self._first_height += 1

    @property
    def _next_height(self) -> int:
        return self._first_height + len(self._blocks)

    def _forget(self, ids: tuple[TransactionId, ...]) -> None:
        for identity in ids:
            self._heights.pop(identity, None)
