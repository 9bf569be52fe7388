"""Where a pool of workers is: processes of this machine, or a port that workers of any machine dial."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from bnnchain.mining.evolve import MAX_SEARCH_THREADS
from bnnchain_kernels.errors import Invalid

LOCAL, TLS, TCP = "local", "tls", "tcp"
MAX_PORT = 65_535
MAX_LOCAL_WORKERS = 64
MAX_LANES = MAX_SEARCH_THREADS
_NO_HOST = "/%?#@[]"


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """``local:N``, ``tls://HOST:PORT``, or ``tcp://HOST:PORT`` on loopback."""

    scheme: str
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    worker_count: int = 0
    """Processes to start; 0 where workers come by themselves."""

    def __str__(self) -> str:
        if self.scheme == LOCAL:
            return f"{LOCAL}:{self.worker_count}"
        return f"{self.scheme}://[{self.host}]:{self.port}" if ":" in self.host else self._plain()

    def _plain(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def parse_pool_address(text: str) -> PoolAddress:
    """Return the address of a text; raises ``bad-pool-address`` naming what is wrong.

    Whoever reaches a pool without certificates runs code on its workers, so plain TCP is for loopback alone.
    """
    scheme, _, rest = text.partition(":")
    if scheme == LOCAL:
        if not _is_number(rest, MAX_LOCAL_WORKERS) or rest == "0":
            raise Invalid("bad-pool-address", address=text, reason=f"local:N, N from 1 to {MAX_LOCAL_WORKERS}")
        return PoolAddress(LOCAL, worker_count=int(rest))
    host, _, port = rest.removeprefix("//").rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_host = host and all("!" <= letter <= "~" and letter not in _NO_HOST for letter in host)
    if scheme not in {TLS, TCP} or not rest.startswith("//") or not is_host or not _is_number(port, MAX_PORT):
        raise Invalid("bad-pool-address", address=text, reason="not like local:2 or tls://192.168.1.10:8786")
    if scheme == TCP and not _is_loopback(host):
        raise Invalid("bad-pool-address", address=text, reason="plain tcp is for 127.0.0.1 and ::1; use tls")
    return PoolAddress(scheme, host, int(port))


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
