"""`bnnchain node` and `bnnchain mine`: a node in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from typing import TYPE_CHECKING

import click

from bnnchain.chain.chain import MIN_PRUNE_BLOCKS
from bnnchain.chain.pools import DEFAULT_LIMIT_BYTES
from bnnchain.cli.architectures import METAVAR, to_architecture
from bnnchain.cli.configured import ConfiguredCommand, config_option
from bnnchain.cli.init import create_chain
from bnnchain.cli.observing import log_options, metrics_option
from bnnchain.cli.options import DEFAULT_LISTEN, backend_option, certificates_option, home_option
from bnnchain.cli.peering import peering_options
from bnnchain.cli.unlock import Unlocking, unlock_options
from bnnchain.cli.web import web_options
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.params import BP, DEFAULT_PRESET
from bnnchain.home import parse_checkpoint, parse_public_key
from bnnchain.mining.founders import FOUNDERS
from bnnchain.mining.miner import LEARNING_PERCENT, MiningOptions
from bnnchain.mining.pool.address import MAX_LANES, parse_pool_address
from bnnchain.mining.pool.workers import PoolOptions
from bnnchain.node import Node, NodeOptions
from bnnchain.producer import HOLD_S
from bnnchain.service.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bnnchain.consensus.types import BlockId, PublicKey
    from bnnchain.home import Home
    from bnnchain.net.address import Address
    from bnnchain.net.messages import NewHead
    from bnnchain.net.network import PeerOptions
    from bnnchain_kernels.model import Architecture

SEED_BITS = 32
DEFAULT_DATASET = "digits"
READY = "listening on "
"""What a node prints before its address once it serves; `demo` reads it."""

PROGRESS = ".. "
"""What a line of progress begins with."""
PROGRESS_INTERVAL_S = 1.0

listen_option = click.option("--listen", default=DEFAULT_LISTEN, show_default=True, help="Address to serve on.")
peer_option = click.option("--peer", "peers", multiple=True, help="Address of a peer to keep connected to; repeatable.")


def to_checkpoints(_context: click.Context, _parameter: click.Parameter, value: Sequence[str]) -> dict[int, BlockId]:
    """Return the block ids by height that the option names."""
    return dict(map(parse_checkpoint, value))


def to_payout(_context: click.Context, _parameter: click.Parameter, value: str | None) -> PublicKey | None:
    """Return the public key that the option names."""
    return None if value is None else parse_public_key(value)


checkpoint_option = click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    callback=to_checkpoints,
    metavar="HEIGHT:ID",
    help="Follow no chain without this block; repeatable.  Your choice, not a rule.",
)
dataset_limit_option = click.option(
    "--dataset-limit",
    "dataset_limit_mib",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMIT_BYTES >> 20,
    show_default=True,
    help="MiB that stored pools may take; closed data sets go first.",
)

prune_option = click.option(
    "--prune",
    "prune_blocks",
    type=click.IntRange(min=MIN_PRUNE_BLOCKS),
    metavar="BLOCKS",
    help="Keep the bodies of only so many last blocks; such a node gives no peer the older ones.  [default: all]",
)


@click.command(cls=ConfiguredCommand)
@home_option
@config_option
@listen_option
@peer_option
@peering_options
@backend_option
@checkpoint_option
@dataset_limit_option
@prune_option
@unlock_options
@metrics_option
@web_options
@log_options
def node(
    home: Home,
    listen: str,
    peers: Sequence[str],
    peering: PeerOptions,
    backend: str,
    checkpoints: Mapping[int, BlockId],
    dataset_limit_mib: int,
    prune_blocks: int | None,
    unlocking: Unlocking,
    metrics: Address | None,
    web: Address | None,
) -> None:
    """Run a validator-only node: it checks every block and never mines.

    Without arguments and without a home it is a new regtest node on loopback.  It needs no wallet; with one that it
    can open without asking, it reports miners who sign two blocks on one parent, and is paid for it.
    """
    ensure_chain(home, peers, unlocking)
    options = NodeOptions(
        listen=listen,
        peers=peers,
        peering=peering,
        backend=backend,
        checkpoints=checkpoints,
        dataset_limit_bytes=dataset_limit_mib << 20,
        prune_blocks=prune_blocks or 0,
        metrics=metrics,
        web=web,
        key=unlocking.key_without_asking(home),
    )
    run_node(home, options)


@click.command(cls=ConfiguredCommand)
@home_option
@config_option
@listen_option
@peer_option
@peering_options
@backend_option
@checkpoint_option
@dataset_limit_option
@prune_option
@unlock_options
@metrics_option
@web_options
@log_options
@click.option(
    "--payout",
    callback=to_payout,
    metavar="KEY",
    help="Public key to send what is earned to; its secret need not be on this machine.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    help="Stop mining at this height; the node goes on serving.  On chains that forbid blocks without a model, mine"
    " though no block's worth of transactions waits.",
)
@click.option(
    "--hold",
    "hold_s",
    type=click.FloatRange(0, 60),
    default=HOLD_S,
    show_default=True,
    help="Seconds that a fresh tip waits before this node mines on it.",
)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Threads of the search.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the search's random choices.  [default: random]")
@click.option(
    "--founding-accuracy",
    type=click.FloatRange(0, 100),
    help="Percent at which training of a founding model stops.  [default: the chain's least + 2]",
)
@click.option(
    "--architecture",
    callback=to_architecture,
    metavar=METAVAR,
    help="Shape of the first family that this node founds.",
)
@click.option(
    "--founder",
    type=click.Choice(FOUNDERS),
    default="auto",
    show_default=True,
    help="Trainer of founding models; auto: Larq where it is installed.",
)
@click.option(
    "--learning-percent",
    type=click.IntRange(0, 100),
    default=LEARNING_PERCENT,
    show_default=True,
    help="Of the time, for learning beside a closed lottery; the tickets of the rest are what protects the chain.",
)
@click.option(
    "--thrifty/--greedy",
    default=None,
    help="Be content with the gain that the chain asks for.  [default: where blocks cost a lottery and no bounty pays]",
)
@click.option(
    "--pool",
    "pool_address",
    metavar="local:N|tls://HOST:PORT",
    help="Mine with workers: N processes here, or those of any host that dial this address (`bnnchain pool worker`).",
)
@certificates_option
@click.option(
    "--lanes",
    type=click.IntRange(1, MAX_LANES),
    help="Trainings and searches side by side in a pool; results depend on it.  [default: N of local:N, else 4]",
)
def mine(
    home: Home,
    listen: str,
    peers: Sequence[str],
    peering: PeerOptions,
    backend: str,
    checkpoints: Mapping[int, BlockId],
    dataset_limit_mib: int,
    prune_blocks: int | None,
    unlocking: Unlocking,
    metrics: Address | None,
    web: Address | None,
    payout: PublicKey | None,
    blocks: int | None,
    hold_s: float,
    threads: int,
    seed: int | None,
    founding_accuracy: float | None,
    architecture: Architecture | None,
    founder: str,
    learning_percent: int,
    thrifty: bool | None,  # noqa: FBT001  (a flag of the command line)
    pool_address: str | None,
    certificates: Path | None,
    lanes: int | None,
) -> None:
    """Run a node that mines: it founds and evolves models and earns their blocks."""
    if pool_address is None and (certificates is not None or lanes is not None):
        raise click.UsageError("--certificates and --lanes belong to --pool")
    pool = None if pool_address is None else PoolOptions(parse_pool_address(pool_address), certificates, lanes)
    ensure_chain(home, peers, unlocking)
    key = unlocking.key(home)
    mining = MiningOptions(
        seed=secrets.randbits(SEED_BITS) if seed is None else seed,
        threads=threads,
        founding_target_bp=None if founding_accuracy is None else round(founding_accuracy * BP / 100),
        architecture=architecture,
        is_thrifty=thrifty,
        learning_percent=learning_percent,
    )
    options = NodeOptions(
        listen=listen,
        peers=peers,
        peering=peering,
        backend=backend,
        mining=mining,
        founder=founder,
        max_blocks=blocks,
        pool=pool,
        hold_s=hold_s,
        checkpoints=checkpoints,
        dataset_limit_bytes=dataset_limit_mib << 20,
        prune_blocks=prune_blocks or 0,
        metrics=metrics,
        web=web,
        key=key,
        payout=payout,
    )
    run_node(home, options)


def ensure_chain(home: Home, peers: Sequence[str], unlocking: Unlocking) -> None:
    """Make a regtest chain where the home is empty; raise :class:`Unavailable` where peers have one to join."""
    if home.is_initialised():
        return
    if peers:
        raise Unavailable(f"{home.path} is empty; run `bnnchain init --home {home.path} --spec FILE` to join a chain")
    click.echo(f"{home.path} is empty: making a new {DEFAULT_PRESET} chain there, for tests and first steps only")
    create_chain(home, DEFAULT_PRESET, DEFAULT_DATASET, None, unlocking)


def run_node(home: Home, options: NodeOptions) -> None:
    """Run a node until SIGINT or SIGTERM; print where it listens and each new head."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        supervisor = Supervisor.from_environment()
        async with supervisor.watching(stop):
            await Node(home, options, Printer(home, options, supervisor)).run(stop)

    asyncio.run(main())


