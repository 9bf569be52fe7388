"""`bnnchain top`: a running node, live on a terminal; q or Ctrl-C leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live

from bnnchain.cli.observing import to_address
from bnnchain.cli.options import node_option, open_node
from bnnchain.cli.top_follower import Follower, Observed
from bnnchain.cli.top_screen import render
from bnnchain.net.tasks import run_until_first_ends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.net.address import Address
    from bnnchain.net.client import NodeClient

ASK_TIMEOUT_S = 5.0
REFRESH_INTERVAL_S = 0.5
LEAVE_KEYS = b"qQ\x03"
MAX_KEY_BYTES = 64
ONCE_LINES = 40


@click.command()
@node_option
@click.option(
    "--metrics",
    callback=to_address,
    metavar="HOST:PORT",
    help="Where the node serves its metrics: shows its speed, too.",
)
@click.option("--once", is_flag=True, help="Print the present state and end; so it is where output is no terminal.")
def top(address: str, metrics: Address | None, once: bool) -> None:  # noqa: FBT001  (a flag of the command line)
    """Show a running node: its head, families, peers, speed and last blocks."""
    console = Console()
    observed = Observed(address)
    url = None if metrics is None else f"http://{metrics}/metrics"

    def connect() -> NodeClient:
        return open_node(address, timeout_s=ASK_TIMEOUT_S)

    if once or not console.is_terminal:
        asyncio.run(Follower(connect, observed, url, lambda: None).look())
        console.print(render(observed, time.time(), ONCE_LINES))
        return
    # The first look outside of the screen: a wrong address is one line and an exit code.
    asyncio.run(Follower(connect, observed, url, lambda: None).look())
    with Live(
        console=console,
        screen=True,
        auto_refresh=False,
        get_renderable=lambda: render(observed, time.time(), console.height),
    ) as live:
        asyncio.run(_watch(Follower(connect, observed, url, live.refresh), live))


async def _watch(follower: Follower, live: Live) -> None:
    leaving = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leaving.set)
    with _reading_keys(loop, leaving):
        await run_until_first_ends(follower.run(), _tick(live), _wait(leaving))


async def _tick(live: Live) -> None:
    """Let ages grow though nothing happens."""
    while True:
        live.refresh()
        await asyncio.sleep(REFRESH_INTERVAL_S)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@contextmanager
def _reading_keys(loop: asyncio.AbstractEventLoop, leaving: asyncio.Event) -> Iterator[None]:
    """Set ``leaving`` when a key asks for it; the terminal is put back as it was."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        data = os.read(descriptor, MAX_KEY_BYTES)
        if not data or set(data) & set(LEAVE_KEYS):  # the terminal's end is an answer, too
            leaving.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
