"""``bnnchain dataset create``: a user's labelled images become a data set's files."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bnnchain.cli.options import home_option, json_option, say, write_json
from bnnchain.datasets.arrays import is_idx_directory, load_idx, load_npz
from bnnchain.datasets.create import (
    BP,
    MIN_SECRET_BYTES,
    OTSU,
    QUANTILES,
    CreatedDataset,
    CreateRequest,
    create_dataset,
)
from bnnchain.datasets.directory import validate_free, write_directory
from bnnchain.datasets.labelled import Source
from bnnchain.exchange.image_folder import load_folder
from bnnchain_kernels.model import MAX_PLANES, MAX_SIDE

if TYPE_CHECKING:
    from bnnchain.home import Home

DATASETS_DIRECTORY = "datasets"
MAX_SHOWN = 10
MAX_GREY = 255
SIZE_NUMBERS = 2


def _to_size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return (height, width) of ``28x28``."""
    if value is None:
        return None
    parts = value.split("x")
    if len(parts) != SIZE_NUMBERS or not all(_is_number(part, MAX_SIDE) for part in parts):
        raise click.BadParameter(f"{value!r} is not like 28x28, sides from 1 to {MAX_SIDE}")
    return int(parts[0]), int(parts[1])


def _to_thresholds(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[bytes | None, int]:
    """Return (the grey values stated, or None where they are to be chosen; how many planes)."""
    if value == OTSU:
        return None, 1
    kind, _, count = value.partition(":")
    if kind == QUANTILES and _is_number(count, MAX_PLANES) and count != "1":
        return None, int(count)
    parts = value.split(",")
    levels = [int(part) for part in parts] if all(_is_number(part, MAX_GREY) for part in parts) else []
    if not levels or sorted(set(levels)) != levels or len(levels) > MAX_PLANES:
        raise click.BadParameter(
            f"{value!r} is not {OTSU} (one plane), {QUANTILES}:N (2 to {MAX_PLANES} planes),"
            f" nor rising grey values from 1 to {MAX_GREY} with commas between"
        )
    return bytes(levels), len(levels)


def _is_number(text: str, most: int) -> bool:
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    return is_short and 1 <= int(text) <= most


@click.command("create")
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@home_option
@click.option("--out", type=click.Path(path_type=Path), help="Directory to make.  [default: datasets/NAME in the home]")
@click.option("--licence", required=True, help="SPDX expression, such as CC-BY-4.0.")
@click.option("--origin", required=True, help="Citation or address of where the images come from.")
@click.option(
    "--size",
    callback=_to_size,
    metavar="HEIGHTxWIDTH",
    help="Scale pictures into this frame, proportions kept.  [default: the first one's size, for all]",
)
@click.option(
    "--thresholds",
    callback=_to_thresholds,
    metavar="otsu|quantiles:N|VALUE,...",
    default=OTSU,
    show_default=True,
    help="Where grey becomes a bit: a value a plane, or a way to choose them from the pool.",
)
@click.option("--hidden", type=click.FloatRange(0, 90), default=10.0, show_default=True, help="Percent held out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split and the order.")
@click.option("--invert", is_flag=True, help="Pictures are dark on light; make them light on dark.")
@click.option("--skip-broken", is_flag=True, help="Skip pictures that cannot be read instead of ending.")
@click.option("--drop-conflicts", is_flag=True, help="Drop equal images of different classes instead of ending.")
@json_option
def create(
    name: str,
    source: Path,
    home: Home,
    out: Path | None,
    licence: str,
    origin: str,
    size: tuple[int, int] | None,
    thresholds: tuple[bytes | None, int],
    hidden: float,
    seed: int,
    invert: bool,  # noqa: FBT001
    skip_broken: bool,  # noqa: FBT001
    drop_conflicts: bool,  # noqa: FBT001
    json_file: str | None,
) -> None:
    """Make data set NAME from SOURCE.

    SOURCE is a folder with a sub-folder of pictures for each class, an .npz file (images and labels, or with test
    arrays of its own), or a directory of IDX files named as MNIST's.
    """
    request = CreateRequest(
        name=name,
        licence=licence,
        origin=origin,
        secret=secrets.token_bytes(MIN_SECRET_BYTES),
        thresholds=thresholds[0],
        planes=thresholds[1],
        hidden_bp=round(hidden * BP / 100),
        seed=seed,
        drop_conflicts=drop_conflicts,
    )
    directory = out or home.path / DATASETS_DIRECTORY / name
    validate_free(directory)
    images = _load(source, size, invert=invert, skip_broken=skip_broken)
    created = create_dataset(images, request)
    write_directory(directory, created)
    write_json(json_file, _describe(created, images, directory))
    tell = say(json_file)
    for line in _lines(created, images, directory):
        tell(line)


def _load(source: Path, size: tuple[int, int] | None, *, invert: bool, skip_broken: bool) -> Source:
    is_folder = source.is_dir() and not is_idx_directory(source)
    if not is_folder and (size is not None or invert or skip_broken):
        raise click.UsageError("--size, --invert and --skip-broken are for folders of pictures; arrays are taken as is")
    if not is_folder:
        return load_idx(source) if source.is_dir() else load_npz(source)
    columns = (TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        return Source(
            load_folder(
                source,
                size,
                invert=invert,
                skip_broken=skip_broken,
                on_picture=lambda number, total: bar.update(task, completed=number, total=total),
            )
        )


def _lines(created: CreatedDataset, source: Source, directory: Path) -> list[str]:
    """Return what was made, and everything that is not in it, for people."""
    manifest = created.dataset.manifest
    share = 100 * created.majority / manifest.pool_size
    lines = [
        f"data set  {manifest.name}, id {manifest.dataset_id.hex()}",
        f"images    {manifest.height}x{manifest.width}, thresholds {' '.join(map(str, manifest.thresholds))}",
        f"pool      {manifest.pool_size} images, {manifest.pool_bytes} bytes, {manifest.classes} classes",
        f"held out  {manifest.hidden_size} images, {manifest.hidden_bytes} bytes",
        f"majority  {share:.2f} % of the pool; state at least {created.least_accuracy_bp / 100:.2f} % when uploading",
    ]
    lines += [f"warning   {warning}" for warning in created.warnings]
    lines += _shortened("dropped ", created.dropped) + _shortened("skipped ", source.images.skipped)
    return [*lines, f"written   {directory} (see it: bnnchain dataset show {manifest.name} --data {directory})"]


def _shortened(title: str, items: tuple[str, ...]) -> list[str]:
    more = [f"{title}  and {len(items) - MAX_SHOWN} more"] if len(items) > MAX_SHOWN else []
    return [f"{title}  {item}" for item in items[:MAX_SHOWN]] + more


def _describe(created: CreatedDataset, source: Source, directory: Path) -> dict[str, object]:
    manifest = created.dataset.manifest
    return {
        "name": manifest.name,
        "id": manifest.dataset_id.hex(),
        "directory": str(directory),
        "classes": list(created.class_names),
        "thresholds": list(manifest.thresholds),
        "pool_size": manifest.pool_size,
        "hidden_size": manifest.hidden_size,
        "majority": created.majority,
        "least_accuracy_bp": created.least_accuracy_bp,
        "warnings": list(created.warnings),
        "dropped": list(created.dropped),
        "skipped": list(source.images.skipped),
    }
