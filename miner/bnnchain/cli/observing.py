"""Options of how a node tells what it does: its log, and the address of its metrics."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import click

from bnnchain import logs
from bnnchain.net.address import Address, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def to_address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Address | None:
    """Return the address that an option names; raises ``bad-address``."""
    return None if value is None else parse_address(value)


metrics_option = click.option(
    "--metrics",
    callback=to_address,
    metavar="HOST:PORT",
    help="Serve /metrics for Prometheus, /healthz and /readyz there, to whoever reaches it.  [default: nowhere]",
)


def log_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command ``--log-level`` and ``--log-format``, and set its log up by them before it runs."""

    @click.option(
        "--log-level",
        type=click.Choice(logs.LEVELS),
        default="info",
        show_default=True,
        help="Least serious messages that are logged, to stderr.",
    )
    @click.option(
        "--log-format",
        type=click.Choice(logs.FORMATS),
        default="auto",
        show_default=True,
        help="Lines for people or JSON lines; auto: for people on a terminal.",
    )
    @wraps(command)
    def logging_command(*, log_level: str, log_format: str, **options: object) -> Result:
        asked = click.get_current_context().find_root().params.get("verbose") or 0
        logs.configure(min(log_level, logs.level_of(asked), key=logs.LEVELS.index), log_format)
        return command(**options)

    return logging_command
