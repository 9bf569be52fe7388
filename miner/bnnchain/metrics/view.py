"""What metrics are read from: the objects of one running node."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnnchain.chain.chain import Chain
    from bnnchain.chain.mempool import Mempool
    from bnnchain.mining.miner import Miner
    from bnnchain.net.messages import Status
    from bnnchain.net.network import Network


@dataclass(frozen=True, slots=True)
class NodeView:
    """A running node; nothing of it is changed here."""

    chain: Chain
    mempool: Mempool
    network: Network
    miner: Miner | None
    """None: a validator-only node."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What has to be waited for, asked just before a collection, which must not wait."""

    status: Status
    is_ready: bool
    store_bytes: int
    free_bytes: int


async def take_snapshot(view: NodeView) -> Snapshot:
    """Return a node's snapshot; raises :class:`Unavailable` where it is stopping or too busy to answer."""
    store = view.chain.store
    return Snapshot(
        status=await view.network.status(),
        is_ready=not await view.network.problems(),
        store_bytes=await view.network.read(store.size_bytes),
        free_bytes=await view.network.read(lambda: shutil.disk_usage(store.path.parent).free),
    )
