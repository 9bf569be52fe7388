"""Options that several commands share, and how results are written for programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnnchain.consensus.errors import Fault
from bnnchain.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.net.client import NodeClient

Command = TypeVar("Command", bound="Callable[..., object]")

HOME_VARIABLE = "BNNCHAIN_HOME"
TLS_VARIABLE = "BNNCHAIN_TLS"
PLAIN_VARIABLE = "BNNCHAIN_ALLOW_PLAIN"
DEFAULT_LISTEN = "127.0.0.1:9555"


def default_home() -> Path:
    """Return where state lives unless told otherwise."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".bnnchain")


def _to_home(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Home:
    return Home(value or default_home())


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    callback=_to_home,
    help=f"Directory of the node's state.  [default: ${HOME_VARIABLE} or ~/.bnnchain]",
)
data_option = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory with the data set's IDX files.",
)
json_option = click.option(
    "--json", "json_file", type=click.Path(allow_dash=True), help="Also write the result as JSON ('-': to stdout)."
)


def tls_flag(**attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401  (click's own)
    """Return the option ``--tls``."""
    help_text = "Talk TLS alone, with the certificates in this directory (`bnnchain tls init`)."
    path = click.Path(path_type=Path, file_okay=False)
    return click.option("--tls", "security", type=path, envvar=TLS_VARIABLE, help=help_text, **attributes)


def allow_plain_flag(**attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401  (click's own)
    """Return the option ``--allow-plain``."""
    help_text = "Let plain TCP leave this machine: anybody on the way can read it and change it."
    return click.option("--allow-plain", is_flag=True, envvar=PLAIN_VARIABLE, help=help_text, **attributes)


def _note(context: click.Context, parameter: click.Parameter, value: object) -> None:
    context.meta[f"{__name__}.{parameter.name}"] = value


def node_option(command: Command) -> Command:
    """Give a command ``--node``, and how to reach it; :func:`open_node` connects."""
    for option in (
        allow_plain_flag(expose_value=False, callback=_note),
        tls_flag(expose_value=False, callback=_note),
        click.option("--node", "address", default=DEFAULT_LISTEN, show_default=True, help="Address of a running node."),
    ):
        command = option(command)
    return command


def open_node(address: str, spec: ChainSpec | None = None, **options: Any) -> NodeClient:  # noqa: ANN401
    """Return a client of the node that a command is to ask, with TLS where the command was told so.

    Raises :class:`Invalid` ``bad-address`` or ``insecure-address``, and as ``read_security``.
    """
    from bnnchain.net.client import NodeClient
    from bnnchain.net.security import read_security

    context = click.get_current_context(silent=True)
    meta = {} if context is None else context.meta
    directory = meta.get(f"{__name__}.security")
    security = None if directory is None else read_security(directory)
    allow_plain = bool(meta.get(f"{__name__}.allow_plain"))
    return NodeClient(address, spec, security=security, allow_plain=allow_plain, **options)


certificates_option = click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory with this side's certificate of a tls pool (`bnnchain pool certificates`).",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "fpga", "fpga-sim", "c", "numba", "reference"]),
    default="auto",
    show_default=True,
    help="Kernel that counts.",
)


def write_json(json_file: str | None, value: object) -> None:
    """Write ``value`` to ``json_file`` as JSON where one is named; '-' is stdout."""
    if json_file is None:
        return
    text = json.dumps(value, indent=2) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(json_file).write_text(text)
    except OSError as error:
        raise Fault(f"cannot write {json_file}: {error.strerror}") from error


def say(json_file: str | None) -> Callable[[str], None]:
    """Return a printer for people: to stdout, or to stderr where stdout is for a program."""
    return lambda text: click.echo(text, err=json_file == "-")
