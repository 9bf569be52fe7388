"""Options of how a node meets others: how many, where from, how it is found, and whether TLS guards the way."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from bnnchain.cli.options import allow_plain_flag, tls_flag
from bnnchain.net import limits
from bnnchain.net.network import PeerOptions
from bnnchain.net.security import read_security
from bnnchain.net.seeds import read_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def peering_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options of meeting others, as one value ``peering``.

    The command raises as :func:`read_seeds` and :func:`read_security`.
    """

    @tls_flag()
    @allow_plain_flag()
    @click.option(
        "--seeds",
        type=click.Path(path_type=Path, dir_okay=False),
        help="List of nodes to look for first peers among: one HOST:PORT a line, # begins a comment.",
    )
    @click.option(
        "--advertise",
        metavar="IP:PORT",
        help="Where others can dial this node.  [default: the address to serve on, where one can dial that]",
    )
    @click.option(
        "--outbound",
        type=click.IntRange(0, limits.MAX_OUTBOUND),
        default=limits.DEFAULT_OUTBOUND,
        show_default=True,
        help="Peers to choose from the address book beside --peer; 0: keep to --peer.",
    )
    @click.option(
        "--inbound",
        type=click.IntRange(1, limits.MAX_INBOUND),
        default=limits.DEFAULT_INBOUND,
        show_default=True,
        help="Connections that others may have to this node.",
    )
    @wraps(command)
    def peering_command(
        *,
        security: Path | None,
        allow_plain: bool,
        seeds: Path | None,
        advertise: str | None,
        outbound: int,
        inbound: int,
        **options: object,
    ) -> Result:
        peering = PeerOptions(
            outbound=outbound,
            inbound=inbound,
            advertise=advertise,
            seeds=() if seeds is None else read_seeds(seeds),
            security=None if security is None else read_security(security),
            allow_plain=allow_plain,
        )
        return command(peering=peering, **options)

    return peering_command
