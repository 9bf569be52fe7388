"""`bnnchain snapshot`: a whole chain in one file, for backup and restore."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.backends import evaluator_factory
from bnnchain.chain.chain import Chain
from bnnchain.chain.snapshot import import_snapshot, read_snapshot, write_snapshot
from bnnchain.chain.store import Store
from bnnchain.cli.options import backend_option, home_option, json_option, say, write_json
from bnnchain.home import parse_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.snapshot import Snapshot
    from bnnchain.home import Home

PROGRESS_BLOCKS = 1_024


@click.group()
def snapshot() -> None:
    """Back a chain up to one file, and restore it."""


@snapshot.command("export")
@home_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def export_chain(home: Home, file: Path, json_file: str | None) -> None:
    """Write the chain of a home to FILE; a node may be running.

    Blocks and pools, all public: no key, no configuration.  Back up the wallet by itself.
    """
    with closing(Store(home.store_file, home.spec())) as store:
        made = write_snapshot(store, file)
    say(json_file)(f"wrote {file}: {_describe(made)}")
    write_json(json_file, _fields(made))


@snapshot.command("import")
@home_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="HEIGHT:ID",
    help="Refuse FILE unless this block is on its chain, and take the blocks up to it without counting their models"
    " again: their ids follow from it.  Only a block that you know from elsewhere; repeatable.",
)
@backend_option
@json_option
def import_chain(home: Home, file: Path, checkpoints: Sequence[str], backend: str, json_file: str | None) -> None:
    """Put the chain of FILE into a home, an empty one too, while no node runs there.

    Every block is judged as if a peer had sent it.  Interrupted, the same command goes on.  A heavier chain that the
    home has already stays its active one.
    """
    pins = dict(map(parse_checkpoint, checkpoints))
    given = read_snapshot(file, pins)
    home.create(given.spec)
    with home.locked(), closing(Store(home.store_file, given.spec)) as store:
        chain = Chain(store, evaluator_factory(backend), checkpoints=pins)
        trusted_height = max((height for height in pins if height <= given.height), default=0)

        def tell(height: int) -> None:
            if height % PROGRESS_BLOCKS == 0:
                say(json_file)(f".. {height} of {given.height} blocks")

        import_snapshot(given, chain, trusted_height=trusted_height, on_height=tell)
        head = chain.head
    say(json_file)(f"took in {file}: {_describe(given)}")
    if head.head != given.head:
        say(json_file)(f"the home's own chain is the heavier one and stays: height {head.height}, weight {head.weight}")
    write_json(json_file, {**_fields(given), "is_head": head.head == given.head, "trusted_height": trusted_height})


def _describe(made: Snapshot) -> str:
    count = len(made.dataset_places)
    return f"chain {made.spec.name}, {made.height} blocks, {count} pools, head {made.head.hex()}, weight {made.weight}"


def _fields(made: Snapshot) -> dict[str, object]:
    return {
        "chain": made.spec.name,
        "genesis": made.spec.genesis_id.hex(),
        "height": made.height,
        "head": made.head.hex(),
        "weight": made.weight,
        "pools": len(made.dataset_places),
        "size_bytes": made.path.stat().st_size,
    }
