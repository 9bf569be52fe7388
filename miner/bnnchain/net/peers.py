"""The peers that we dial: kept connected, retried with growing pauses, left alone for a while when they misbehave."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import BnnchainError, Invalid
from bnnchain.net.address import parse_address, validate_plain
from bnnchain.net.agreement import local_agreement
from bnnchain.net.client import NodeClient
from bnnchain.net.session import Session
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.net.conduct import Conduct
    from bnnchain.net.intake import Intake
    from bnnchain.net.messages import Agreement, Identity
    from bnnchain.net.sync import Sync

log = logging.getLogger(__name__)

MAX_DIALLED_PEERS = 32
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 15.0
"""A part of a block interval: after a parted network heals, its halves must find each other before many blocks pass."""
STABLE_S = 10.0
"""A connection that lasted this long starts the pauses anew."""


class Backoff:
    """Pauses between attempts: doubling steps, a random part of each, so that nodes do not march in step."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, most_s: float = MAX_PAUSE_S) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._step_s = first_s
        self._random = random.SystemRandom()

    def next_s(self) -> float:
        """Return the next pause."""
        step_s, self._step_s = self._step_s, min(self._most_s, 2 * self._step_s)
        return step_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start anew with the shortest pause."""
        self._step_s = self._first_s


class Peers:
    """The dial list and its sessions; ``start`` dials, ``stop`` leaves nothing behind."""

    def __init__(
        self,
        intake: Intake,
        identity: Identity,
        sync: Sync,
        conduct: Conduct,
        addresses: Sequence[str],
        *,
        allow_plain: bool,
    ) -> None:
        """Raises :class:`Invalid` ``bad-address``, ``insecure-address`` or ``too-many-peers``."""
        if len(addresses) > MAX_DIALLED_PEERS:
            raise Invalid("too-many-peers", count=len(addresses), limit=MAX_DIALLED_PEERS)
        for address in addresses:
            validate_plain(parse_address(address), allow_plain=allow_plain)
        self._addresses = tuple(dict.fromkeys(addresses))
        self._allow_plain = allow_plain
        self._intake = intake
        self._identity = identity
        self._sync = sync
        self._conduct = conduct
        self._sessions: dict[str, Session] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def node_ids(self) -> set[bytes]:
        """Node ids of the peers with a session."""
        return {session.theirs.node_id for session in self._sessions.values()}

    @property
    def agreement(self) -> Agreement:
        """What most of the peers with a session stand on, each node counted once."""
        heads = {session.theirs.node_id: session.head for session in self._sessions.values()}
        return local_agreement(list(heads.values()))

    def start(self) -> None:
        """Begin to dial every address."""
        self._tasks = [asyncio.create_task(self._keep(address)) for address in self._addresses]

    async def stop(self) -> None:
        """End all sessions."""
        await cancel_and_wait(self._tasks)

    def catch_up_from(self, node_id: bytes) -> bool:
        """Fetch what is missing from the dialled peer with that id; answer whether there is one."""
        for session in self._sessions.values():
            if session.theirs.node_id == node_id:
                session.catch_up()
                return True
        return False

    async def _keep(self, address: str) -> None:
        backoff = Backoff()
        while True:
            started = asyncio.get_running_loop().time()
            try:
                if not await self._talk(address):
                    return
            except Invalid as error:
                self._conduct.blame(address, error)
                log.warning("peer %s: %s", address, error)
            except BnnchainError as error:
                log.info("peer %s: %s", address, error)
            except Exception:
                # A bug of ours in one session must not end the dialling of this peer for ever: said, then tried again.
                log.exception("peer %s: internal error", address)
            if asyncio.get_running_loop().time() - started > STABLE_S:
                backoff.reset()
            await asyncio.sleep(max(backoff.next_s(), self._conduct.ban_left_s(address)))

    async def _talk(self, address: str) -> bool:
        """Connect and hold a session; return False where it makes no sense ever to try again."""
        async with NodeClient(address, allow_plain=self._allow_plain) as node:
            theirs = await node.handshake(self._identity.hello(self._intake.chain.spec, self._intake.head))
            if theirs.node_id == self._identity.node_id:
                log.warning("peer %s is this node itself; not dialled again", address)
                return False
            session = Session(node, theirs, self._intake, self._sync, self._conduct, self._settle)
            self._sessions[address] = session
            log.info("connected to %s (%s, height %d)", address, theirs.agent, theirs.head.height)
            try:
                await session.run()
            finally:
                del self._sessions[address]
        return True

    async def _settle(self) -> None:
        """Of tips of equal weight, take the one that most peers are on; a peer has a new head."""
        agreed = self.agreement.block_id
        if agreed is not None and agreed != self._intake.head.block_id:
            await self._intake.prefer(agreed)
