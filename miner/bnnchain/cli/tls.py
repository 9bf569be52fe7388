"""`bnnchain tls`: the certificates with which nodes of one operator or consortium know each other."""

from __future__ import annotations

from pathlib import Path

import click

from bnnchain.certificates import (
    CA_FILE,
    CA_KEY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    VALID_DAYS,
    issue_certificate,
    write_certificates,
)

directory_argument = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
days_option = click.option(
    "--days", type=click.IntRange(1, 36_500), default=VALID_DAYS, show_default=True, help="How long they are valid."
)


@click.group()
def tls() -> None:
    """Certificates for `--tls DIR`: nodes and commands that hold one of the same authority talk to each other."""


@tls.command()
@directory_argument
@days_option
def init(directory: Path, days: int) -> None:
    """Make an authority in DIRECTORY, and this machine's certificate."""
    write_certificates(directory, days)
    click.echo(f"{directory}: {CERTIFICATE_FILE} and {KEY_FILE} are for this machine, with --tls {directory}")
    click.echo(f"whoever has {CA_KEY_FILE} can let others in: keep it here; for another machine: bnnchain tls issue")


@tls.command()
@click.argument("authority", type=click.Path(path_type=Path, file_okay=False))
@directory_argument
@days_option
def issue(authority: Path, directory: Path, days: int) -> None:
    """Make a certificate for another machine in DIRECTORY, signed by the authority in AUTHORITY."""
    issue_certificate(authority, directory, days)
    click.echo(f"{directory}: move {CA_FILE}, {CERTIFICATE_FILE} and {KEY_FILE} to the other machine, for its --tls")
