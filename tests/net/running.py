"""Real nodes on loopback ports, each with a chain of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builders import GENESIS_TIME, Builder, Clock, make_spec, open_chain

from bnnchain.chain.chain import Chain
from bnnchain.chain.mempool import Mempool
from bnnchain.chain.store import Store
from bnnchain.consensus.types import BlockKind
from bnnchain.net.network import Network
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bnnchain.consensus.spec import ChainSpec

PATIENCE_S = 30.0


async def eventually(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until ``condition`` holds; fail after ``PATIENCE_S``."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come true in {PATIENCE_S} s"
        await asyncio.sleep(0.01)


@dataclass(eq=False)
class Running:
    """A chain with its network."""

    chain: Chain
    mempool: Mempool
    network: Network
    builder: Builder

    @property
    def address(self) -> str:
        return self.network.address

    @property
    def height(self) -> int:
        return self.chain.head.height

    def idle(self, blocks: int = 1, *, seed: int = 0) -> list[bytes]:
        """Build and import cheap blocks directly, without announcing them; ``seed`` makes branches differ."""
        return [self.builder.extend(kind=BlockKind.IDLE, nonce=seed)[0] for _ in range(blocks)]


class Nodes:
    """Makes nodes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._stack = AsyncExitStack()

    def make(
        self,
        *,
        spec: ChainSpec | None = None,
        dial: Sequence[Running] = (),
        blocks: int = 0,
        has_dataset: bool = True,
        listen: str | None = "127.0.0.1:0",
        **options: Any,
    ) -> Running:
        """Return a node that is not started yet."""
        self._count += 1
        path = self._directory / f"{self._count}.db"
        spec = spec or make_spec()
        clock = Clock(GENESIS_TIME + 10**6)
        chain = open_chain(path, spec, clock) if has_dataset else Chain(Store(path, spec), ReferenceEvaluator, clock)
        self._stack.callback(chain.store.close)
        chain.store._database.execute("PRAGMA synchronous = OFF")  # power cuts are tested elsewhere
        mempool = Mempool(chain)
        addresses = [peer.address for peer in dial]
        node = Running(
            chain, mempool, Network(chain, mempool, listen=listen, dial=addresses, **options), Builder(chain)
        )
        node.idle(blocks)
        return node

    async def start(self, node: Running | None = None, **options: Any) -> Running:
        """Start a node, a new one by default; it is stopped after the test."""
        node = node or self.make(**options)
        await node.network.start()
        self._stack.push_async_callback(node.network.stop)
        return node

    async def close(self) -> None:
        await self._stack.aclose()
