"""Blocks on their way to us: who else offers one waits, so that a body crosses one link only.

A block's id is waited for once.  A peer that promises a body and does not send it thus delays a block by
``ARRIVAL_TIMEOUT_S`` in all, however many such peers there are; after that everybody may bring it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from bnnchain.net import limits

if TYPE_CHECKING:
    from bnnchain.consensus.types import BlockId

MAX_ARRIVALS = 1_024


class Arrivals:
    """The blocks that were promised lately; used from the event loop only."""

    def __init__(self) -> None:
        self._promises: OrderedDict[BlockId, tuple[asyncio.Event, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._promises)

    async def wait(self, identity: BlockId) -> None:
        """Return once nobody is bringing the block: it came, it failed, or its time is over."""
        if (promise := self._promises.get(identity)) is None:
            return
        ended, until_s = promise
        left_s = until_s - asyncio.get_running_loop().time()
        if ended.is_set() or left_s <= 0:
            return
        waiting = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait({waiting}, timeout=left_s)
        finally:
            waiting.cancel()

    def promise(self, identity: BlockId) -> bool:
        """Note that somebody brings the block from now on; answer False where somebody had promised it before."""
        if identity in self._promises:
            return False
        until_s = asyncio.get_running_loop().time() + limits.ARRIVAL_TIMEOUT_S
        self._promises[identity] = asyncio.Event(), until_s
        while len(self._promises) > MAX_ARRIVALS:
            self._promises.popitem(last=False)[1][0].set()
        return True

    def finish(self, identity: BlockId) -> None:
        """Note that the block has been brought, or that bringing it has failed."""
        if (promise := self._promises.get(identity)) is not None:
            promise[0].set()
