"""Eight real node processes on loopback, some of them miners, joined by links that can be broken."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.links import Link
from e2e.processes import NodeProcess, bnnchain

from bnnchain.consensus.errors import BnnchainError
from bnnchain.net.client import NodeClient

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from bnnchain.net.messages import Status

NODES = 8
MINERS = 3
DIALS = (1, 3)
"""Each node dials the ones so far ahead of it, in a circle: no single cut splits the network."""
HOLD_S = "6"
"""A fresh tip waits so long before anybody mines on it: blocks at that distance cost little."""
STATUS_TIMEOUT_S = 20.0


@dataclass
class Member:
    """One node over all its lives."""

    number: int
    home: Path
    port: int
    links: list[Link] = field(default_factory=list)
    """Those that it dials others by."""
    process: NodeProcess | None = None
    started_s: float = 0.0
    highest: int = 0
    """The height that it has printed, over all its lives."""
    rss: list[tuple[float, int]] = field(default_factory=list)
    """(time in s, KiB) since its last start."""
    lives: int = 0

    @property
    def is_miner(self) -> bool:
        return self.number < MINERS

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *, is_mining: bool) -> None:
        """Start the process and wait until it serves."""
        peers = [argument for link in self.links for argument in ("--peer", link.address)]
        mining = ["mine", "--hold", HOLD_S, "--threads", "1", "--seed", str(self.number)] if is_mining else ["node"]
        listen = self.address
        self.process = NodeProcess(*mining, "--backend", "c", *peers, home=self.home, listen=listen)
        self.process.wait_ready()
        self.started_s = time.monotonic()
        self.rss = []
        self.lives += 1

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self._note_height()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        code = self.process.stop(60)
        self._note_height()
        return code

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def sample(self) -> None:
        """Note what the process prints and how large it is."""
        assert self.process is not None
        self.process.read_for(0.01)
        self._note_height()
        self.rss.append((time.monotonic(), rss_kib(self.process.pid)))

    def _note_height(self) -> None:
        assert self.process is not None
        self.highest = max(self.highest, self.process.height)

    async def status(self) -> Status | None:
        """Return what it says of itself, None where it does not answer."""
        try:
            async with NodeClient(self.address) as client:
                return await asyncio.wait_for(client.status(), STATUS_TIMEOUT_S)
        except (BnnchainError, asyncio.TimeoutError):
            return None


class Cluster:
    """The nodes and what can be done to them; ``log`` tells what was done."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._rng = rng
        self._begin_s = time.monotonic()
        self.log: list[str] = []
        self.members = [
            Member(number, directory / f"node{number}", port) for number, port in enumerate(_free_ports(NODES))
        ]

    async def start(self) -> None:
        """Make the homes and links and start every node, the first miner first."""
        first, *others = self.members
        await asyncio.to_thread(bnnchain, "init", "--home", str(first.home))
        spec = str(first.home / "chain.json")
        for member in others:
            await asyncio.to_thread(bnnchain, "init", "--home", str(member.home), "--spec", spec)
        for member in self.members:
            for step in DIALS:
                link = Link(("127.0.0.1", self.members[(member.number + step) % NODES].port))
                await link.open()
                member.links.append(link)
        for member in self.members:
            await asyncio.to_thread(member.start, is_mining=member.is_miner)

    async def disturb(self, down_s: float) -> None:
        """Do one thing to one node for ``down_s``: kill, pause, cut off or stall; then undo it."""
        member = self._rng.choice(self.members)
        what = self._rng.choice(["kill", "pause", "cut", "stall"])
        self.log.append(f"{time.monotonic() - self._begin_s:6.1f} s: {what} node {member.number} for {down_s:.1f} s")
        links = self._links_of(member)
        if what == "kill":
            await asyncio.to_thread(member.kill)
        elif what == "pause":
            member.signal(signal.SIGSTOP)
        else:
            for link in links:
                getattr(link, what)()
        await asyncio.sleep(down_s)
        if what == "kill":
            await asyncio.to_thread(member.start, is_mining=member.is_miner)
        elif what == "pause":
            member.signal(signal.SIGCONT)
        for link in links:
            link.heal()

    def sample(self) -> None:
        for member in self.members:
            member.sample()

    async def stop_mining(self) -> None:
        """Let the miners end as an operator would, and come back as validators."""
        for member in self.members[:MINERS]:
            assert await asyncio.to_thread(member.stop) == 0, f"node {member.number}"
            await asyncio.to_thread(member.start, is_mining=False)

    async def wait_for_one_tip(self, timeout_s: float) -> tuple[bytes, int, float]:
        """Return the block id and height that all nodes stand on, and the seconds that it took."""
        begin_s = time.monotonic()
        heads: list[tuple[bytes, int] | None] = []
        while time.monotonic() - begin_s < timeout_s:
            told = await asyncio.gather(*(member.status() for member in self.members))
            heads = [status and (status.head.block_id, status.head.height) for status in told]
            if len(set(heads)) == 1 and heads[0] is not None:
                return *heads[0], time.monotonic() - begin_s
            await asyncio.sleep(0.5)
        message = f"no one tip in {timeout_s} s: {[head and (head[0].hex()[:8], head[1]) for head in heads]}"
        raise AssertionError(message)

    async def close(self) -> None:
        """End every process and link that is left."""
        for member in self.members:
            if member.process is not None:
                with suppress(ProcessLookupError):
                    member.signal(signal.SIGCONT)
                await asyncio.to_thread(member.process.kill)
            for link in member.links:
                await link.close()

    def _links_of(self, member: Member) -> list[Link]:
        """Return the links from and to a node."""
        towards = [
            link
            for other in self.members
            for link, step in zip(other.links, DIALS, strict=True)
            if (other.number + step) % NODES == member.number
        ]
        return [*member.links, *towards]


def rss_kib(pid: int) -> int:
    """Return a process's resident memory."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def _free_ports(count: int) -> list[int]:
    """Return ports that were free together; a node binds its own again after each restart."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
