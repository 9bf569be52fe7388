"""`bnnchain init`: a home directory for a new chain, or for joining one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.chain.store import Store
from bnnchain.cli.options import data_option, home_option
from bnnchain.cli.unlock import Unlocking, unlock_options
from bnnchain.consensus.params import DEFAULT_PRESET, PRESETS, preset
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.payload import encode_payload
from bnnchain.datasets.registry import load
from bnnchain.home import Home, is_for_tests, read_spec_file
from bnnchain.mining.genesis import new_spec

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec

NOT_ENCRYPTED = "not encrypted; `bnnchain wallet encrypt` puts a password on it"


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
@unlock_options
def init(
    home: Home, preset: str, dataset: str, data_dir: Path | None, spec_file: Path | None, unlocking: Unlocking
) -> None:
    """Write a home: wallet, chain spec (genesis, first data set, first coins) and store.

    To join a chain that is not for tests, a wallet is made only where a password, or --no-password, is given: a
    validator needs none.
    """
    if spec_file is not None:
        home.create(read_spec_file(spec_file))
        if is_for_tests(home.spec()) or unlocking.says_how:
            unlocking.make_key(home, for_tests=is_for_tests(home.spec()))
    elif home.is_initialised():
        raise click.UsageError(f"{home.path} is initialised already; choose another --home")
    else:
        create_chain(home, preset, dataset, data_dir, unlocking)
    spec = home.spec()
    click.echo(f"chain    {spec.name}, id {spec.chain_id}, genesis {spec.genesis_id.hex()}")
    click.echo(f"data set {spec.dataset.name}: {spec.dataset.pool_size} images count")
    if home.wallet.exists:
        click.echo(f"address  {home.wallet.address().hex()}")
        click.echo(f"wallet   {home.wallet.file if home.wallet.is_sealed else NOT_ENCRYPTED}")
    else:
        click.echo("wallet   none; `bnnchain wallet create` makes one, to mine or to pay")
    click.echo(f"home     {home.path} (others join with `bnnchain init --spec {home.spec_file}`)")


def create_chain(home: Home, preset_name: str, dataset: str, data_dir: Path | None, unlocking: Unlocking) -> ChainSpec:
    """Write the home of a new chain whose first coins go to the home's own key; return its spec."""
    data = load(dataset, data_dir, home.path / "datasets")
    unlocking.make_key(home, for_tests=bool(preset(preset_name).is_lottery_open))
    spec = new_spec(preset_name, data.manifest, home.wallet.address(), int(time.time()))
    home.create(spec)
    store = Store(home.store_file, spec)
    store.put_dataset(DatasetId(data.manifest.dataset_id), encode_payload(data.pool))
    store.close()
    return spec
