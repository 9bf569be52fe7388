"""`bnnchain repair`: reads the whole store, and replaces a damaged one by what is left of it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from bnnchain.backends import evaluator_factory
from bnnchain.chain.chain import Chain
from bnnchain.chain.refill import Refill
from bnnchain.chain.repair import Wreck, examine
from bnnchain.chain.schema import Damaged
from bnnchain.chain.store import Store
from bnnchain.cli.options import backend_option, home_option
from bnnchain.consensus.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.consensus.types import DatasetId
    from bnnchain.home import Home


@click.command()
@home_option
@backend_option
@click.option("--compact", is_flag=True, help="Give room that a sound store does not use back to the disk.")
def repair(home: Home, backend: str, compact: bool) -> None:  # noqa: FBT001  (a flag of the command line)
    """Look for damage in a home's store, and mend it, while no node runs there.

    A damaged store is set aside, never deleted.  A new one takes what can still be read of it, every block judged; the
    rest comes from peers, when the node runs again.
    """
    spec = home.spec()
    with home.locked():
        if not home.store_file.exists():
            raise Unavailable(f"there is no store in {home.path}: the node makes one when it runs")
        problems = _start(home) or examine(home.store_file)
        if not problems:
            click.echo(f"{home.store_file} is sound")
            if compact:
                with closing(Store(home.store_file, spec)) as store:
                    before = store.size_bytes()
                    store.compact()
                    click.echo(f"compacted from {before:,} to {store.size_bytes():,} bytes")
            return
        for problem in problems:
            click.echo(f"damaged: {problem}", err=True)
        aside = _set_aside(home.store_file)
        click.echo(f"the damaged store is now {aside}")
        with closing(Wreck(aside)) as wreck, closing(Store(home.store_file, spec)) as store:
            chain = Chain(store, evaluator_factory(backend))

            def payload_of(dataset_id: DatasetId) -> bytes | None:
                return _sound_payload(chain, dataset_id, wreck.payload(dataset_id))

            taken, lost = Refill(chain, payload_of).salvage(wreck.blocks())
            for previous, raw in wreck.sealed():
                store.put_sealed(previous, raw)
            click.echo(f"saved {taken} blocks, up to height {chain.head.height}; {lost} more could not be used")
    click.echo("run the node: it fetches the rest from its peers")


def _start(home: Home) -> list[str]:
    """Return what the start of a node finds damaged; raises :class:`Fault` where something else is in its way."""
    try:
        with closing(Store(home.store_file, home.spec())) as store:
            Chain(store, evaluator_factory("reference"))
    except Damaged as error:
        return [str(error)]
    return []


def _set_aside(path: Path) -> Path:
    """Rename a store's files; the log stays beside its store."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    if aside.exists():
        raise Fault(f"{aside} is there already; try again in a second")
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    return aside


def _sound_payload(chain: Chain, dataset_id: DatasetId, payload: bytes | None) -> bytes | None:
    """Return a pool's payload where it is what its manifest says; a peer has it otherwise."""
    if payload is None:
        return None
    try:
        chain.add_dataset(dataset_id, payload)
    except Invalid:
        return None
    return payload
