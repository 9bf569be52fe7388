"""`bnnchain pool`: workers that mine for a node of the same operator, and the certificates that let them in."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, write_certificates
from bnnchain.cli.options import certificates_option
from bnnchain.exchange.extras import load_extra
from bnnchain.mining.pool.address import LOCAL, TLS, parse_pool_address
from bnnchain.mining.pool.certificates import read_security
from bnnchain.mining.pool.workers import NO_PAGES, SETTINGS
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from typing import Any

RETRY_S = 3.0
CONNECT_S = 10


@click.group()
def pool() -> None:
    """Mine with several processes or hosts.

    Workers run the code that their node sends: let only machines of your own have the certificates.
    """


@pool.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def certificates(directory: Path) -> None:
    """Make the certificates of a pool in DIRECTORY."""
    write_certificates(directory)
    files = f"{CA_FILE}, {CERTIFICATE_FILE} and {KEY_FILE}"
    click.echo(f"{directory}: copy {files} to every worker; whoever has them can run code on the workers")


@pool.command()
@click.argument("address", metavar="tls://HOST:PORT")
@certificates_option
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Tasks side by side.")
def worker(address: str, certificates: Path | None, threads: int) -> None:
    """Work for the node that mines with `--pool` at the address, until Ctrl-C; dial again whenever it is gone."""
    where = parse_pool_address(address)
    if where.scheme == LOCAL or where.port == 0:
        raise Invalid("bad-pool-address", address=address, reason="a worker dials tls://HOST:PORT")
    load_extra("distributed", "pool")
    security = read_security(certificates) if where.scheme == TLS else None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    asyncio.run(_work(str(where), security, threads))


async def _work(address: str, security: Any, threads: int) -> None:  # noqa: ANN401  (distributed carries few types)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    was_said = ""
    while not stop.is_set():
        said = await _serve_once(address, security, threads, stop)
        if said and said != was_said:
            click.echo(said, err=True)
        was_said = said
        if not stop.is_set():
            await _wait(stop, RETRY_S)


async def _serve_once(address: str, security: Any, threads: int, stop: asyncio.Event) -> str:  # noqa: ANN401
    """Work for the node while it is there; return what to tell people of why that ended."""
    import dask
    from distributed import Worker

    with dask.config.set(SETTINGS | {"distributed.comm.timeouts.connect": CONNECT_S}):
        serving = Worker(
            address,
            nthreads=threads,
            memory_limit=0,
            security=security,
            dashboard=False,
            dashboard_address=NO_PAGES,
            death_timeout=CONNECT_S,
        )
        try:
            await serving
        except Exception as error:  # noqa: BLE001  (whatever it is, it is said, and dialled again)
            return f"cannot join the pool at {address}: {_first_line(error)}; trying again"
    click.echo(f"working for {address} with {threads} threads")
    ending = asyncio.create_task(stop.wait())
    leaving = asyncio.create_task(serving.finished())
    await asyncio.wait([ending, leaving], return_when=asyncio.FIRST_COMPLETED)
    await serving.close()
    ending.cancel()
    return "" if stop.is_set() else f"the node at {address} has gone; trying again"


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    await asyncio.wait([task := asyncio.create_task(stop.wait())], timeout=seconds)
    task.cancel()


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
