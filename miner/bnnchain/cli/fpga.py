"""`bnnchain fpga doctor`: is the board's overlay there, right, and how fast?"""

from __future__ import annotations

from dataclasses import asdict

import click

from bnnchain.cli.options import json_option, say, write_json
from bnnchain.consensus.errors import Unavailable
from bnnchain_fpga.doctor import examine


@click.group()
def fpga() -> None:
    """Examine the FPGA overlay."""


@fpga.command()
@click.option(
    "--backend", type=click.Choice(["fpga", "fpga-sim"]), default="fpga", show_default=True, help="Board or simulation."
)
@json_option
def doctor(backend: str, json_file: str | None) -> None:
    """Check image, device, overlay and clock, run the golden vectors, measure images/s; exit 1 where one is wrong."""
    report = examine(backend)
    for finding in report.findings:
        say(json_file)(f"{'ok ' if finding.is_good else 'BAD'} {finding.name:16} {finding.value}")
    write_json(json_file, asdict(report) | {"is_healthy": report.is_healthy})
    if not report.is_healthy:
        raise Unavailable(f"the overlay is not ready: {report.findings[-1].name}: {report.findings[-1].value}")
