"""``bnnchain dataset``: which data sets there are, what one is, and bringing one here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bnnchain.cli.dataset_create import create
from bnnchain.cli.options import data_option, home_option, json_option, say, write_json
from bnnchain.cli.upload import provide, upload
from bnnchain.datasets import digits, mnist, registry
from bnnchain.datasets.chunks import CHUNK_BYTES, chunk_count
from bnnchain.datasets.fetch import MNIST_MIRRORS, fetch
from bnnchain_kernels.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.datasets.dataset import Dataset
    from bnnchain.home import Home
    from bnnchain_kernels.evaluator import Samples

DATASETS_DIRECTORY = "datasets"
FIELD_WIDTH = 18


@click.group("dataset")
def dataset() -> None:
    """List, show, fetch and create data sets; give them to a node and to the chain."""


dataset.add_command(create)
dataset.add_command(provide)
dataset.add_command(upload)


@dataset.command("list")
@home_option
@json_option
def list_datasets(home: Home, json_file: str | None) -> None:
    """List the known data sets and whether they are here."""
    rows = [{"name": name, "state": _state(name, home)} for name in registry.KNOWN_NAMES]
    write_json(json_file, {"datasets": rows})
    for row in rows:
        say(json_file)(f"{row['name']:<{FIELD_WIDTH}} {row['state']}")


@dataset.command("show")
@click.argument("name")
@home_option
@data_option
@json_option
def show_dataset(name: str, home: Home, data_dir: Path | None, json_file: str | None) -> None:
    """Show the manifest, id, sizes and classes of data set NAME."""
    description = _describe(registry.load(name, data_dir, home.path / DATASETS_DIRECTORY))
    write_json(json_file, description)
    for field, value in description.items():
        say(json_file)(f"{field:<{FIELD_WIDTH}} {' '.join(map(str, value)) if isinstance(value, list) else value}")


@dataset.command("fetch")
@click.argument("name")
@home_option
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Fetch from here instead; may be repeated.")
def fetch_dataset(name: str, home: Home, mirrors: tuple[str, ...]) -> None:
    """Download data set NAME from its mirrors and check it; a download that broke off is resumed."""
    if name == digits.NAME:
        click.echo(f"{name} is embedded, there is nothing to fetch")
        return
    if name != mnist.NAME:
        raise Unavailable(f"no mirror of a data set {name!r} is known; give its IDX files with --data DIR instead")
    directory = registry.fetched_directory(name, home.path / DATASETS_DIRECTORY)
    _fetch_with_bar(mirrors or MNIST_MIRRORS, directory)
    manifest = mnist.load_mnist(directory).manifest
    click.echo(f"{name} is in {directory}, id {manifest.dataset_id.hex()}")


def _fetch_with_bar(mirrors: tuple[str, ...], directory: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks = {f"{file.stem}.gz": bar.add_task(f"{file.stem}.gz", total=None, visible=False) for file in mnist.FILES}
        fetch(
            mnist.FILES,
            mirrors,
            directory,
            lambda name, received, total: bar.update(tasks[name], completed=received, total=total, visible=True),
        )


def _state(name: str, home: Home) -> str:
    if name == digits.NAME:
        return "embedded"
    directory = registry.fetched_directory(name, home.path / DATASETS_DIRECTORY)
    here = all(mnist.find_idx_file(directory, file) for file in mnist.FILES)
    return f"in {directory}" if here else f"not here; run: bnnchain dataset fetch {name}"


def _describe(loaded: Dataset) -> dict[str, object]:
    manifest = loaded.manifest
    return {
        "name": manifest.name,
        "id": manifest.dataset_id.hex(),
        "height": manifest.height,
        "width": manifest.width,
        "planes": manifest.planes,
        "thresholds": list(manifest.thresholds),
        "classes": manifest.classes,
        "pool_size": manifest.pool_size,
        "pool_bytes": manifest.pool_bytes,
        "pool_chunks": chunk_count(manifest.pool_bytes),
        "chunk_bytes": CHUNK_BYTES,
        "pool_root": manifest.pool_root.hex(),
        "pool_per_class": _per_class(loaded.pool),
        "hidden_size": manifest.hidden_size,
        "hidden_bytes": manifest.hidden_bytes,
        "hidden_root": manifest.hidden_root.hex(),
        "heldout_per_class": _per_class(loaded.heldout),
        "licence": manifest.licence,
        "origin": manifest.origin,
    }


def _per_class(samples: Samples) -> list[int]:
    counts: list[int] = np.bincount(samples.labels, minlength=samples.classes).tolist()
    return counts