class Printer:
    """Prints what a node does, a line each, and tells systemd; progress once a second at most."""

    def __init__(self, home: Home, options: NodeOptions, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        role = "validator-only" if options.mining is None else "mining"
        self._description = f"{role}, chain {home.spec().name}, home {home.path}"
        self._last_progress = 0.0

    def ready(self, address: str) -> None:
        """Print where the node serves."""
        click.echo(f"{READY}{address} ({self._description})")
        self._supervisor.ready(f"{self._description}, serving on {address}")

    def page(self, name: str, url: str) -> None:
        """Print where something else is served."""
        click.echo(f"{name} on {url}")

    def head(self, head: NewHead) -> None:
        """Print a new head."""
        header = head.header
        model = f" family {header.family_id} generation {header.generation} {header.correct_new}/{header.eval_total}"
        reorg = f", reorg of {head.reorg_depth}" if head.reorg_depth else ""
        if head.is_deep_reorg:
            click.echo(f"ALARM: {head.reorg_depth} blocks left the chain; see `bnnchain show chain`", err=True)
        click.echo(
            f"height {header.height} {header.kind.name}{model if header.eval_total else ''}"
            f" ({head.size_bytes} B, judged in {head.verdict_us / 1000:.1f} ms{reorg})"
        )
        self._supervisor.status(f"height {header.height}, {self._description}")

    def progress(self, text: str) -> None:
        """Print what the miner is at, marked so that `demo` can tell it from blocks."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_INTERVAL_S:
            self._last_progress = now
            click.echo(f"{PROGRESS}{text}")
