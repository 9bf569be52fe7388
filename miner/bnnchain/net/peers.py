"""The peers that we dial: kept connected, retried with growing pauses, left alone for a while when they misbehave."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import BnnchainError, Fault, Invalid, Unavailable
from bnnchain.net import limits
from bnnchain.net.address import parse_address, validate_plain
from bnnchain.net.agreement import local_agreement
from bnnchain.net.client import NodeClient
from bnnchain.net.session import Session
from bnnchain.net.tasks import cancel_and_wait, run_until_first_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnchain.net.address import Address
    from bnnchain.net.arrivals import Arrivals
    from bnnchain.net.conduct import Conduct
    from bnnchain.net.intake import Intake
    from bnnchain.net.messages import Agreement, Head, Hello, Identity
    from bnnchain.net.security import Security
    from bnnchain.net.sync import Sync

log = logging.getLogger(__name__)

MAX_DIALLED_PEERS = 32
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 15.0
"""A part of a block interval: after a parted network heals, its halves must find each other before many blocks pass."""
STABLE_S = 10.0
"""A connection that lasted this long starts the pauses anew."""


@dataclass(frozen=True, slots=True)
class DialledPeer:
    """A peer with a session; all but the address is its own claim."""

    address: str
    hello: Hello
    head: Head


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
        arrivals: Arrivals,
        sync: Sync,
        conduct: Conduct,
        addresses: Sequence[str],
        *,
        security: Security | None,
        allow_plain: bool,
        learn: Callable[[Address, Sequence[Address]], None] | None,
    ) -> None:
        """learn: is told what addresses a peer has told us; None: they are not asked for any.

        Raises :class:`Invalid` ``bad-address``, ``insecure-address`` or ``too-many-peers``.
        """
        if len(addresses) > MAX_DIALLED_PEERS:
            raise Invalid("too-many-peers", count=len(addresses), limit=MAX_DIALLED_PEERS)
        for address in addresses:
            if security is None:
                validate_plain(parse_address(address), allow_plain=allow_plain)
        self._addresses = tuple(dict.fromkeys(addresses))
        self._listed = {parse_address(address) for address in addresses}
        self._own: set[Address] = set()
        self._security = security
        self._allow_plain = allow_plain
        self._learn = learn
        self._intake = intake
        self._identity = identity
        self._arrivals = arrivals
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

    @property
    def dialled(self) -> list[DialledPeer]:
        """The peers with a session, as they describe themselves."""
        return [DialledPeer(address, each.theirs, each.head) for address, each in self._sessions.items()]

    @property
    def nodes(self) -> list[NodeClient]:
        """The connections that we dialled, those with the best claims first."""
        sessions = sorted(self._sessions.values(), key=lambda session: -session.head.weight)
        return [session.node for session in sessions]

    def blame(self, node: NodeClient, error: Invalid) -> None:
        """Score what a connection's peer has sent; where that bans it, end the session."""
        log.warning("%s sent %s", node.address, error)
        if self._conduct.blame(parse_address(node.address).conduct_key, error):
            for session in self._sessions.values():
                if session.node is node:
                    session.drop(error)

    def is_taken(self, address: Address) -> bool:
        """Answer whether an address is on the dial list or this node's own."""
        is_own = address in self._own or str(address) == self._identity.listen_address
        return is_own or address in self._listed

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

    async def talk(self, address: Address, on_handshake: Callable[[], None] | None) -> None:
        """Connect and hold a session until it ends; without a callback, end it after the handshake.

        Raises as :meth:`Session.run`, and :class:`Unavailable` where the address is this node's own.
        """
        if not await self._talk(str(address), on_handshake, is_brief=on_handshake is None):
            self._own.add(address)
            raise Unavailable(f"{address} is this node itself")

    async def _keep(self, address: str) -> None:
        backoff, key = Backoff(), parse_address(address).conduct_key
        while True:
            started = asyncio.get_running_loop().time()
            try:
                if not await self._talk(address):
                    log.warning("peer %s is this node itself; not dialled again", address)
                    return
            except Invalid as error:
                self._conduct.blame(key, error)
                log.warning("peer %s: %s", address, error)
            except BnnchainError as error:
                log.info("peer %s: %s", address, error)
            except Exception:
                # A bug of ours in one session must not end the dialling of this peer for ever: said, then tried again.
                log.exception("peer %s: internal error", address)
            if asyncio.get_running_loop().time() - started > STABLE_S:
                backoff.reset()
            await asyncio.sleep(max(backoff.next_s(), self._conduct.ban_left_s(key)))

    async def _talk(
        self, address: str, on_handshake: Callable[[], None] | None = None, *, is_brief: bool = False
    ) -> bool:
        """Connect and hold a session; return False where the node is this one, so that it is never tried again."""
        async with NodeClient(address, security=self._security, allow_plain=self._allow_plain) as node:
            chain = self._intake.chain
            theirs = await node.handshake(self._identity.hello(chain.spec, self._intake.head, chain.now()))
            if theirs.node_id == self._identity.node_id:
                return False
            if on_handshake is not None:
                on_handshake()
            if is_brief:
                return True
            session = Session(node, theirs, self._intake, self._arrivals, self._sync, self._conduct, self._settle)
            self._sessions[address] = session
            log.info("connected to %s (%s, height %d)", address, theirs.agent, theirs.head.height)
            self._compare_clocks(address, theirs.time_s)
            try:
                await run_until_first_ends(session.run(), self._exchange(node))
            finally:
                del self._sessions[address]
        return True

    def _compare_clocks(self, address: str, theirs_s: int) -> None:
        """Say so where one of two clocks is wrong by more than blocks may come from the future; nobody is blamed."""
        chain = self._intake.chain
        difference_s = chain.now() - theirs_s
        if theirs_s and abs(difference_s) > chain.spec.params_at(chain.head.height).future_limit_s:
            side = "ahead of" if difference_s > 0 else "behind"
            log.warning(
                "the clock here is %d s %s that of %s: blocks will be refused", abs(difference_s), side, address
            )

    async def _exchange(self, node: NodeClient) -> None:
        """Ask a peer for addresses now and then, as long as it lasts."""
        source = parse_address(node.address)
        while True:
            if self._learn is not None:
                with suppress(Unavailable, Fault):
                    self._learn(source, await node.peers())
            await asyncio.sleep(limits.PEERS_REFRESH_S)

    async def _settle(self) -> None:
        """Of tips of equal weight, take the one that most peers are on; a peer has a new head."""
        agreed = self.agreement.block_id
        if agreed is not None and agreed != self._intake.head.block_id:
            await self._intake.prefer(agreed)
