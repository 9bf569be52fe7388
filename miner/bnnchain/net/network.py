"""A node's network in one object: the door, the server, the dialled peers."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, TypeVar

from bnnchain.net.address import Address, parse_address, validate_plain
from bnnchain.net.conduct import BAN_S, Conduct
from bnnchain.net.intake import Intake
from bnnchain.net.messages import NODE_ID_BYTES, Agreement, Identity, Role, Status
from bnnchain.net.peers import Peers
from bnnchain.net.server import NodeServer, Surroundings
from bnnchain.net.sync import Sync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnnchain.chain.chain import Chain, Import
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.types import TransactionId
    from bnnchain.net.events import Subscription

Result = TypeVar("Result")


class Network:
    """Serves a chain to peers and keeps it up to date from them; lives in one event loop.

    listen: ``host:port`` to serve on, port 0 for any free one; None: serve nobody.
    dial: addresses of peers to keep connected to.
    allow_plain: whether plain TCP may leave this machine; otherwise only loopback addresses are taken.

    Raises :class:`Invalid` ``bad-address``, ``insecure-address`` or ``too-many-peers``.
    """

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        *,
        listen: str | None = None,
        dial: Sequence[str] = (),
        role: Role = Role.VALIDATOR,
        node_id: bytes | None = None,
        allow_plain: bool = False,
        ban_s: float = BAN_S,
    ) -> None:
        self._listen = None if listen is None else parse_address(listen)
        if self._listen is not None:
            validate_plain(self._listen, allow_plain=allow_plain)
        identity = Identity(node_id or secrets.token_bytes(NODE_ID_BYTES), role)
        conduct = self._conduct = Conduct(ban_s, lambda: asyncio.get_running_loop().time())
        self.node_id = identity.node_id
        self._intake = Intake(chain, mempool)
        self._sync = Sync(self._intake)
        self._peers = Peers(self._intake, identity, self._sync, conduct, dial, allow_plain=allow_plain)
        surroundings = Surroundings(
            peer_count=lambda: self.peer_count,
            is_syncing=lambda: self.is_syncing,
            agreement=lambda: self.agreement,
            catch_up_from=self._peers.catch_up_from,
            take_chunk=self._sync.take_chunk,
        )
        self._server = NodeServer(self._intake, identity, conduct, surroundings)
        self._address = ""

    @property
    def address(self) -> str:
        """Where this node serves, with the port that the system chose; empty where it does not."""
        return self._address

    @property
    def peer_count(self) -> int:
        """Peers connected at present, whoever dialled."""
        return len(self._peers.node_ids | self._server.guests)

    @property
    def inbound_count(self) -> int:
        """Peers that dialled us and follow our chain."""
        return len(self._server.guests)

    @property
    def outbound_count(self) -> int:
        """Peers that we dialled."""
        return len(self._peers.node_ids)

    @property
    def agreement(self) -> Agreement:
        """What most of the dialled peers stand on just now."""
        return self._peers.agreement

    @property
    def is_syncing(self) -> bool:
        """Whether blocks are being fetched from a peer just now."""
        return self._sync.is_syncing

    @property
    def conduct(self) -> Conduct:
        """Who is banned, and how often that happened."""
        return self._conduct

    @property
    def refused_blocks(self) -> Mapping[str, int]:
        """Blocks that broke a rule, by its code, since the process began."""
        return self._intake.refused_blocks

    async def status(self) -> Status:
        """Return how this node is, as its peers and the command line are told."""
        return await self._server.status()

    async def problems(self) -> list[str]:
        """Return why this node is not ready to be relied on; nothing where it is."""
        return await self._server.readiness.problems()

    async def read(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return ``function(*arguments)`` from a reading thread; :class:`Unavailable` where too many wait already."""
        return await self._intake.read(function, *arguments)

    async def start(self) -> None:
        """Listen, then dial; raises :class:`Fault` where the address cannot be bound."""
        if self._listen is not None:
            port = await self._server.start(self._listen)
            self._address = str(Address(self._listen.host, port))
        self._peers.start()

    async def stop(self) -> None:
        """End everything within about two seconds; calls under way are cut, what was committed stays."""
        self._intake.events.close()
        await asyncio.gather(self._peers.stop(), self._server.stop())
        await self._intake.close()

    def subscribe(self) -> Subscription:
        """Return an asynchronous iterator over new heads and transactions, from now on; close it when done."""
        return self._intake.events.subscribe()

    async def submit_block(self, raw: bytes) -> Import:
        """Take this node's own block in by the one door and relay it; raises as :meth:`Chain.import_block`."""
        return await self._intake.import_block(raw)

    async def announce_block(self, raw: bytes) -> None:
        """Publish and relay a block that :meth:`Chain.import_block` has already made the head."""
        await self._intake.publish_block(raw)

    async def submit_transaction(self, raw: bytes) -> TransactionId:
        """Put a transaction into the mempool, relay it and return its id; raises its rule's code."""
        identity, _ = await self._intake.add_transaction(raw)
        return identity
