"""A node: store, chain, mempool, network and, where it mines, the miner; composed here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from bnnchain.backends import evaluator_factory
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.mining.founders import select_founder
from bnnchain.mining.miner import Miner, MiningOptions
from bnnchain.net.messages import NewHead, Role
from bnnchain.net.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.consensus.types import BlockId
    from bnnchain.home import Home

log = logging.getLogger(__name__)

PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node runs; nothing of it is consensus."""

    listen: str
    """``host:port`` to serve on; port 0 takes a free one."""
    peers: Sequence[str] = ()
    backend: str = "auto"
    mining: MiningOptions | None = None
    """None: a validator-only node, which never mines."""
    founder: str = "auto"
    """Who trains founding models: ``larq``, ``device``, or ``auto`` for the first of them that is installed."""
    max_blocks: int | None = None
    """Stop mining at this height (the node goes on serving)."""


class Observer(Protocol):
    """Is told what a node does, from the event loop or the mining thread."""

    def ready(self, address: str) -> None:
        """It serves on ``address`` now."""

    def head(self, head: NewHead) -> None:
        """The active chain has a new last block."""

    def progress(self, text: str) -> None:
        """What the miner is at, in a line for people, now and then."""


class Node:
    """Runs in one event loop until it is told to stop."""

    def __init__(self, home: Home, options: NodeOptions, observer: Observer) -> None:
        self._home = home
        self._options = options
        self._observer = observer
        self._stopping = threading.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, validate and mine until ``stop`` is set.

        Raises :class:`Fault`, :class:`Invalid` or :class:`Unavailable` where it cannot start.
        """
        with self._home.locked():
            factory = await asyncio.to_thread(evaluator_factory, self._options.backend)
            store = Store(self._home.store_file, self._home.spec())
            try:
                chain = await asyncio.to_thread(Chain, store, factory)
                await self._serve(chain, stop)
            finally:
                store.close()

    async def _serve(self, chain: Chain, stop: asyncio.Event) -> None:
        mempool, mining = Mempool(chain), self._options.mining
        role, miner = Role.VALIDATOR, None
        if mining is not None:
            role, founder = Role.MINER, select_founder(self._options.founder, mining.threads)
            miner = Miner(chain, mempool, self._home.key(), founder, mining, self._observer.progress)
        network = Network(chain, mempool, listen=self._options.listen, dial=self._options.peers, role=role)
        await network.start()
        self._observer.ready(network.address)
        work = [asyncio.create_task(_report(network, self._observer))]
        if miner is not None:
            work.append(asyncio.create_task(self._mine(chain, network, miner)))
        ending = asyncio.create_task(_wait(stop))
        try:
            done, _ = await asyncio.wait([ending, *work], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            ending.cancel()
            self._stopping.set()
            await network.stop()
            await asyncio.gather(*work, return_exceptions=True)

    async def _mine(self, chain: Chain, network: Network, miner: Miner) -> None:
        while not self._stopping.is_set():
            if self._is_at_limit(chain) or chain.missing_datasets():
                await self._pause()
                continue
            try:
                raw = await asyncio.to_thread(miner.mine, partial(self._is_outdated, chain, chain.head.head))
            except Fault as error:
                # A training process that crashed, say: this node still validates and serves.
                log.error("mining failed, trying again: %s", error)  # noqa: TRY400  (one line, no traceback)
                await self._pause()
                continue
            if raw is not None and not self._stopping.is_set():
                await self._publish(network, raw)

    async def _publish(self, network: Network, raw: bytes) -> None:
        try:
            await network.submit_block(raw)
        except (Invalid, Unavailable) as error:
            # Our own door refused our own block: a bug of ours, or the head moved and its data with it.
            log.warning("own block refused: %s", error)
            await self._pause()

    def _is_at_limit(self, chain: Chain) -> bool:
        limit = self._options.max_blocks
        return limit is not None and chain.head.height >= limit

    def _is_outdated(self, chain: Chain, head: BlockId) -> bool:
        return self._stopping.is_set() or chain.head.head != head

    async def _pause(self) -> None:
        await asyncio.to_thread(self._stopping.wait, PAUSE_S)


async def _report(network: Network, observer: Observer) -> None:
    async with network.subscribe() as events:
        async for event in events:
            if isinstance(event, NewHead):
                observer.head(event)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
