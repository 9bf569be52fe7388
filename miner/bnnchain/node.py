"""A node: store, chain, mempool, network and, where it mines, the miner; composed here and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from bnnchain.accuser import Accuser
from bnnchain.backends import evaluator_factory
from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.pools import DEFAULT_LIMIT_BYTES
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.exchange.extras import load_extra
from bnnchain.metrics.service import serving_metrics
from bnnchain.metrics.view import NodeView
from bnnchain.mining.founders import select_founder
from bnnchain.mining.miner import Miner, MiningOptions
from bnnchain.mining.pool.workers import PoolOptions, WorkerPool
from bnnchain.net.messages import NewHead, Role
from bnnchain.net.network import Network, PeerOptions
from bnnchain.payout import Payout
from bnnchain.producer import HOLD_S, Producer, ProducerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.consensus.types import BlockId, PublicKey, Transaction
    from bnnchain.home import Home
    from bnnchain.net.address import Address
    from bnnchain_kernels.evaluator import EvaluatorFactory

WEB_PACKAGES = ("starlette", "uvicorn", "jinja2", "pygal", "PIL")
Writer: TypeAlias = "Callable[[], list[Transaction]]"
"""Returns signed transactions for the one door, and none where nothing is to be said."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node runs; nothing of it is consensus."""

    listen: str
    """``host:port`` to serve on; port 0 takes a free one."""
    peers: Sequence[str] = ()
    peering: PeerOptions = field(default_factory=PeerOptions)
    backend: str = "auto"
    mining: MiningOptions | None = None
    """None: a validator-only node, which never mines."""
    founder: str = "auto"
    """Who trains founding models: ``larq``, ``device``, or ``auto`` for the first of them that is installed."""
    max_blocks: int | None = None
    """Stop mining at this height (the node goes on serving); given, mining needs no waiting transactions."""
    hold_s: float = HOLD_S
    """How long a fresh tip waits before this node mines on it."""
    checkpoints: Mapping[int, BlockId] = field(default_factory=dict)
    """Ids by height that the operator has pinned."""
    pool: PoolOptions | None = None
    """Workers that mine for this node; None: its own process does."""
    dataset_limit_bytes: int = DEFAULT_LIMIT_BYTES
    """What the stored pools of data sets together may take."""
    prune_blocks: int = 0
    """Of how many last blocks to keep the bodies; 0: of all."""
    key: Ed25519PrivateKey | None = field(default=None, repr=False)
    """What it signs with; a miner needs one, and a validator-only node without one reports nobody."""
    payout: PublicKey | None = None
    """Who gets what the miner's key has earned; None: it stays there."""
    metrics: Address | None = None
    """Where to serve metrics, health and readiness; None: nowhere."""
    web: Address | None = None
    """Where to serve the explorer page; None: nowhere."""


