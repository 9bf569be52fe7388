"""`bnnchain service`: a node that systemd starts with the machine, watches and restarts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click

from bnnchain.cli.config import read_example
from bnnchain.cli.options import json_option, say, write_json
from bnnchain.home import format_spec, read_spec_file
from bnnchain.service import install as installation
from bnnchain.service.unit import UNIT_NAME, validate_reachable

STATUS_PROPERTIES = ("ActiveState", "SubState", "StatusText", "NRestarts", "Result", "ExecMainStartTimestamp")
STATUS_TIMEOUT_S = 30

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=Path("/"),
    show_default=True,
    help="Root directory of the machine, such as an SD card's; systemd is told only at /.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
def service() -> None:
    """Run a node as a systemd service (as root)."""


@service.command()
@root_option
@dry_run_option
@click.option(
    "--spec",
    "spec_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Chain to join.  [default: the one that is installed, else a new regtest chain]",
)
@click.option(
    "--wallet-password",
    "password_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the wallet's password; the service gets it as a credential, nobody else can read it.",
)
@click.option(
    "--mine/--validate",
    "is_miner",
    default=None,
    help="Whether the node mines.  [default: as installed, else it only validates]",
)
def install(
    root: Path,
    dry_run: bool,  # noqa: FBT001  (a flag of the command line)
    spec_file: Path | None,
    password_file: Path | None,
    is_miner: bool | None,  # noqa: FBT001
) -> None:
    """Install the unit and start it; after an upgrade, install again.

    Keeps an /etc/bnnchain/node.toml that is there.  State lies in /var/lib/bnnchain.
    """
    place = installation.Place(root, click.echo, dry_run)
    if place.is_this_machine:
        validate_reachable([sys.executable, sys.base_prefix])
    spec = None if spec_file is None else format_spec(read_spec_file(spec_file)).encode()
    installation.install(
        place,
        python=sys.executable,
        example=read_example(),
        spec=spec,
        password=None if password_file is None else password_file.read_bytes(),
        is_miner=is_miner,
    )
    if spec is None and not place.spec_file.exists():
        click.echo("no --spec: a regtest chain of the node's own, for tests and first steps only")


@service.command()
@root_option
@dry_run_option
@click.option("--purge", is_flag=True, help="Also remove configuration, chain and wallet, for good.")
def uninstall(root: Path, dry_run: bool, purge: bool) -> None:  # noqa: FBT001
    """Stop and remove the service; configuration, chain and wallet stay unless --purge."""
    installation.uninstall(installation.Place(root, click.echo, dry_run), purge=purge)


@service.command()
@root_option
@json_option
def status(root: Path, json_file: str | None) -> None:
    """Show what is installed, and what systemd says of it."""
    place = installation.Place(root, click.echo)
    rows: dict[str, str] = {
        "unit": str(place.unit_file) if place.unit_file.exists() else "not installed",
        "config": str(place.config_file) if place.config_file.exists() else "none",
        "chain": read_spec_file(place.spec_file).name if place.spec_file.exists() else "regtest, of its own",
    }
    systemctl = shutil.which("systemctl")
    if place.is_this_machine and systemctl is not None and place.unit_file.exists():
        command = [systemctl, "show", UNIT_NAME, f"--property={','.join(STATUS_PROPERTIES)}"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=STATUS_TIMEOUT_S, check=False)
        rows.update((line.split("=", 1)[0], line.split("=", 1)[1]) for line in shown.stdout.splitlines() if "=" in line)
    for name, value in rows.items():
        say(json_file)(f"{name:24} {value}")
    write_json(json_file, rows)
