"""What a node tells systemd: that it serves, at what height it is, that its event loop turns, that it stops.

Source: sd_notify(3), sd_watchdog_enabled(3); a datagram to the socket that ``NOTIFY_SOCKET`` names.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PINGS_PER_WATCHDOG = 3
"""One that comes late must not end a node that works."""
MAX_STATUS_CHARACTERS = 200


class Supervisor:
    """Tells the service manager how a node is; without one, nobody."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """address: path of the socket, an abstract one's with a leading @; watchdog_s: how long silence is forgiven."""
        self._address = address
        self.watchdog_s = watchdog_s if address else None

    @classmethod
    def from_environment(cls) -> Supervisor:
        """Return the one that systemd has asked for; takes its variables away, so that no child speaks for the node."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        limit, owner = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        is_ours = limit.isdecimal() and int(limit) > 0 and owner in {"", str(os.getpid())}
        return cls(address, int(limit) / 1e6 if is_ours else None)

    def ready(self, status: str) -> None:
        """Say that the node serves now."""
        self._tell(f"READY=1\n{_status_line(status)}")

    def status(self, status: str) -> None:
        """Say what it is at, in a line for `systemctl status`."""
        self._tell(_status_line(status))

    @asynccontextmanager
    async def watching(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Inside, tell the watchdog that this event loop turns, and that the node stops once ``stop`` is set."""
        tasks = [asyncio.create_task(self._tell_stop(stop)), asyncio.create_task(self._keep_alive())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._tell("STOPPING=1")

    async def _keep_alive(self) -> None:
        while self.watchdog_s is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / PINGS_PER_WATCHDOG)

    def _tell(self, state: str) -> None:
        if self._address is None:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            datagrams.settimeout(0)
            # A manager that is gone or does not read must not end a node that works.
            with suppress(OSError):
                datagrams.sendto(state.encode(), name)


def _status_line(status: str) -> str:
    return f"STATUS={' '.join(status.split())[:MAX_STATUS_CHARACTERS]}"
