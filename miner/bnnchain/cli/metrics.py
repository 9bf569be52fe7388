"""`bnnchain metrics`: files for the programs that watch a node."""

from __future__ import annotations

from importlib import resources

import click

from bnnchain.net.address import parse_address

DASHBOARD = "dashboard.json"


@click.group()
def metrics() -> None:
    """Print what Prometheus and Grafana need; a node serves metrics with `--metrics`."""


@metrics.command("dashboard")
def dashboard() -> None:
    """Print the Grafana dashboard, to be imported there as JSON."""
    click.echo(resources.files("bnnchain.metrics").joinpath(DASHBOARD).read_text(encoding="utf-8"), nl=False)


@metrics.command("scrape-config")
@click.argument("addresses", nargs=-1, required=True)
def scrape_config(addresses: tuple[str, ...]) -> None:
    """Print the lines for prometheus.yml that scrape nodes at these metrics addresses."""
    targets = ", ".join(f'"{parse_address(address)}"' for address in addresses)
    click.echo(f"scrape_configs:\n  - job_name: bnnchain\n    static_configs:\n      - targets: [{targets}]")
