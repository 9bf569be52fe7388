"""The asynchronous side of the one door: blocks and transactions go in off the event loop, events come out.

Imports run one at a time in a thread of their own, so the kernel and the disk never stop the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from bnnchain.chain.chain import Import
from bnnchain.consensus.codec import HEADER_BYTES, decode_block, decode_header, decode_transaction
from bnnchain.consensus.errors import BnnchainError, Fault, Invalid, Unavailable
from bnnchain.consensus.transactions import transaction_id
from bnnchain.net.events import Events
from bnnchain.net.messages import Event, Head, NewHead, SideBlock, TransactionAccepted
from bnnchain.net.reads import ChainReads
from bnnchain.net.tasks import Completions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import BlockId, DatasetId, TransactionId

log = logging.getLogger(__name__)

MAX_PENDING_IMPORTS = 64
"""Blocks that wait for the importing thread; more are refused as busy, whoever sends them."""
READ_THREADS = 2
MAX_PENDING_READS = 512
STOP_TIMEOUT_S = 1.0

Result = TypeVar("Result")


class Intake:
    """Takes blocks and transactions in and publishes what is new."""

    def __init__(self, chain: Chain, mempool: Mempool) -> None:
        self.chain = chain
        self.mempool = mempool
        self.reads = ChainReads(chain, mempool)
        self.events = Events()
        self.refused_blocks: Counter[str] = Counter()
        """By reject code, since the process began."""
        self._importer = ThreadPoolExecutor(1, "import")
        self._reader = ThreadPoolExecutor(READ_THREADS, "read")
        self._imports = Completions()
        self._read_count = 0
        self._is_closed = False

    @property
    def head(self) -> Head:
        """The active chain's last block."""
        state = self.chain.head
        return Head(state.head, state.height, state.weight)

    async def import_block(self, raw: bytes, *, is_own: bool = False) -> Import:
        """Judge and store a block, and publish it where it becomes the head; an own one also where it does not.

        Raises as :meth:`Chain.import_block`; :class:`Unavailable` where too many wait already.  An import goes to its
        end, publishing included, even where the caller is cancelled meanwhile.
        """
        return await self._complete(self._import(raw, is_own=is_own))

    async def import_range(self, raws: Sequence[bytes]) -> int:
        """Import blocks that follow each other and the head, as far as they keep the rules, by one flush of the disk.

        Return how many went in; none where the first does not follow the head.  What stopped it, :meth:`import_block`
        says of the next one.  One event tells of the last of them.
        """
        return await self._complete(self._import_range(raws))

    async def prefer(self, block_id: BlockId) -> None:
        """Make a stored block of the head's weight the head, and publish it; nothing where it is none."""
        await self._complete(self._prefer(block_id))

    async def publish_block(self, raw: bytes) -> None:
        """Publish a block that was imported through :meth:`Chain.import_block` by somebody else and is the head."""
        await self._complete(self._publish(raw))

    async def add_transaction(self, raw: bytes) -> tuple[TransactionId, bool]:
        """Put a transaction into the mempool; return its id and whether it is new.  Raises its rule's code."""
        transaction = decode_transaction(raw)
        identity = transaction_id(transaction)
        is_new = await self.read(self.mempool.add, transaction)
        if is_new:
            self.events.publish(TransactionAccepted(identity, raw))
        return identity, is_new

    async def add_dataset(self, dataset_id: DatasetId, payload: bytes) -> None:
        """Check and store a data set's pool payload."""
        await self._complete(self._in_importer(self.chain.add_dataset, dataset_id, payload))

    async def read(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return ``function(*arguments)`` from a reading thread; :class:`Unavailable` where too many wait already."""
        if self._is_closed or self._read_count >= MAX_PENDING_READS:
            raise Unavailable("this node is stopping" if self._is_closed else "this node is busy")
        self._read_count += 1
        try:
            return await self._run(self._reader, function, *arguments)
        finally:
            self._read_count -= 1

    async def close(self) -> None:
        """End the subscriptions and the threads; an import under way gets ``STOP_TIMEOUT_S`` to finish."""
        self._is_closed = True
        self.events.close()
        self._importer.shutdown(wait=False, cancel_futures=True)
        self._reader.shutdown(wait=False, cancel_futures=True)
        await self._imports.close(STOP_TIMEOUT_S)

    async def _import(self, raw: bytes, *, is_own: bool) -> Import:
        try:
            imported, event = await self._in_importer(self._import_blocking, raw, is_own)
        except Invalid as error:
            self.refused_blocks[error.code] += 1
            raise
        if event is not None:
            self.events.publish(event)
        return imported

    async def _import_range(self, raws: Sequence[bytes]) -> int:
        count, event = await self._in_importer(self._import_range_blocking, raws)
        if event is not None:
            self.events.publish(event)
        return count

    async def _prefer(self, block_id: BlockId) -> None:
        event = await self._in_importer(self._prefer_blocking, block_id)
        if event is not None:
            self.events.publish(event)

    async def _publish(self, raw: bytes) -> None:
        event = await self._in_importer(self._describe_head, raw)
        if event is not None:
            self.events.publish(event)

    def _import_blocking(self, raw: bytes, is_own: bool) -> tuple[Import, Event | None]:  # noqa: FBT001
        start = time.perf_counter()
        imported = self.chain.import_block(raw)
        verdict_us = round((time.perf_counter() - start) * 1e6)
        if not imported.is_new:
            return imported, None
        if not imported.is_head:
            return imported, self._side_block(imported) if is_own else None
        return imported, self._new_head(imported, len(raw), verdict_us)

    def _import_range_blocking(self, raws: Sequence[bytes]) -> tuple[int, Event | None]:
        start, before = time.perf_counter(), self.chain.head
        if decode_header(raws[0][:HEADER_BYTES]).previous_hash != before.head:
            return 0, None
        with suppress(Invalid, Unavailable):
            self.chain.import_blocks(raws)
        count = self.chain.head.height - before.height  # nobody else imports meanwhile: this is the only thread
        if not count:
            return 0, None
        last, verdict_us = decode_block(raws[count - 1]), round((time.perf_counter() - start) * 1e6 / count)
        imported = Import(last, self.chain.head.head, is_new=True, is_head=True, reorg_depth=0)
        return count, self._new_head(imported, len(raws[count - 1]), verdict_us)

    def _prefer_blocking(self, block_id: BlockId) -> Event | None:
        preferred = self.chain.prefer(block_id)
        raw = self.chain.store.block(block_id)
        return None if preferred is None or raw is None else self._new_head(preferred, len(raw), 0)

    def _describe_head(self, raw: bytes) -> Event | None:
        imported = self.chain.import_block(raw)
        return self._new_head(imported, len(raw), 0) if imported.is_head else None

    def _side_block(self, imported: Import) -> SideBlock:
        weight = self.chain.state_at(imported.block_id).weight
        return SideBlock(imported.block_id, imported.block.header, weight)

    def _new_head(self, imported: Import, size_bytes: int, verdict_us: int) -> NewHead:
        self.mempool.refresh(imported.abandoned)
        state: ChainState = self.chain.head
        return NewHead(
            block_id=state.head,
            header=imported.block.header,
            weight=state.weight,
            reorg_depth=imported.reorg_depth,
            verdict_us=verdict_us,
            size_bytes=size_bytes,
        )

    async def _in_importer(self, function: Callable[..., Result], *arguments: object) -> Result:
        if self._is_closed:
            raise Unavailable("this node is stopping")
        return await self._run(self._importer, function, *arguments)

    async def _complete(self, work: Coroutine[Any, Any, Result]) -> Result:
        if len(self._imports) >= MAX_PENDING_IMPORTS:
            work.close()
            raise Unavailable("this node is busy")
        return await self._imports.complete(work)

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, function: Callable[..., Result], *arguments: object) -> Result:
        # From outside the project only its three kinds of error exist: anything else is our own fault.
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        except BnnchainError:
            raise
        except Exception as error:
            log.exception("internal error")
            raise Fault(f"internal error: {type(error).__name__}") from error
