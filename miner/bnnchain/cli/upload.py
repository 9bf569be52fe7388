"""`bnnchain dataset provide` and `upload`: a data set of one's own for the chain (paper section 4.3)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from bnnchain.chain.store import Store
from bnnchain.cli.options import data_option, home_option, json_option, node_option, say, write_json
from bnnchain.cli.submit import fee_option, submit
from bnnchain.cli.unlock import Unlocking, unlock_options
from bnnchain.consensus.params import BP
from bnnchain.consensus.transactions import upload_fee
from bnnchain.consensus.types import Amount, DatasetId, Height, Upload
from bnnchain.datasets.payload import encode_payload
from bnnchain.datasets.registry import load

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.datasets.dataset import Dataset
    from bnnchain.home import Home

PERCENT = 100


@click.command("provide")
@click.argument("name")
@home_option
@data_option
@json_option
def provide(name: str, home: Home, data_dir: Path | None, json_file: str | None) -> None:
    """Give the pool of data set NAME to this home's node, which serves it to others; it may be running."""
    data = load(name, data_dir, home.path / "datasets")
    dataset_id = put_pool(home, data)
    say(json_file)(f"{name} is in {home.path}, id {dataset_id.hex()}, {data.manifest.pool_bytes} bytes")
    write_json(json_file, {"name": name, "id": dataset_id.hex(), "bytes": data.manifest.pool_bytes})


@click.command("upload")
@click.argument("name")
@home_option
@data_option
@node_option
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, PERCENT),
    help="Percent that a founding model must reach.  [default: the chain's least]",
)
@click.option("--bounty", type=click.IntRange(min=0), default=0, show_default=True, help="Units for better models.")
@fee_option
@unlock_options
@json_option
def upload(
    name: str,
    home: Home,
    data_dir: Path | None,
    address: str,
    min_accuracy: float | None,
    bounty: int,
    fee: int,
    unlocking: Unlocking,
    json_file: str | None,
) -> None:
    """Propose data set NAME to the chain, and provide its pool.

    It costs a fee by its size, which is burned, and a deposit, which comes back if the data set stays available.
    """
    data = load(name, data_dir, home.path / "datasets")
    params = home.spec().params_at(Height(0))
    least_bp = params.min_family_acc_bp if min_accuracy is None else round(min_accuracy * BP / PERCENT)
    body = Upload(data.manifest, least_bp, Amount(bounty))
    dataset_id = put_pool(home, data)
    identity = submit(home, unlocking, address, body, fee)
    burned, deposit = upload_fee(body, params), params.upload_deposit
    say(json_file)(f"proposed {name}, id {dataset_id.hex()}: transaction {identity.hex()}")
    say(json_file)(f"fee {fee}, burned {burned}, deposit {deposit}, bounty {bounty} units")
    result = {"id": identity.hex(), "dataset": dataset_id.hex(), "fee": fee, "burned": burned, "deposit": deposit}
    write_json(json_file, result | {"bounty": bounty})


def put_pool(home: Home, data: Dataset) -> DatasetId:
    """Store a data set's pool in the home, whose node may be running, and return its id."""
    dataset_id = DatasetId(data.manifest.dataset_id)
    with closing(Store(home.store_file, home.spec())) as store:
        store.put_dataset(dataset_id, encode_payload(data.pool))
    return dataset_id
