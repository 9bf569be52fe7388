"""A stretch of blocks fetched from several peers at once and imported in order.

The stretch is known by its headers, from one peer, the lead.  They prove nothing: a header's y needs the model of the
block before, so no work can be checked without the bodies.  What they do say is which blocks belong together, so that
any peer's answer can be held against them, and nobody's range has to be believed.

Each peer fetches a range at a time.  What it does not bring in time goes back and on to another peer.  What is fetched
ahead of the import is bounded in bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.net import limits
from bnnchain.net.conduct import is_harmless
from bnnchain.net.reads import MAX_RANGE_BYTES
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bnnchain.consensus.types import BlockId, Header
    from bnnchain.net.client import NodeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A block that is wanted: its id, and its parent's."""

    block_id: BlockId
    previous: BlockId


def plan(headers: Sequence[Header]) -> list[Planned]:
    """Return the blocks of headers that follow each other; raises :class:`Invalid` ``bad-range`` where they do not."""
    blocks: list[Planned] = []
    for header in headers:
        if blocks and header.previous_hash != blocks[-1].block_id:
            raise Invalid("bad-range", reason="a header does not follow from the one before")
        blocks.append(Planned(block_id(header), header.previous_hash))
    return blocks


class Download:
    """Fetches ``wanted``, whose first block's parent we have, and imports it; ``run`` returns how many were new.

    take: imports one block and answers whether it was new.
    take_range: imports blocks that follow each other as far as they keep the rules, and answers how many did; what the
        next one lacks, ``take`` says.
    blame: is told who sent what breaks a rule; the lead's own lies are raised instead.
    """

    def __init__(
        self,
        wanted: Sequence[Planned],
        genesis_id: BlockId,
        take: Callable[[bytes], Awaitable[bool]],
        blame: Callable[[NodeClient, Invalid], None],
        take_range: Callable[[Sequence[bytes]], Awaitable[int]] | None = None,
    ) -> None:
        self._wanted = wanted
        self._numbers = {each.block_id: number for number, each in enumerate(wanted)}
        self._genesis_id = genesis_id
        self._take = take
        self._blame = blame
        self._take_range_of = take_range
        self._ranges = deque(
            range(start, min(start + limits.SYNC_RANGE_BLOCKS, len(wanted)))
            for start in range(0, len(wanted), limits.SYNC_RANGE_BLOCKS)
        )
        self._fetched: dict[int, tuple[bytes, NodeClient]] = {}
        """Blocks that wait for their import, by their number in ``wanted``, and who sent them."""
        self._next = 0
        self._size_bytes = 0
        """Of the fetched ones, and of the ranges on their way, each as large as it may be."""
        self._changed = asyncio.Event()
        self._is_over = False
        """Nobody fetches any more."""
        self._excluded: set[NodeClient] = set()
        self.sources: dict[str, int] = {}
        """Blocks by the peer that they came from."""

    async def run(self, lead: NodeClient, helpers: Sequence[NodeClient]) -> int:
        """Fetch and import until all is there.

        Raises :class:`Invalid` where the lead has sent what breaks a rule, and :class:`Unavailable` where nobody brings
        what is missing, or a block cannot be judged yet.  What was imported stays.
        """
        nodes = [lead, *(node for node in helpers if node is not lead)][: limits.SYNC_PEERS]
        fetching = {asyncio.create_task(self._serve(node, is_lead=node is lead)) for node in nodes}
        importing = asyncio.create_task(self._import(lead))
        try:
            while not importing.done():
                done, _ = await asyncio.wait({importing, *fetching}, return_when=asyncio.FIRST_COMPLETED)
                fetching -= done
                for task in done - {importing}:
                    task.result()
                if not fetching:
                    self._is_over = True
                    self._change()
            return importing.result()
        finally:
            await cancel_and_wait([importing, *fetching])

    async def _import(self, lead: NodeClient) -> int:
        new_count = 0
        while self._next < len(self._wanted):
            if self._next not in self._fetched:
                if self._is_over:
                    raise Unavailable(f"nobody brings block {self._next + 1} of {len(self._wanted)}")
                await self._wait()
                continue
            taken = await self._import_ready()
            if taken:
                new_count += taken
                continue
            raw, node = self._fetched.pop(self._next)
            try:
                new_count += await self._take(raw)
            except Invalid as error:
                # An honest peer serves no block that breaks a rule, whoever told of its header first.
                if node is lead or is_harmless(error):
                    raise
                self._exclude(node, error)
                self._let_go(len(raw))
                self._give_back(range(self._next, self._next + 1))
                continue
            self._let_go(len(raw))
            self._next += 1
        return new_count

    async def _import_ready(self) -> int:
        """Import what is there from the next block on in one go; return how many blocks went in."""
        if self._take_range_of is None:
            return 0
        ready = list[bytes]()
        while len(ready) < limits.SYNC_RANGE_BLOCKS and (fetched := self._fetched.get(self._next + len(ready))):
            ready.append(fetched[0])
        count = await self._take_range_of(ready) if len(ready) > 1 else 0
        for _ in range(count):
            self._let_go(len(self._fetched.pop(self._next)[0]))
            self._next += 1
        return count

    async def _serve(self, node: NodeClient, *, is_lead: bool) -> None:
        """Let one peer fetch ranges as long as it brings what was asked for and there is any."""
        while self._next < len(self._wanted) and node not in self._excluded:
            numbers = self._take_range()
            if numbers is None:
                await self._wait()
                continue
            started_s = asyncio.get_running_loop().time()
            left = numbers
            try:
                left = numbers[await self._fetch(node, numbers) :]
            except Invalid as error:
                if is_lead:
                    raise
                self._exclude(node, error)
                return
            except (Unavailable, Fault) as error:
                log.info("%s brings no blocks: %s", node.address, error)
                return
            finally:
                self._give_back(left)
                self._let_go(MAX_RANGE_BYTES)
            if left and asyncio.get_running_loop().time() - started_s >= limits.STALL_TIMEOUT_S and not is_lead:
                log.info("%s is too slow: its blocks are fetched from others", node.address)
                return

    async def _fetch(self, node: NodeClient, numbers: range) -> int:
        """Fetch a range as far as the peer has it on its chain; return how many blocks of it came."""
        first = self._wanted[numbers[0]]
        locator = [first.previous] if first.previous == self._genesis_id else [first.previous, self._genesis_id]
        raws = await node.blocks(locator, count=len(numbers), timeout_s=limits.STALL_TIMEOUT_S)
        previous: BlockId | None = None
        count, is_same = 0, True
        for number, raw in zip(numbers, raws, strict=False):
            header = decode_header(raw[:HEADER_BYTES])
            is_behind = self._numbers.get(block_id(header), number) < number
            if previous is None and (header.previous_hash not in locator or is_behind):
                raise Invalid("bad-range", reason="it does not follow from the first block that was named")
            if previous is not None and header.previous_hash != previous:
                raise Invalid("bad-range", reason="a block does not follow from the one before")
            previous = block_id(header)
            # A peer may stand on another branch, and may have changed its mind since it sent its headers.
            is_same = is_same and previous == self._wanted[number].block_id
            if is_same:
                self._keep(number, raw, node)
                count += 1
        if not count:
            raise Unavailable("it has another chain")
        return count

    def _exclude(self, node: NodeClient, error: Invalid) -> None:
        self._excluded.add(node)
        self._blame(node, error)
        self._change()

    def _keep(self, number: int, raw: bytes, node: NodeClient) -> None:
        if number >= self._next and number not in self._fetched:
            self._fetched[number] = raw, node
            self._size_bytes += len(raw)
            self.sources[node.address] = self.sources.get(node.address, 0) + 1
            self._change()

    def _take_range(self) -> range | None:
        """Return the next range to fetch, or None where there is none, or no room for it.

        The range that the import waits for has always room: without it nothing would ever be let go.
        """
        if not self._ranges:
            return None
        is_urgent = self._ranges[0][0] <= self._next
        if not is_urgent and self._size_bytes + MAX_RANGE_BYTES > limits.SYNC_WINDOW_BYTES:
            return None
        self._size_bytes += MAX_RANGE_BYTES
        return self._ranges.popleft()

    def _give_back(self, numbers: range) -> None:
        if numbers:
            self._ranges.append(numbers)
            self._ranges = deque(sorted(self._ranges, key=lambda each: each[0]))
        self._change()

    def _let_go(self, size_bytes: int) -> None:
        self._size_bytes -= size_bytes
        self._change()

    def _change(self) -> None:
        """Wake everybody who waits for a range, for room or for a block."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self) -> None:
        await self._changed.wait()
