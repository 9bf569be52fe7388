"""`bnnchain init`: a home directory for a new chain, or for joining one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.chain.store import Store
from bnnchain.cli.options import data_option, home_option
from bnnchain.consensus.params import DEFAULT_PRESET, PRESETS
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.payload import encode_payload
from bnnchain.datasets.registry import load
from bnnchain.home import Home, read_spec_file
from bnnchain.mining.genesis import new_spec

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec


@click.command()
@home_option
@click.option("--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True, help="Rules.")
@click.option("--dataset", default="digits", show_default=True, help="First data set: digits, mnist, or a name.")
@data_option
@click.option(
    "--spec",
    "spec_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Join the chain of this file.",
)
def init(home: Home, preset: str, dataset: str, data_dir: Path | None, spec_file: Path | None) -> None:
    """Write a home: key, chain spec (genesis, first data set, first coins) and store."""
    if spec_file is not None:
        home.create(read_spec_file(spec_file))
    elif home.is_initialised():
        raise click.UsageError(f"{home.path} is initialised already; choose another --home")
    else:
        create_chain(home, preset, dataset, data_dir)
    spec = home.spec()
    click.echo(f"chain    {spec.name}, id {spec.chain_id}, genesis {spec.genesis_id.hex()}")
    click.echo(f"data set {spec.dataset.name}: {spec.dataset.pool_size} images count")
    click.echo(f"address  {public_key(home.key()).hex()}")
    click.echo(f"home     {home.path} (others join with `bnnchain init --spec {home.spec_file}`)")


def create_chain(home: Home, preset: str, dataset: str, data_dir: Path | None) -> ChainSpec:
    """Write the home of a new chain whose first coins go to the home's own key; return its spec."""
    data = load(dataset, data_dir, home.path / "datasets")
    home.create_key()
    spec = new_spec(preset, data.manifest, public_key(home.key()), int(time.time()))
    home.create(spec)
    store = Store(home.store_file, spec)
    store.put_dataset(DatasetId(data.manifest.dataset_id), encode_payload(data.pool))
    store.close()
    return spec
