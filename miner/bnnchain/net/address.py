"""Addresses of nodes: ``host:port`` or ``[v6]:port``; plain TCP leaves this machine only where that is allowed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from bnnchain.consensus.errors import Invalid

MAX_ADDRESS_BYTES = 261
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it cannot be reached from another machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: str) -> Address:
    """Return the address written as ``text``; raises :class:`Invalid` ``bad-address``."""
    host, separator, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_host = host and all("!" <= letter <= "~" and letter not in "/%?#@[]" for letter in host)
    is_port = port.isascii() and port.isdigit() and int(port) <= MAX_PORT
    if len(text) > MAX_ADDRESS_BYTES or not separator or not is_host or not is_port:
        raise Invalid("bad-address", address=ascii(text[:MAX_ADDRESS_BYTES]), wanted="host:port")
    return Address(host, int(port))


def validate_plain(address: Address, *, allow_plain: bool) -> None:
    """Raise :class:`Invalid` ``insecure-address`` where plain TCP would leave this machine without permission."""
    if not (allow_plain or address.is_loopback):
        raise Invalid("insecure-address", address=address, reason="plain TCP is allowed on loopback addresses only")
