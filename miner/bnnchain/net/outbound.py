"""The peers that a node chooses itself from its address book: of many netgroups, so that no single one surrounds it.

Anchors of the last run come first, then addresses by lot.  Where all places are taken, an address that was never tried
is dialled now and then and left again (a feeler), so that the book knows working ones for the day that they are needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import BnnchainError, Invalid
from bnnchain.net import limits
from bnnchain.net.book import MAX_ANCHORS
from bnnchain.net.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bnnchain.net.address import Address
    from bnnchain.net.book import AddressBook
    from bnnchain.net.conduct import Conduct

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
FEELER_INTERVAL_S = 60.0


class Outbound:
    """Keeps ``target`` peers of the book connected; ``start`` begins, ``stop`` ends every session.

    talk: dials an address and holds a session, calling back once the handshake is done; without a callback it only
    shakes hands.  is_taken: whether an address is dialled otherwise, or is this node's own.
    """

    def __init__(
        self,
        book: AddressBook,
        conduct: Conduct,
        talk: Callable[[Address, Callable[[], None] | None], Awaitable[None]],
        is_taken: Callable[[Address], bool],
        target: int,
    ) -> None:
        self._book = book
        self._conduct = conduct
        self._talk = talk
        self._is_taken = is_taken
        self._target = target
        self._sessions: dict[Address, asyncio.Task[None]] = {}
        self._connected: dict[Address, None] = {}
        """Those after the handshake, the oldest first."""
        self._feeler: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._anchors = list(book.anchors)

    @property
    def connected(self) -> list[Address]:
        """Chosen peers with a session, the longest connected first."""
        return list(self._connected)

    @property
    def is_short(self) -> bool:
        """Whether there are fewer peers than wanted."""
        return len(self._connected) < self._target

    def start(self) -> None:
        """Begin to dial."""
        if self._target:
            self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End everything; the anchors stay in the book."""
        self.note_anchors()
        tasks = [*self._sessions.values(), *(task for task in (self._loop, self._feeler) if task is not None)]
        await cancel_and_wait(tasks)

    def note_anchors(self) -> None:
        """Write into the book whom to dial first after a restart; an empty list never replaces one."""
        if self._connected:
            self._book.anchors = self.connected[:MAX_ANCHORS]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        felt_s = loop.time()
        while True:
            self._fill()
            is_idle = self._feeler is None or self._feeler.done()
            if not self.is_short and is_idle and loop.time() - felt_s >= FEELER_INTERVAL_S:
                felt_s = loop.time()
                if (address := self._book.choose(self._is_free, is_new=True)) is not None:
                    self._feeler = asyncio.create_task(self._dial(address, is_feeler=True))
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _fill(self) -> None:
        while len(self._sessions) < self._target and (address := self._next()) is not None:
            self._book.attempt(address)
            self._sessions[address] = asyncio.create_task(self._dial(address))

    def _next(self) -> Address | None:
        groups = Counter(address.netgroup for address in self._sessions)

        def is_wanted(address: Address) -> bool:
            return groups[address.netgroup] < limits.MAX_OUTBOUND_PER_NETGROUP and self._is_free(address)

        while self._anchors:
            if is_wanted(anchor := self._anchors.pop(0)):
                return anchor
        return self._book.choose(is_wanted)

    def _is_free(self, address: Address) -> bool:
        is_used = address in self._sessions or self._is_taken(address)
        return not is_used and not self._conduct.is_banned(address.conduct_key)

    async def _dial(self, address: Address, *, is_feeler: bool = False) -> None:
        is_met = False

        def succeed() -> None:
            nonlocal is_met
            is_met = True
            self._book.succeed(address)
            self._connected[address] = None

        try:
            await self._talk(address, None if is_feeler else succeed)
            if is_feeler:
                is_met = True
                self._book.succeed(address)
        except Invalid as error:
            self._conduct.blame(address.conduct_key, error)
            log.info("peer %s: %s", address, error)
        except BnnchainError as error:
            log.debug("peer %s: %s", address, error)
        except Exception:
            log.exception("peer %s: internal error", address)
        finally:
            self._connected.pop(address, None)
            if not is_feeler:
                self._sessions.pop(address, None)
        # While nobody at all can be reached, it is our own line that is down: no address is to be forgotten for that.
        if not is_met and self._connected:
            self._book.fail(address)
