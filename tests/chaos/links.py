"""TCP links between nodes that a test can cut, refuse or let hang."""

from __future__ import annotations

import asyncio
from contextlib import suppress

READ_BYTES = 1 << 16


class Link:
    """Listens on a port of its own and passes bytes on to a target, as long as it is told to."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self.connection_count = 0
        """Connections that were passed on since the beginning."""
        self.address = ""

    async def open(self) -> str:
        """Start to listen; return the address."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self.address

    def cut(self) -> None:
        """Break what is connected and refuse what comes, until :meth:`heal`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Pass nothing on and break nothing: both ends wait, until :meth:`heal`."""
        self._flows.clear()

    def heal(self) -> None:
        """Be a plain connection again."""
        self._is_cut = False
        self._flows.set()

    async def close(self) -> None:
        """Stop listening and break what is connected."""
        self.cut()
        self._flows.set()
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # the target is down
            return
        self.connection_count += 1
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
