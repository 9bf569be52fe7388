"""When this node mines, and what becomes of a block that it has sealed: hold, trigger, sealing record, submission.

A key that signs two blocks on one parent loses its reward, so a sealed block is on disk before anybody can see it:
after a crash the node submits that block again instead of making another one on the same parent.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.types import BlockId, DatasetId
from bnnchain.net.tasks import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bnnchain.chain.chain import Chain, Import
    from bnnchain.chain.mempool import Mempool

log = logging.getLogger(__name__)

HOLD_S = 1.0
"""The paper's delay (section 4.6): a rival of a fresh tip has this long to arrive before anybody builds on the tip."""
PAUSE_S = 0.5

Mine: TypeAlias = "Callable[[Callable[[], bool]], bytes | None]"
Submit: TypeAlias = "Callable[[bytes], Awaitable[Import]]"


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """When to mine; nothing of it is consensus."""

    hold_s: float = HOLD_S
    is_on_demand: bool = False
    """Mine although no block's worth of transactions waits, where the chain forbids blocks without a model."""
    max_height: int | None = None
    """Stop mining at this height."""


class Producer:
    """Makes blocks and submits them until it is stopped; in one event loop, mining itself in a thread.

    mine: returns a sealed block on the present head, or None once its argument answers True; blocking.
    submit: the one door, which also publishes; raises as :meth:`Chain.import_block`.
    tell: gets a line for people whenever the reason to mine or to wait changes.
    """

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        mine: Mine,
        submit: Submit,
        options: ProducerOptions,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        self._chain = chain
        self._mempool = mempool
        self._mine = mine
        self._submit = submit
        self._options = options
        self._tell = tell
        self._held: BlockId | None = None
        self._reason = ""
        self._is_stopping = threading.Event()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Make :meth:`run` return soon; what was sealed and not submitted is submitted by the next run."""
        self._is_stopping.set()
        self._stopped.set()

    async def run(self) -> None:
        """Mine and submit until :meth:`stop`."""
        while not self._is_stopping.is_set():
            head = self._chain.head.head
            should_mine, reason = self._trigger()
            self._explain(reason)
            if not should_mine:
                await self._pause(PAUSE_S)
            elif self._held != head:
                await self._pause(self._options.hold_s)
                self._held = head
            else:
                await self._produce(head)

    def _trigger(self) -> tuple[bool, str]:
        """Return whether to mine now, and why or why not (PROTOCOL.md, "Parameters and presets")."""
        state = self._chain.head
        params = state.spec.params_at(state.height + 1)
        limit, waiting, wanted = self._options.max_height, len(self._mempool), params.max_block_transactions
        if limit is not None and state.height >= limit:
            return False, f"not mining: height {limit} is reached"
        if DatasetId(state.spec.dataset.dataset_id) in self._chain.missing_datasets():
            return False, f"not mining: data set {state.spec.dataset.name} is not here yet"
        if params.is_idle_allowed:
            return True, "mining: this chain always takes a block"
        if self._options.is_on_demand:
            return True, "mining: on demand"
        if waiting >= wanted:
            return True, f"mining: {wanted} transactions, a block's worth, wait"
        return False, f"not mining: fewer than {wanted} transactions wait; --blocks N mines on demand"

    def _explain(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            log.info("%s", reason)
            self._tell(reason)

    async def _produce(self, head: BlockId) -> None:
        try:
            raw = await asyncio.to_thread(self._sealed_block, head)
            if raw is not None and not self._is_stopping.is_set():
                await self._publish(raw)
        except (Unavailable, Fault) as error:
            # A training process that crashed, a full disk: this node still validates and serves, and tries again.
            log.error("mining failed, trying again: %s", error)  # noqa: TRY400  (one line, no traceback)
            await self._pause(PAUSE_S)

    async def _publish(self, raw: bytes) -> None:
        try:
            imported = await self._submit(raw)
        except Invalid as error:
            # Our own door refused it: a bug of ours, or a checkpoint.  So it has left this machine nowhere.
            log.warning("own block refused: %s", error)
            await asyncio.to_thread(self._chain.store.drop_sealed, _parent(raw))
            await self._pause(PAUSE_S)
            return
        if not imported.is_new:
            await self._pause(PAUSE_S)

    def _sealed_block(self, head: BlockId) -> bytes | None:
        """Return the block sealed on ``head`` before, or a new one, recorded on disk; None where it came to nothing."""
        raw = self._chain.store.sealed(head)
        if raw is not None:
            log.info("submitting the block that was sealed on %s before", head.hex()[:16])
            return raw
        raw = self._mine(lambda: self._is_stopping.is_set() or self._chain.head.head != head)
        return None if raw is None else self._chain.store.put_sealed(_parent(raw), raw)

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await within(seconds, self._stopped.wait())


def _parent(raw: bytes) -> BlockId:
    return decode_header(raw[:HEADER_BYTES]).previous_hash
