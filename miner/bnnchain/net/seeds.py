"""Seed lists: where a node that knows nobody finds its first peers.

One ``host:port`` a line; what follows ``#`` is a comment.  A host is an IP address or a name; a name is looked up when
the node starts, and each of its addresses is a seed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.net.address import Address, parse_address, parse_peer_address

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_SEEDS = 1_024
MAX_SEED_FILE_BYTES = 1 << 18
MAX_ADDRESSES_PER_NAME = 16
LOOKUP_TIMEOUT_S = 10.0


def read_seeds(path: Path) -> list[Address]:
    """Return the seeds of a file; raises :class:`Invalid` ``bad-seeds`` with the line, or :class:`Unavailable`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SEED_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read the seed list {path}: {error.strerror}") from error
    if len(data) > MAX_SEED_FILE_BYTES:
        raise Invalid("bad-seeds", file=path, reason="too large", limit_bytes=MAX_SEED_FILE_BYTES)
    return parse_seeds(data.decode(errors="replace"), str(path))


def parse_seeds(text: str, name: str) -> list[Address]:
    """Return the seeds of a list that people call ``name``; raises :class:`Invalid` ``bad-seeds`` with the line."""
    seeds: dict[Address, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            address = parse_address(content)
        except Invalid:
            address = Address("", 0)
        if not address.is_dialable:
            raise Invalid("bad-seeds", file=name, line=number, given=ascii(content[:80]), wanted="host:port")
        seeds[address] = None
    if len(seeds) > MAX_SEEDS:
        raise Invalid("bad-seeds", file=name, count=len(seeds), limit=MAX_SEEDS)
    return list(seeds)


async def resolve(seeds: Iterable[Address]) -> list[Address]:
    """Return the seeds with names replaced by their IP addresses; a name that nobody knows is said and left out."""
    found = await asyncio.gather(*(_resolve(seed) for seed in seeds))
    return list(dict.fromkeys(address for addresses in found for address in addresses))


async def _resolve(seed: Address) -> list[Address]:
    if seed.ip is not None:
        return [parse_peer_address(str(seed))]
    loop = asyncio.get_running_loop()
    try:
        looking = loop.getaddrinfo(seed.host, seed.port, type=socket.SOCK_STREAM)
        answers = await asyncio.wait_for(looking, LOOKUP_TIMEOUT_S)
    except (OSError, UnicodeError, asyncio.TimeoutError) as error:
        log.warning("seed %s was not found: %s", seed, str(error) or "no answer")
        return []
    addresses = []
    for *_, location in answers[:MAX_ADDRESSES_PER_NAME]:
        try:
            addresses.append(parse_peer_address(str(Address(str(location[0]), seed.port))))
        except Invalid:
            continue  # an address with a zone, or of no single host
    return addresses
