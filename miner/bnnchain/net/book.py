"""The address book: where nodes may be found, kept so that no neighbourhood can crowd out the others.

As in Bitcoin's address manager (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", 2015), *new*
addresses, which somebody told us, and *tried* ones, with which a handshake of ours succeeded, live in two tables of
buckets.  A secret key spreads each netgroup over a few buckets only, so one that tells us a million addresses fills
a few buckets and no more.  An address that works is never displaced by one that has just come.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bnnchain.net.address import Address

KEY_BYTES = 16
BUCKET_SIZE = 32
NEW_BUCKETS = 128
TRIED_BUCKETS = 32
NEW_BUCKETS_PER_SOURCE = 16
"""What one netgroup tells us fills at most an eighth of the new table."""
TRIED_BUCKETS_PER_NETGROUP = 4
"""The addresses of one netgroup fill at most an eighth of the tried table."""
MAX_NEW = NEW_BUCKETS * BUCKET_SIZE
MAX_TRIED = TRIED_BUCKETS * BUCKET_SIZE

MAX_ANCHORS = 2
RETRY_S = 60.0
MAX_RETRY_S = 6 * 3_600.0
MAX_NEW_FAILURES = 3
"""A new address that failed this often is forgotten."""
MAX_TRIED_FAILURES = 8
STALE_FAILURES = 2
"""A tried address that failed this often gives its place to one that works."""


@dataclass(slots=True)
class Entry:
    """One address and what we know of it; times are of the clock, 0: never."""

    address: Address
    source: str
    """Netgroup of whoever told us first."""
    is_tried: bool = False
    attempted_s: float = 0.0
    succeeded_s: float = 0.0
    failures: int = 0
    """Since the last success."""
    place: int = -1
    """In the table that holds it."""

    def is_due(self, now_s: float) -> bool:
        """Answer whether it may be dialled again: pauses double with each failure."""
        pause_s = min(MAX_RETRY_S, RETRY_S * 2 ** min(self.failures, MAX_TRIED_FAILURES))
        # A clock that was set back must not make an address wait for ever.
        return not 0 <= now_s - self.attempted_s < pause_s


class AddressBook:
    """Addresses of nodes in two tables of buckets; used from the event loop only.

    key: secret bytes that spread addresses; the same for the whole life of a book.
    """

    def __init__(
        self,
        key: bytes | None = None,
        draw: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = key or secrets.token_bytes(KEY_BYTES)
        self.anchors: list[Address] = []
        """The outbound peers that we last had, best first: dialled before all others after a restart."""
        self._draw = draw or random.SystemRandom()
        self._clock = clock
        self._entries: dict[Address, Entry] = {}
        self._new: dict[int, Address] = {}
        self._tried: dict[int, Address] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, address: Address) -> bool:
        return address in self._entries

    @property
    def entries(self) -> Iterable[Entry]:
        """All that is in the book."""
        return self._entries.values()

    @property
    def tried_count(self) -> int:
        """Addresses with which a handshake succeeded, and which have their place."""
        return len(self._tried)

    def add(self, address: Address, source: Address) -> bool:
        """Note an address that ``source`` told us; answer whether it has a place.

        An address of a narrower scope than its source's is not noted: whoever is on the Internet knows nothing of our
        own machine or network.
        """
        if address in self._entries:
            return True
        if not address.is_dialable or address.scope < source.scope:
            return False
        return self._place_new(Entry(address, source.netgroup))

    def restore(self, entry: Entry) -> None:
        """Put an entry of an earlier run back where it was, as far as there is room."""
        if entry.address not in self._entries and not (entry.is_tried and self._place_tried(entry)):
            self._place_new(entry)

    def attempt(self, address: Address) -> None:
        """Note that the address is dialled now."""
        if (entry := self._entries.get(address)) is not None:
            entry.attempted_s = self._clock()

    def succeed(self, address: Address) -> None:
        """Note a handshake: the address moves to the tried table, where its place is free or held by a stale one."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.succeeded_s, entry.failures = self._clock(), 0
        if not entry.is_tried:
            self._place_tried(entry)

    def fail(self, address: Address) -> None:
        """Note that dialling failed; forget the address where that was once too often."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.failures += 1
        if entry.failures >= (MAX_TRIED_FAILURES if entry.is_tried else MAX_NEW_FAILURES):
            self._forget(entry)

    def choose(self, is_wanted: Callable[[Address], bool], *, is_new: bool = False) -> Address | None:
        """Return an address to dial, drawn by lot, or None where none is due.

        First one of the tables is drawn, then a netgroup of it, then one of its addresses: a netgroup with a thousand
        addresses is drawn no more often than one with a single address.

        is_new: only one that was never tried.
        """
        now_s = self._clock()
        tables: dict[bool, dict[str, list[Address]]] = {}
        for entry in self._entries.values():
            if not (is_new and entry.succeeded_s) and entry.is_due(now_s) and is_wanted(entry.address):
                groups = tables.setdefault(entry.is_tried, {})
                groups.setdefault(entry.address.netgroup, []).append(entry.address)
        if not tables:
            return None
        groups = tables[self._draw.choice(sorted(tables))]
        return self._draw.choice(groups[self._draw.choice(sorted(groups))])

    def sample(self, asker: Address, limit: int) -> list[Address]:
        """Return up to ``limit`` addresses by lot that ``asker`` may use; only such as worked for us."""
        known = [
            entry.address
            for entry in self._entries.values()
            if entry.succeeded_s and entry.failures < STALE_FAILURES and entry.address.scope >= asker.scope
        ]
        return self._draw.sample(known, min(limit, len(known)))

    def _place_new(self, entry: Entry) -> bool:
        group = entry.address.netgroup
        lane = self._hash("lane", entry.source, group) % NEW_BUCKETS_PER_SOURCE
        bucket = self._hash("new", entry.source, lane) % NEW_BUCKETS
        place = bucket * BUCKET_SIZE + self._hash("place", bucket, entry.address) % BUCKET_SIZE
        holder = self._new.get(place)
        if holder is not None:
            if not self._entries[holder].failures:
                return False
            self._forget(self._entries[holder])
        entry.is_tried, entry.place = False, place
        self._new[place] = entry.address
        self._entries[entry.address] = entry
        return True

    def _place_tried(self, entry: Entry) -> bool:
        group = entry.address.netgroup
        lane = self._hash("tried lane", entry.address) % TRIED_BUCKETS_PER_NETGROUP
        bucket = self._hash("tried", group, lane) % TRIED_BUCKETS
        place = bucket * BUCKET_SIZE + self._hash("tried place", bucket, entry.address) % BUCKET_SIZE
        holder = self._tried.get(place)
        if holder is not None:
            if self._entries[holder].failures < STALE_FAILURES:
                return False
            self._forget(self._entries[holder])
        self._forget(entry)
        entry.is_tried, entry.place = True, place
        self._tried[place] = entry.address
        self._entries[entry.address] = entry
        return True

    def _forget(self, entry: Entry) -> None:
        if self._entries.pop(entry.address, None) is not None:
            del (self._tried if entry.is_tried else self._new)[entry.place]

    def _hash(self, *parts: object) -> int:
        text = "\0".join(map(str, parts)).encode()
        return int.from_bytes(hashlib.blake2b(text, key=self.key, digest_size=8).digest(), "big")
