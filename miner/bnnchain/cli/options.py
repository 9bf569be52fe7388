"""Options that several commands share, and how results are written for programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.consensus.errors import Fault
from bnnchain.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

HOME_VARIABLE = "BNNCHAIN_HOME"
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
node_option = click.option(
    "--node", "address", default=DEFAULT_LISTEN, show_default=True, help="Address of a running node."
)
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
