"""Addresses of nodes: ``host:port`` or ``[v6]:port``, how far they reach, and which of them are neighbours.

Plain TCP leaves this machine only where that is allowed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from bnnchain.consensus.errors import Invalid

MAX_ADDRESS_BYTES = 261
MAX_PORT = 65_535
NETGROUP_BITS = {4: 16, 6: 32}
"""What one operator or provider commonly holds, by version of the Internet protocol."""


MAX_CACHED = 8_192
"""Parsed hosts that are remembered: more than an address book holds."""


class Scope(IntEnum):
    """From where an address can be reached."""

    LOOPBACK = 0
    PRIVATE = 1
    GLOBAL = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address, an IPv4 one that is written as IPv6 as the former; None where it is a name."""
        return _parse_ip(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether it cannot be reached from another machine."""
        ip = self.ip
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def scope(self) -> Scope:
        """From where it can be reached; a name from everywhere."""
        if self.is_loopback:
            return Scope.LOOPBACK
        ip = self.ip
        return Scope.PRIVATE if ip is not None and (ip.is_private or ip.is_link_local) else Scope.GLOBAL

    @property
    def is_dialable(self) -> bool:
        """Whether a node can be reached there at all: one host and a port."""
        ip = self.ip
        is_one_host = ip is None or ip.is_loopback or not (ip.is_unspecified or ip.is_multicast or ip.is_reserved)
        return self.port > 0 and is_one_host

    @property
    def netgroup(self) -> str:
        """What one attacker gets cheaply together: /16 of IPv4, /32 of IPv6; on loopback each port is its own."""
        ip = self.ip
        if ip is None or ip.is_loopback:
            return str(self)
        return _network(ip)

    @property
    def conduct_key(self) -> str:
        """Whom to blame: the host; on loopback, which all local nodes share, the address with its port."""
        return str(self) if self.is_loopback else str(self.ip or self.host)


@lru_cache(MAX_CACHED)
def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


@lru_cache(MAX_CACHED)
def _network(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return str(ipaddress.ip_network((ip, NETGROUP_BITS[ip.version]), strict=False))


def parse_address(text: str) -> Address:
    """Return the address written as ``text``; raises :class:`Invalid` ``bad-address``."""
    host, separator, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    is_host = (
        host
        and is_bracketed == (":" in host)
        and all("!" <= letter <= "~" and letter not in "/%?#@[]" for letter in host)
    )
    is_port = port.isascii() and port.isdigit() and len(port) <= len(str(MAX_PORT)) and int(port) <= MAX_PORT
    if len(text) > MAX_ADDRESS_BYTES or not separator or not is_host or not is_port:
        raise Invalid("bad-address", address=ascii(text[:MAX_ADDRESS_BYTES]), wanted="host:port")
    return Address(host, int(port))


def parse_peer_address(text: str) -> Address:
    """Return an address that nodes tell each other: an IP address in its one spelling, and a port.

    Raises :class:`Invalid` ``bad-address`` for names (whoever tells a name chooses whom we ask for it), and for
    addresses at which no single node can be.
    """
    address = parse_address(text)
    if address.ip is None or not address.is_dialable:
        raise Invalid("bad-address", address=ascii(text), wanted="the IP address of a node, and its port")
    return Address(str(address.ip), address.port)


def parse_connection(text: str) -> Address:
    """Return the address in gRPC's name of a connection, ``ipv4:host:port`` or ``ipv6:[host]:port``.

    Raises :class:`Invalid` ``bad-address``.
    """
    return parse_address(text.partition(":")[2].replace("%5B", "[").replace("%5D", "]"))


def validate_plain(address: Address, *, allow_plain: bool) -> None:
    """Raise :class:`Invalid` ``insecure-address`` where plain TCP would leave this machine without permission."""
    if not (allow_plain or address.is_loopback):
        raise Invalid(
            "insecure-address",
            address=address,
            reason="plain TCP is allowed on loopback addresses only; use --tls DIR, or --allow-plain",
        )
