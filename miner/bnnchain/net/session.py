"""A connection that we dialled: announce to the peer, follow what it announces, fetch what we lack."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import HEADER_BYTES, decode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import DatasetId
from bnnchain.net.address import parse_address
from bnnchain.net.inventory import Inventory
from bnnchain.net.messages import Head, NewHead, Outcome, SideBlock, TransactionAccepted
from bnnchain.net.tasks import run_until_first_ends, within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bnnchain.consensus.types import BlockId
    from bnnchain.net.arrivals import Arrivals
    from bnnchain.net.client import NodeClient
    from bnnchain.net.conduct import Conduct
    from bnnchain.net.intake import Intake
    from bnnchain.net.messages import Hello, Verdict
    from bnnchain.net.sync import Sync

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0
"""How often two heads are compared again, in case a message was lost or a data set came late."""


class Session:
    """One dialled peer after its handshake; ``run`` lasts as long as the connection and the peer's conduct."""

    def __init__(
        self,
        node: NodeClient,
        theirs: Hello,
        intake: Intake,
        arrivals: Arrivals,
        sync: Sync,
        conduct: Conduct,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        """settle: is called whenever the peer has said that it has another head."""
        self.node = node
        self.theirs = theirs
        self.head = theirs.head
        """The peer's claim."""
        self._intake = intake
        self._arrivals = arrivals
        self._sync = sync
        self._conduct = conduct
        self._settle = settle
        self._known = Inventory()
        self._known.add(theirs.head.block_id)
        self._pushed: set[DatasetId] = set()
        """Data sets that the peer was given once; it cannot ask for them for ever."""
        self._is_behind = asyncio.Event()
        self._announcing = asyncio.Lock()
        self._is_dropped = asyncio.Event()
        self._lie: Invalid | None = None

    def catch_up(self) -> None:
        """Compare heads now and fetch what is missing: the peer sent something that needs it."""
        self._is_behind.set()

    async def run(self) -> None:
        """Talk until the connection ends (:class:`Unavailable`) or the peer misbehaves (:class:`Invalid`)."""
        await run_until_first_ends(self._follow(), self._relay(), self._compare(), self._until_dropped())

    def drop(self, error: Invalid) -> None:
        """End the session for what the peer has sent elsewhere."""
        self._lie = error
        self._is_dropped.set()

    async def _until_dropped(self) -> None:
        await self._is_dropped.wait()
        if self._lie is not None:
            raise self._lie

    # What the peer tells us.

    async def _follow(self) -> None:
        async with aclosing(self.node.watch()) as events:
            async for event in events:
                if isinstance(event, NewHead):
                    await self._tolerate(self._take_head(event))
                elif isinstance(event, SideBlock):
                    await self._tolerate(self._fetch(event))
                else:
                    await self._tolerate(self._take_transaction(event))
        raise Unavailable(f"{self.node.address} ended the connection")

    async def _take_head(self, event: NewHead) -> None:
        self.head = Head(event.block_id, event.header.height, event.weight)
        await self._fetch(event)
        await self._settle()

    async def _fetch(self, event: NewHead | SideBlock) -> None:
        """Fetch a block that the peer has, where it is as good as our head or better."""
        self._known.add(event.block_id)
        ours = self._intake.head.weight
        if await self._has(event.block_id) or event.weight < ours:
            return
        await self._arrivals.wait(event.header.previous_hash)
        if not await self._has(event.header.previous_hash):
            if event.weight > ours:
                await self._sync.catch_up(self.node)
            return
        if not self._arrivals.promise(event.block_id):
            await self._arrivals.wait(event.block_id)
            if await self._has(event.block_id):
                return
        try:
            raw = await self.node.block(event.block_id)
            if block_id(decode_block(raw).header) != event.block_id:
                raise Invalid("bad-range", reason="not the block that was asked for")
            await self._import(raw)
        finally:
            self._arrivals.finish(event.block_id)

    async def _import(self, raw: bytes) -> None:
        try:
            await self._intake.import_block(raw)
        except Unavailable:  # a data set is missing
            await self._sync.catch_up(self.node)

    async def _take_transaction(self, event: TransactionAccepted) -> None:
        self._known.add(event.transaction_id)
        await self._intake.add_transaction(event.raw)

    # What we tell the peer.

    async def _relay(self) -> None:
        async with self._intake.events.subscribe() as events:
            await self._offer_head()
            for transaction in await self._intake.read(self._intake.reads.waiting_transactions):
                await self._offer_transaction(transaction)
            async for event in events:
                if isinstance(event, TransactionAccepted):
                    await self._offer_transaction(event)
                elif isinstance(event, SideBlock):
                    await self._offer_side_block(event)
                else:
                    await self._offer_head()

    async def _offer_head(self) -> None:
        """Announce our head where it is as good as the peer's or better; older heads are not worth a word."""
        async with self._announcing:
            ours, is_rival = self._intake.head, self._intake.head.weight == self.head.weight
            if ours.block_id in self._known or ours.weight < self.head.weight:
                return
            verdict = await self._offer(ours.block_id)
            if verdict is None:
                return
            if verdict.missing_dataset_id:
                await self._sync.push_dataset(self.node, DatasetId(verdict.missing_dataset_id))
                verdict = await self._offer(ours.block_id) or verdict
            if verdict.locator and is_rival:
                self._known.add(ours.block_id)  # a whole branch for a tie is too much; one block more decides it
                return
            if verdict.locator:
                await self._sync.push(self.node, verdict.locator)
            elif verdict.outcome not in {Outcome.ACCEPTED, Outcome.KNOWN}:
                log.warning("%s did not take our head: %s", self.node.address, verdict.message)
            # What may yet become valid is offered again; anything else, once.
            may_pass = verdict.outcome in {Outcome.UNAVAILABLE, Outcome.FAULT} or verdict.code == "time-too-new"
            if not may_pass:
                self._known.add(ours.block_id)

    async def _offer_side_block(self, event: SideBlock) -> None:
        """Offer an own block that is no head; a branch for it would be too much."""
        async with self._announcing:
            if event.block_id not in self._known:
                self._known.add(event.block_id)
                await self._offer(event.block_id)

    async def _offer(self, identity: BlockId) -> Verdict | None:
        """Offer a stored block by its header; send the body only where it is wanted.  None where it is not stored."""
        raw = await self._intake.read(self._intake.chain.store.block, identity)
        if raw is None:
            return None
        verdict = await self.node.offer_block(raw[:HEADER_BYTES])
        return await self.node.announce_block(raw) if verdict.outcome == Outcome.WANTED else verdict

    async def _offer_transaction(self, event: TransactionAccepted) -> None:
        if event.transaction_id not in self._known:
            self._known.add(event.transaction_id)
            await self.node.announce_transaction(event.raw)

    # Both.

    async def _compare(self) -> None:
        while True:
            await self._tolerate(self._poll())
            with suppress(asyncio.TimeoutError):
                await within(CHECK_INTERVAL_S, self._is_behind.wait())
            is_lighter = self._intake.head.weight < self.head.weight
            if self._is_behind.is_set() or (is_lighter and not await self._has(self.head.block_id)):
                self._is_behind.clear()
                await self._tolerate(self._sync.catch_up(self.node))
            else:
                await self._offer_head()

    async def _poll(self) -> None:
        """Ask the peer where it stands; give it the pools that it lacks, take those that we lack."""
        status = await self.node.status()
        self.head = status.head
        await self._settle()
        for dataset_id in set(status.missing_dataset_ids) - self._pushed:
            if await self._intake.read(self._intake.chain.store.has_dataset, dataset_id):
                self._pushed.add(dataset_id)
                await self._sync.push_dataset(self.node, dataset_id)
        if await self._intake.read(self._intake.chain.missing_datasets):
            await self._sync.fetch_datasets(self.node)

    async def _has(self, identity: bytes) -> bool:
        chain = self._intake.chain
        return identity == chain.spec.genesis_id or await self._intake.read(chain.store.has_block, identity)

    async def _tolerate(self, work: Awaitable[object]) -> None:
        """Do what the peer's message asks for; raise only where the peer is to be left alone for it."""
        address = self.node.address
        try:
            await work
        except Invalid as error:
            log.warning("%s sent %s", address, error)
            if self._conduct.blame(parse_address(address).conduct_key, error) or error.code == "other-checkpoint":
                raise
        except Unavailable as error:
            log.info("%s: not yet: %s", address, error)
        except Fault as error:
            log.error("what %s sent could not be judged: %s", address, error)  # noqa: TRY400
