"""`bnnchain demo`: a miner and a validator-only node, two processes on loopback, and a live table of their blocks."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, final

import click

from bnnchain.backends import OVERLAYS, evaluator_factory
from bnnchain.cli.demo_follower import Follower
from bnnchain.cli.demo_table import DemoTable, summarise
from bnnchain.cli.init import create_chain
from bnnchain.cli.options import backend_option, data_option, json_option, write_json
from bnnchain.cli.run import PROGRESS, READY
from bnnchain.cli.unlock import Unlocking
from bnnchain.consensus.errors import Fault
from bnnchain.consensus.params import DEFAULT_PRESET, PRESETS
from bnnchain.datasets.registry import load
from bnnchain.home import Home
from bnnchain.net.client import NodeClient

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Coroutine

PLAIN = Unlocking(is_plain_allowed=True)
"""A demo's key lives as long as the demo."""
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
MAX_DEMO_S = 3_600.0
MAX_DEMO_BLOCKS = 10_000
DEFAULT_FOUNDING_ACCURACY = {"digits": 85.0}
"""Where the chain asks for less than a small data set gives at once, the demo founds better models than it must."""


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True, help="Rules.")
@click.option("--dataset", default="digits", show_default=True, help="digits, mnist, or a name.")
@data_option
@click.option("--generations", type=click.IntRange(1, 60), help="Generations to evolve.  [default: 5; with MNIST 3]")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the search.")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Threads of the search.")
@backend_option
@json_option
def demo(
    preset: str,
    dataset: str,
    data_dir: Path | None,
    generations: int | None,
    seed: int,
    threads: int,
    backend: str,
    json_file: str | None,
) -> None:
    """Mine and validate a new chain: founding models, then generations evolved from the best of them."""
    with tempfile.TemporaryDirectory(prefix="bnnchain-demo-") as directory:
        stage = Stage(Path(directory), backend)
        stage.prepare(preset, dataset, data_dir)
        mining = ["--seed", str(seed), "--threads", str(threads)]
        if dataset in DEFAULT_FOUNDING_ACCURACY:
            mining += ["--founding-accuracy", str(DEFAULT_FOUNDING_ACCURACY[dataset])]
        wanted = generations or (5 if dataset == "digits" else 3)
        follower = asyncio.run(stage.play(wanted, mining, to_stderr=json_file == "-"))
    click.echo(summarise(follower, preset), err=json_file == "-")
    write_json(json_file, follower.report(preset))


class Stage:
    """The two homes and processes of a demo, all below one directory."""

    def __init__(self, directory: Path, backend: str) -> None:
        self._directory = directory
        # The overlay is shown where it belongs, in validation; mining and the held-out counts stay on the CPU.
        self._validator_backend = backend
        self._backend = "auto" if backend in OVERLAYS else backend
        self._miner_home, self._validator_home = Home(directory / "miner"), Home(directory / "validator")

    def prepare(self, preset: str, dataset: str, data_dir: Path | None) -> None:
        """Make the chain in the miner's home; the validator gets the spec and fetches the data set from its peer."""
        self._data = load(dataset, data_dir, self._miner_home.path / "datasets")
        self._spec = create_chain(self._miner_home, preset, dataset, data_dir, PLAIN)
        self._validator_home.create(self._spec)

    async def play(self, generations: int, mining: list[str], *, to_stderr: bool) -> Follower:
        """Run both processes until the validator has judged the last wanted generation; return what was seen."""
        follower = Follower(self._spec, self._data.heldout, evaluator_factory(self._backend), generations)
        async with AsyncExitStack() as stack:
            table = stack.enter_context(DemoTable(follower, to_stderr=to_stderr))
            # On demand, whatever the chain; one miner has no rivals to hold a fresh tip for.
            mining += ["--hold", "0", "--blocks", str(MAX_DEMO_BLOCKS)]
            mining += ["--no-password", "--backend", self._backend]
            arguments = ["mine", "--home", str(self._miner_home.path), *mining]
            miner, address = await self._start(stack, "miner", arguments, table.tell)
            follower.start(time.monotonic())
            tasks = stack.enter_context(_Tasks())
            mining_node = await stack.enter_async_context(NodeClient(address))
            tasks.add(follower.follow_miner(mining_node, table.refresh))
            tasks.add(self._watch(miner, "miner"))
            arguments = ["node", "--home", str(self._validator_home.path), "--peer", address]
            arguments += ["--backend", self._validator_backend]
            validator, peer_address = await self._start(stack, "validator", arguments, table.tell)
            peer = await stack.enter_async_context(NodeClient(peer_address))
            tasks.add(follower.follow_validator(peer, table.refresh))
            tasks.add(self._watch(validator, "validator"))
            await tasks.first(follower.finished)
        return follower

    async def _start(
        self, stack: AsyncExitStack, name: str, arguments: list[str], tell: Callable[[str], None]
    ) -> tuple[Process, str]:
        """Start a node process; return it with the address it listens on.  Its progress goes on to ``tell``."""
        errors = stack.enter_context((self._directory / f"{name}.log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bnnchain", *arguments, "--listen", "127.0.0.1:0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        stack.push_async_callback(_stop, process)
        if process.stdout is None:
            raise Fault("a process was started without its output")
        with suppress(asyncio.TimeoutError):
            while line := await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S):
                text = line.decode(errors="replace").strip()
                if text.startswith(READY):
                    stack.push_async_callback(_cancel, asyncio.create_task(_listen(process.stdout, tell)))
                    return process, text.removeprefix(READY).split()[0]
        raise Fault(f"the {name} did not start: {self._last_words(name)}")

    async def _watch(self, process: Process, name: str) -> None:
        code = await process.wait()
        raise Fault(f"the {name} ended with code {code}: {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        lines = (self._directory / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@final
class _Tasks:
    """Tasks beside the one that ends the demo: the first that fails ends it with its error."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> _Tasks:
        return self

    def __exit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()

    def add(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def first(self, finished: asyncio.Event) -> None:
        """Wait for ``finished``; raise what a task raised, or :class:`Fault` after ``MAX_DEMO_S``."""
        ending = asyncio.create_task(_wait(finished))
        self._tasks.add(ending)
        done, _ = await asyncio.wait(self._tasks, timeout=MAX_DEMO_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if ending not in done:
            raise Fault("a node stopped talking" if done else f"no end after {MAX_DEMO_S:.0f} s")


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _listen(output: asyncio.StreamReader, tell: Callable[[str], None]) -> None:
    # Read to the end in any case: a full pipe would stop the node.
    while line := await output.readline():
        text = line.decode(errors="replace").strip()
        if text.startswith(PROGRESS):
            tell(text.removeprefix(PROGRESS))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
