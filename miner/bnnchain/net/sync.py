"""Catching up: blocks from several peers and chunks of data sets from one, or blocks to a peer that cannot ask us.

What a peer sends is believed in nothing: blocks go through the one door, chunks against the manifest's root.  Every
round must bring something, so a peer that sends junk ends the attempt instead of keeping it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import HEADER_BYTES
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.datasets.chunks import ChunkAssembler, ChunkTree
from bnnchain.net import limits
from bnnchain.net.download import Download, Planned, plan
from bnnchain.net.messages import Outcome
from bnnchain.net.reads import MAX_RANGE_CHUNKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain.consensus.types import BlockId, DatasetId
    from bnnchain.datasets.chunks import Chunk
    from bnnchain.net.client import NodeClient
    from bnnchain.net.intake import Intake

log = logging.getLogger(__name__)

MAX_SYNC_ROUNDS = 4_096
"""Ranges of headers taken from one peer in one go: eight million blocks."""
MAX_STALE_ROUNDS = 16
"""Such ranges in one go that may hold only blocks we have: side branches of an earlier attempt."""
PUSH_BLOCKS = 64
MAX_ASSEMBLERS = 4
"""Pools that come in at a time, up to 16 MiB each; where there are more, the oldest begins anew."""


class Sync:
    """Follows one peer's chain at a time, with the help of others; what was fetched before a disconnect is kept.

    helpers: returns the other peers that may be asked for blocks.  blame: is told which of them has lied.
    """

    def __init__(
        self,
        intake: Intake,
        helpers: Callable[[], Sequence[NodeClient]] = tuple,
        blame: Callable[[NodeClient, Invalid], None] = lambda *_: None,
    ) -> None:
        self._intake = intake
        self._helpers = helpers
        self._blame = blame
        self._chain = intake.chain
        self._lock = asyncio.Lock()
        self._dataset_lock = asyncio.Lock()
        self._fetching: dict[tuple[str, DatasetId], asyncio.Event] = {}
        """Pools that are coming in, by the peer that brings them."""
        self._assemblers: OrderedDict[DatasetId, ChunkAssembler] = OrderedDict()

    @property
    def is_syncing(self) -> bool:
        """Whether blocks are being fetched just now."""
        return self._lock.locked()

    async def catch_up(self, node: NodeClient) -> int:
        """Fetch the node's chain above the fork with ours, and the pools it needs; return how many blocks were new.

        Which chain counts is decided block by block as each is imported.  Raises :class:`Invalid` where the node sent
        what breaks a rule, :class:`Unavailable` where it or something else is not there; what came before is kept.
        """
        async with self._lock:
            while True:
                await self._fetch_datasets(node, only_active=True)
                known = set(await self._intake.read(self._chain.missing_datasets))
                try:
                    return await self._fetch_blocks(node)
                except Unavailable:
                    # The blocks brought a data set that the next ones need: again, with its pool.
                    if set(await self._intake.read(self._chain.missing_datasets)) <= known:
                        raise

    async def fetch_datasets(self, node: NodeClient) -> None:
        """Fetch the missing data sets' pools, as far as the node has them; raises :class:`Invalid` for junk.

        Blocks may be fetched meanwhile: nobody's slow pool holds up the chain.
        """
        async with self._dataset_lock:
            await self._fetch_datasets(node, only_active=False)

    async def push(self, node: NodeClient, locator: Sequence[BlockId]) -> int:
        """Send our active chain above the fork with a node's ``locator``; return how many blocks it took as new."""
        start, accepted = await self._intake.read(self._chain.common_height, locator) + 1, 0
        while raws := await self._intake.read(self._intake.reads.blocks, (), start, PUSH_BLOCKS):
            for raw in raws:
                verdict = await node.offer_block(raw[:HEADER_BYTES])
                if verdict.outcome == Outcome.WANTED:
                    verdict = await node.announce_block(raw)
                if verdict.outcome not in {Outcome.ACCEPTED, Outcome.KNOWN}:
                    log.info("%s did not take block %d: %s", node.address, start, verdict.code or verdict.message)
                    return accepted
                accepted += verdict.outcome == Outcome.ACCEPTED
                start += 1
        return accepted

    async def push_dataset(self, node: NodeClient, dataset_id: DatasetId) -> None:
        """Send a data set's chunks to a node that misses it."""
        payload = await self._intake.read(self._chain.store.dataset, dataset_id)
        if payload is None:
            raise Unavailable(f"data set {dataset_id.hex()[:16]} is not here either")
        for chunk in await self._intake.read(ChunkTree, payload):
            verdict = await node.offer_chunk(dataset_id, chunk)
            if verdict.outcome not in {Outcome.ACCEPTED, Outcome.KNOWN}:
                log.info("%s did not take a chunk: %s", node.address, verdict.code or verdict.message)
                return

    async def take_chunk(self, dataset_id: DatasetId, chunk: Chunk) -> bool:
        """Keep a chunk that a peer offers; answer whether it was a new one.  Raises ``bad-chunk``."""
        if dataset_id not in await self._intake.read(self._chain.missing_datasets):
            return False
        assembler = self._assembler(dataset_id)
        is_new = assembler.add(chunk)
        if is_new and not assembler.missing:
            await self._finish(dataset_id, assembler)
        return is_new

    async def _fetch_blocks(self, lead: NodeClient) -> int:
        locator, new_count, stale_rounds = await self._intake.read(self._chain.locator), 0, 0
        last: list[BlockId] = []
        sources: Counter[str] = Counter()
        for _ in range(MAX_SYNC_ROUNDS):
            blocks = plan(await lead.headers([*last, *locator], timeout_s=limits.STALL_TIMEOUT_S))
            if not blocks:
                break
            last = [blocks[-1].block_id]
            wanted = await self._intake.read(self._missing, blocks)
            stale_rounds += not wanted
            if stale_rounds > MAX_STALE_ROUNDS:
                raise Invalid("bad-range", reason="nothing new in it", rounds=stale_rounds)
            if wanted:
                download = Download(
                    wanted, self._chain.spec.genesis_id, self._take, self._blame, self._intake.import_range
                )
                new_count += await download.run(lead, self._helpers())
                sources.update(download.sources)
        if new_count:
            shares = ", ".join(f"{count} from {address}" for address, count in sources.most_common())
            log.info("caught up %d blocks (%s): height %d", new_count, shares, self._chain.head.height)
        return new_count

    async def _take(self, raw: bytes) -> bool:
        return (await self._intake.import_block(raw)).is_new

    def _missing(self, blocks: Sequence[Planned]) -> Sequence[Planned]:
        """Return the blocks from the first one on that we lack; raises ``bad-range`` where nothing leads to it."""
        store = self._chain.store
        if blocks[0].previous != self._chain.spec.genesis_id and not store.has_block(blocks[0].previous):
            raise Invalid("bad-range", reason="it does not follow from a block we have")
        number = next((n for n, each in enumerate(blocks) if not store.has_block(each.block_id)), len(blocks))
        return blocks[number:]

    async def _fetch_datasets(self, node: NodeClient, *, only_active: bool) -> None:
        for dataset_id in await self._intake.read(self._chain.missing_datasets):
            entry = self._chain.head.datasets.get(dataset_id)
            if only_active and entry is not None and not entry.is_active:
                continue
            try:
                await self._fetch_once(node, dataset_id)
            except Unavailable as error:
                log.info("data set %s not from %s: %s", dataset_id.hex()[:16], node.address, error)

    async def _fetch_once(self, node: NodeClient, dataset_id: DatasetId) -> None:
        """Fetch a pool, or wait until it has been fetched from the same peer for somebody else."""
        key = node.address, dataset_id
        if (ended := self._fetching.get(key)) is not None:
            await ended.wait()
            if dataset_id in await self._intake.read(self._chain.missing_datasets):
                raise Unavailable("it was not brought whole")
            return
        ended = self._fetching[key] = asyncio.Event()
        try:
            await self._fetch_dataset(node, dataset_id)
        finally:
            del self._fetching[key]
            ended.set()

    async def _fetch_dataset(self, node: NodeClient, dataset_id: DatasetId) -> None:
        assembler = self._assembler(dataset_id)
        while missing := assembler.missing:
            start, count = missing[0], _run_length(missing[:MAX_RANGE_CHUNKS])
            for chunk in await node.dataset_chunks(dataset_id, start, count):
                assembler.add(chunk)  # another peer may have sent it meanwhile
            if assembler.missing[:1] == [start]:
                raise Invalid("bad-range", reason="no chunk that was asked for", start=start)
        await self._finish(dataset_id, assembler)

    def _assembler(self, dataset_id: DatasetId) -> ChunkAssembler:
        if dataset_id not in self._assemblers:
            manifest = self._chain.manifest(dataset_id)
            self._assemblers[dataset_id] = ChunkAssembler(manifest.pool_root, manifest.pool_bytes)
            while len(self._assemblers) > MAX_ASSEMBLERS:
                self._assemblers.popitem(last=False)
        return self._assemblers[dataset_id]

    async def _finish(self, dataset_id: DatasetId, assembler: ChunkAssembler) -> None:
        self._assemblers.pop(dataset_id, None)
        await self._intake.add_dataset(dataset_id, assembler.payload())
        log.info("data set %s is complete", dataset_id.hex()[:16])


def _run_length(indices: Sequence[int]) -> int:
    """Return how many of the ascending indices are consecutive from the first."""
    return next((i for i, index in enumerate(indices) if index != indices[0] + i), len(indices))
