"""A node's network in one object: the door, the server, the dialled peers."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bnnchain.net import convert, limits
from bnnchain.net.address import Address, parse_address, parse_peer_address, validate_plain
from bnnchain.net.arrivals import Arrivals
from bnnchain.net.book import AddressBook
from bnnchain.net.book_file import format_book, read_book, write_book
from bnnchain.net.conduct import BAN_S, Conduct
from bnnchain.net.intake import Intake
from bnnchain.net.messages import NODE_ID_BYTES, Agreement, Identity, Role, Status
from bnnchain.net.outbound import Outbound
from bnnchain.net.peers import Peers
from bnnchain.net.seeds import resolve
from bnnchain.net.server import NodeServer, Surroundings
from bnnchain.net.sync import Sync
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bnnchain.chain.chain import Chain, Import
    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.types import TransactionId
    from bnnchain.net.events import Subscription
    from bnnchain.net.peers import DialledPeer
    from bnnchain.net.security import Security

Result = TypeVar("Result")

SAVE_INTERVAL_S = 300.0
"""How often the address book is written; what was learnt since is learnt again."""


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """How a node meets others."""

    outbound: int = limits.DEFAULT_OUTBOUND
    """Peers to choose from the address book, beside the dial list; 0: none, and nobody is asked for addresses."""
    inbound: int = limits.DEFAULT_INBOUND
    """Connections that others may have to this node."""
    advertise: str | None = None
    """Where to tell others to dial; None: where it listens, if one can dial that."""
    seeds: Sequence[Address] = ()
    """Where to look for first peers."""
    security: Security | None = None
    """Certificates, for mutual TLS with everybody; None: plain TCP."""
    allow_plain: bool = False
    """Whether plain TCP may leave this machine; otherwise only loopback addresses are taken."""


class Network:
    """Serves a chain to peers and keeps it up to date from them; lives in one event loop.

    listen: ``host:port`` to serve on, port 0 for any free one; None: serve nobody.
    dial: addresses of peers to keep connected to.
    options: how to meet others beside these; None: nobody else is dialled, and anybody may dial.
    book_file: keeps the address book and the bans over restarts; None: they end with this object.
    allow_plain: as in ``options``, where these are not given.

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
        options: PeerOptions | None = None,
        book_file: Path | None = None,
        allow_plain: bool = False,
        ban_s: float = BAN_S,
    ) -> None:
        options = options or PeerOptions(outbound=0, allow_plain=allow_plain)
        self._listen = None if listen is None else parse_address(listen)
        self._may_leave = options.allow_plain or options.security is not None
        if self._listen is not None:
            validate_plain(self._listen, allow_plain=self._may_leave)
        self._advertise = None if options.advertise is None else parse_peer_address(options.advertise)
        self._seeds, self._book_file = options.seeds, book_file
        identity = self._identity = Identity(node_id or secrets.token_bytes(NODE_ID_BYTES), role)
        conduct = self._conduct = Conduct(ban_s, lambda: asyncio.get_running_loop().time())
        self.node_id = identity.node_id
        self._book, self._bans = (AddressBook(), {}) if book_file is None else read_book(book_file)
        self._intake = Intake(chain, mempool)
        self._sync = Sync(self._intake, lambda: self._peers.nodes, lambda *lie: self._peers.blame(*lie))  # noqa: PLW0108  (later bound)
        arrivals = Arrivals()
        self._peers = Peers(
            *(self._intake, identity, arrivals, self._sync, conduct, dial),
            security=options.security,
            allow_plain=options.allow_plain,
            learn=self._learn if options.outbound else None,
        )
        self._outbound = Outbound(self._book, conduct, self._peers.talk, self._peers.is_taken, options.outbound)
        surroundings = Surroundings(
            peer_count=lambda: self.peer_count,
            is_syncing=lambda: self.is_syncing,
            agreement=lambda: self.agreement,
            catch_up_from=self._peers.catch_up_from,
            take_chunk=self._sync.take_chunk,
            meet=lambda address, connection: self._learn(connection, [address]),
            addresses=lambda asker: self._book.sample(asker, convert.MAX_SHARED_ADDRESSES),
        )
        self._server = NodeServer(
            *(self._intake, identity, conduct, arrivals, surroundings),
            security=options.security,
            inbound=options.inbound,
        )
        self._address = ""
        self._tasks: list[asyncio.Task[None]] = []

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
    def connection_count(self) -> int:
        """Connections that others have to this node, observers' included."""
        return self._server.connection_count

    @property
    def evicted_count(self) -> int:
        """Connections that had to go for others since the process began."""
        return self._server.evicted_count

    @property
    def known_address_count(self) -> int:
        """Addresses in the book."""
        return len(self._book)

    @property
    def outbound_count(self) -> int:
        """Peers that we dialled."""
        return len(self._peers.node_ids)

    @property
    def dialled(self) -> list[DialledPeer]:
        """The peers that we dialled, as they describe themselves."""
        return self._peers.dialled

    @property
    def guests(self) -> set[bytes]:
        """Node ids of the peers that dialled us and follow our chain."""
        return self._server.guests

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
        self._conduct.restore(self._bans)
        if self._listen is not None:
            port = await self._server.start(self._listen)
            served = Address(self._listen.host, port)
            self._address = str(served)
            is_dialable = served.ip is not None and served.is_dialable
            advertised = self._advertise or (served if is_dialable else None)
            self._identity.listen_address = "" if advertised is None else str(parse_peer_address(str(advertised)))
        self._peers.start()
        self._outbound.start()
        if self._seeds:
            self._tasks.append(asyncio.create_task(self._plant()))
        if self._book_file is not None:
            self._tasks.append(asyncio.create_task(self._save_often(self._book_file)))

    async def stop(self) -> None:
        """End everything within about two seconds; calls under way are cut, what was committed stays."""
        self._intake.events.close()
        await cancel_and_wait(self._tasks)
        await asyncio.gather(self._outbound.stop(), self._peers.stop(), self._server.stop())
        if self._book_file is not None:
            write_book(self._book_file, format_book(self._book, self._conduct.bans()))
        await self._intake.close()

    def subscribe(self) -> Subscription:
        """Return an asynchronous iterator over new heads and transactions, from now on; close it when done."""
        return self._intake.events.subscribe()

    async def submit_block(self, raw: bytes) -> Import:
        """Take this node's own block in by the one door and relay it; raises as :meth:`Chain.import_block`.

        Also one that does not become the head is told of: as good as it, others may choose it, and a block that lost
        its race pays whoever carries its header.
        """
        return await self._intake.import_block(raw, is_own=True)

    async def announce_block(self, raw: bytes) -> None:
        """Publish and relay a block that :meth:`Chain.import_block` has already made the head."""
        await self._intake.publish_block(raw)

    async def submit_transaction(self, raw: bytes) -> TransactionId:
        """Put a transaction into the mempool, relay it and return its id; raises its rule's code."""
        identity, _ = await self._intake.add_transaction(raw)
        return identity

    def _learn(self, source: Address, addresses: Sequence[Address]) -> None:
        """Note addresses that ``source`` told us, as far as this node may dial them."""
        for address in addresses:
            if (self._may_leave or address.is_loopback) and not self._peers.is_taken(address):
                self._book.add(address, source)

    async def _plant(self) -> None:
        """Put the seeds into the book: each speaks for itself alone."""
        for seed in await resolve(self._seeds):
            self._learn(seed, [seed])

    async def _save_often(self, path: Path) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL_S)
            self._outbound.note_anchors()
            text = format_book(self._book, self._conduct.bans())
            await asyncio.get_running_loop().run_in_executor(None, write_book, path, text)