class Observer(Protocol):
    """Is told what a node does, from the event loop or the mining thread."""

    def ready(self, address: str) -> None:
        """It serves on ``address`` now."""

    def page(self, name: str, url: str) -> None:
        """It serves something else for people or programs, too; told before :meth:`ready`."""

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

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, validate and mine until ``stop`` is set.

        Raises :class:`Fault`, :class:`Invalid` or :class:`Unavailable` where it cannot start.
        """
        with self._home.locked():
            factory = await asyncio.to_thread(evaluator_factory, self._options.backend)
            store = Store(self._home.store_file, self._home.spec())
            try:
                options = self._options
                make = partial(
                    Chain,
                    store,
                    factory,
                    checkpoints=options.checkpoints,
                    dataset_limit_bytes=options.dataset_limit_bytes,
                    prune_blocks=options.prune_blocks,
                )
                chain = await asyncio.to_thread(make)
                pool = None if options.pool is None else await asyncio.to_thread(WorkerPool, options.pool)
                try:
                    await self._serve(chain, factory, pool, stop)
                finally:
                    if pool is not None:
                        await asyncio.to_thread(pool.close)
            finally:
                store.close()

    async def _serve(
        self, chain: Chain, factory: EvaluatorFactory, pool: WorkerPool | None, stop: asyncio.Event
    ) -> None:
        options, mempool = self._options, Mempool(chain)
        role = Role.VALIDATOR if options.mining is None else Role.MINER
        network = Network(
            chain,
            mempool,
            listen=options.listen,
            dial=options.peers,
            role=role,
            options=options.peering,
            book_file=self._home.book_file,
        )
        miner = self._miner(chain, mempool, pool)
        producer = None if miner is None else self._producer(chain, mempool, network, miner)
        await network.start()
        async with AsyncExitStack() as pages:
            try:
                await self._open_pages(pages, NodeView(chain, mempool, network, miner), factory)
            except BaseException:
                await network.stop()
                raise
            self._observer.ready(network.address)
            await self._work(chain, mempool, network, producer, stop)

    async def _open_pages(self, pages: AsyncExitStack, view: NodeView, factory: EvaluatorFactory) -> None:
        if self._options.metrics is not None:
            address = await pages.enter_async_context(serving_metrics(view, self._options.metrics))
            self._observer.page("metrics", f"http://{address}/metrics")
        if self._options.web is not None:
            for package in WEB_PACKAGES:
                load_extra(package, "web")
            from bnnchain.web.explorer import Explorer
            from bnnchain.web.server import serving_page

            role = "validator-only" if view.miner is None else "mining"
            explorer = Explorer(view.chain, view.mempool, view.network, factory, role)
            serving = serving_page(explorer, view.network.subscribe(), self._options.web)
            self._observer.page("page", await pages.enter_async_context(serving))

    async def _work(
        self, chain: Chain, mempool: Mempool, network: Network, producer: Producer | None, stop: asyncio.Event
    ) -> None:
        work = [
            asyncio.create_task(_report(network, self._observer)),
            asyncio.create_task(_write(network, self._writers(chain, mempool))),
        ]
        if producer is not None:
            work.append(asyncio.create_task(producer.run()))
        ending = asyncio.create_task(_wait(stop))
        try:
            done, _ = await asyncio.wait([ending, *work], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            ending.cancel()
            if producer is not None:
                producer.stop()
            await network.stop()
            await asyncio.gather(*work, return_exceptions=True)

    def _miner(self, chain: Chain, mempool: Mempool, pool: WorkerPool | None) -> Miner | None:
        options, mining = self._options, self._options.mining
        if mining is None:
            return None
        if options.key is None:
            raise Unavailable("mining needs a wallet")
        founder = select_founder(options.founder, mining.threads)
        if pool is not None:
            founder = pool.founder(founder)
            self._observer.progress(f"workers dial {pool.address}")
        return Miner(chain, mempool, options.key, founder, mining, self._observer.progress, pool)

    def _writers(self, chain: Chain, mempool: Mempool) -> list[Writer]:
        """Return what writes transactions of this node's own with every new head, in this order."""
        key, payout = self._options.key, self._options.payout
        if key is None:
            return []
        accuse = Accuser(chain, mempool, key).accuse
        return [accuse] if payout is None else [accuse, Payout(chain, mempool, key, payout).pay]

    def _producer(self, chain: Chain, mempool: Mempool, network: Network, miner: Miner) -> Producer:
        options = self._options
        producing = ProducerOptions(options.hold_s, options.max_blocks is not None, options.max_blocks)
        return Producer(chain, mempool, miner.mine, network.submit_block, producing, self._observer.progress)


async def _report(network: Network, observer: Observer) -> None:
    async with network.subscribe() as events:
        async for event in events:
            if isinstance(event, NewHead):
                observer.head(event)


async def _write(network: Network, writers: Sequence[Writer]) -> None:
    async with network.subscribe() as events:
        async for event in events:
            if isinstance(event, NewHead):
                for writer in writers:
                    for transaction in await asyncio.to_thread(writer):
                        # Refused where the head has moved on meanwhile: the next one asks again.
                        with suppress(Invalid, Unavailable):
                            await network.submit_transaction(encode_transaction(transaction))


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
