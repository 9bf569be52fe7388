"""A real node under hostile peers stays up and small, keeps its log clean, and still takes an honest peer's block.

A failure prints the seed (CHAOS_SEED); HOSTILE_S is how long the crowd stays.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from builders import Builder, make_spec
from chaos import hostile_http
from chaos.cluster import rss_kib
from chaos.hostile import HABITS, claim_fields, claim_frames, claim_messages, misbehave, oversize
from e2e.processes import NodeProcess
from learnable import OWN, tiny_dataset
from typing_extensions import Self

from bnnchain.chain.chain import Chain
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.errors import BnnchainError
from bnnchain.consensus.state import genesis_state
from bnnchain.datasets.payload import encode_payload
from bnnchain.home import Home, format_spec
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Outcome
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from chaos.hostile import Peer

    Habit = Callable[[Peer], Awaitable[None]]

SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
HOSTILE_S = float(os.environ.get("HOSTILE_S", "20"))
HABIT_S = 5.0
FEW = 8
CROWD = 100
HONEST_S = 20.0
"""In which an honest peer's block must be accepted, however crowded the node is."""
SETTLE_S = 2.0
FEW_KIB = 48 << 10
CROWD_KIB = 160 << 10
"""What 100 hostile connections may cost: 1.6 MiB each."""
MEMORY_BYTES = 1 << 30
"""Of address space beside what the node has: half of what the smallest lie claims."""


class Victim:
    """A node process on the tests' small chain, and an honest peer of it that makes blocks."""

    def __init__(self, directory: Path, *options: str) -> None:
        home = Home(directory / "node")
        home.path.mkdir()
        spec = make_spec()
        home.spec_file.write_text(format_spec(spec))
        store = Store(home.store_file, spec)
        Chain(store, ReferenceEvaluator).add_dataset(OWN, encode_payload(tiny_dataset().pool))
        store.close()
        self._honest = Builder(genesis_state(spec))
        self.process = NodeProcess("node", "--backend", "c", *options, home=home.path)
        self.address = ""

    def __enter__(self) -> Self:
        self.address = self.process.wait_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.process.kill()
            return
        self.is_clean()
        assert self.process.stop() == 0
        assert "Traceback" not in self.process.stderr_file.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def is_served(self) -> float:
        """Announce a block as an honest peer that tries again where it is cut; return the seconds until accepted."""
        block, begin_s = self._honest.idle(), time.monotonic()
        answers: list[str] = []
        while time.monotonic() - begin_s < HONEST_S:
            try:
                async with NodeClient(self.address) as client:
                    verdict = await client.announce_block(encode_block(block))
            except BnnchainError as error:
                answers.append(str(error))
                await asyncio.sleep(0.2)
                continue
            answers.append(verdict.outcome.name)
            if verdict.outcome in {Outcome.ACCEPTED, Outcome.KNOWN}:
                self._honest.take(block)
                return time.monotonic() - begin_s
            await asyncio.sleep(0.2)
        raise AssertionError(f"seed {SEED}: no block of an honest peer was accepted in {HONEST_S} s: {answers[-5:]}")

    def is_clean(self) -> None:
        """It runs, and nothing in its log is a failure of its own."""
        self.process.read_for(0.01)
        assert self.process._process.poll() is None
        said = self.process.stderr_file.read_text()
        for word in ("Traceback", "internal error", "MemoryError", "Exception in callback", "never retrieved"):
            assert word not in said, f"seed {SEED}: {said[-3_000:]}"


@asynccontextmanager
async def besieged(address: str, habits: Sequence[Habit], count: int) -> AsyncIterator[None]:
    """Let ``count`` hostile peers of these habits connect for as long as the block runs."""
    peers = [
        asyncio.create_task(misbehave(address, habits[number % len(habits)], SEED + number)) for number in range(count)
    ]
    try:
        yield
    finally:
        for peer in peers:
            peer.cancel()
        await asyncio.gather(*peers, return_exceptions=True)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with Victim(tmp_path_factory.mktemp("victim")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
async def test_a_few_of_one_habit(victim: Victim, habit: Habit) -> None:
    await victim.is_served()
    before = rss_kib(victim.pid)
    async with besieged(victim.address, [habit], FEW):
        await asyncio.sleep(HABIT_S)
        took_s = await victim.is_served()
        grown = rss_kib(victim.pid) - before
    victim.is_clean()
    print(f"{habit.__name__}: honest block accepted after {took_s:.2f} s, {grown} KiB grown")
    assert grown < FEW_KIB


@pytest.mark.slow
async def test_a_hundred_of_all_habits(tmp_path: Path) -> None:
    with Victim(tmp_path) as victim:
        await victim.is_served()
        before, grown, took_s = rss_kib(victim.pid), 0, 0.0
        async with besieged(victim.address, HABITS, CROWD):
            begin_s = time.monotonic()
            while time.monotonic() - begin_s < HOSTILE_S:
                await asyncio.sleep(2)
                took_s = max(took_s, await victim.is_served())
                grown = max(grown, rss_kib(victim.pid) - before)
        await asyncio.sleep(SETTLE_S)
        after_s = await victim.is_served()
        print(
            f"{CROWD} peers for {HOSTILE_S} s: honest blocks after at most {took_s:.2f} s, {grown} KiB grown;"
            f" {after_s:.2f} s once they had gone"
        )
        assert grown < CROWD_KIB


@pytest.mark.slow
async def test_what_is_claimed_is_never_allocated(tmp_path: Path) -> None:
    """Under a limit of address space that one believed lie would break."""
    with Victim(tmp_path) as victim:
        await victim.is_served()
        with open(f"/proc/{victim.pid}/statm") as statm:  # noqa: PTH123, ASYNC230  (of the kernel's memory)
            limit = int(statm.read().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.prlimit(victim.pid, resource.RLIMIT_AS, (limit, limit))
        async with besieged(victim.address, [claim_frames, claim_messages, claim_fields, oversize], 20):
            await asyncio.sleep(HABIT_S)
            await victim.is_served()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["metrics", "web"])
async def test_a_hundred_at_the_other_doors(page: str, tmp_path: Path) -> None:
    """The metrics' and the explorer's port: whoever sits there keeps neither the page nor the chain from others."""
    if page == "web":
        for package in ("uvicorn", "starlette", "jinja2", "pygal", "PIL"):
            pytest.importorskip(package, reason="the extra web is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = "/metrics" if page == "metrics" else "/"
    with Victim(tmp_path, f"--{page}", address) as victim:
        await victim.is_served()
        await asyncio.to_thread(_is_shown, f"http://{address}{path}")
        before = rss_kib(victim.pid)
        async with besieged(address, hostile_http.HABITS, CROWD):
            await asyncio.sleep(HOSTILE_S / 2)
            served_s = await victim.is_served()
            shown_s = await asyncio.to_thread(_is_shown, f"http://{address}{path}")
            grown = rss_kib(victim.pid) - before
        print(f"{page}: block after {served_s:.2f} s, page after {shown_s:.2f} s, {grown} KiB grown")
        assert grown < CROWD_KIB


def _is_shown(url: str) -> float:
    """Ask for a page, again where the node has no room; return the seconds until it came."""
    begin_s = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  (of this machine)
                assert answer.status == 200
                assert answer.read()
                return time.monotonic() - begin_s
        except OSError:
            assert time.monotonic() - begin_s < HONEST_S, f"seed {SEED}: {url} was not shown in {HONEST_S} s"
            time.sleep(0.1)
