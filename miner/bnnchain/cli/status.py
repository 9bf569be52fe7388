"""`bnnchain show node` and `show datasets`: how a running node is, and what a chain counts on."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from bnnchain.chain.chain import Chain
from bnnchain.chain.store import Store
from bnnchain.cli.options import home_option, json_option, node_option, open_node, say, write_json
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from bnnchain.chain.store import DeepReorg
    from bnnchain.home import Home
    from bnnchain.net.messages import Agreement, Status

SHORT_ID = 16


@click.command("node")
@node_option
@json_option
def show_node(address: str, json_file: str | None) -> None:
    """Show how a running node is: its head, whether its peers agree, what it lacks, alarms."""

    async def ask() -> Status:
        async with open_node(address) as node:
            return await node.status()

    status = asyncio.run(ask())
    alarm = status.deep_reorg
    result = {
        "chain": status.chain_name,
        "height": status.height,
        "head": status.head.block_id.hex(),
        "role": status.role.name.lower(),
        "peers": status.peer_count,
        "agreement": describe_agreement(status.agreement, status.head.block_id),
        "syncing": status.is_syncing,
        "waiting": status.mempool_count,
        "families": status.family_count,
        "missing": [dataset_id.hex() for dataset_id in status.missing_dataset_ids],
        "backend": status.backend,
        "version": status.version,
        "alarm": None if alarm is None else describe_alarm(alarm),
    }
    for name, value in result.items():
        if value not in (None, []):
            say(json_file)(f"{name:12} {value}")
    write_json(json_file, result)


@click.command("datasets")
@home_option
@json_option
def show_datasets(home: Home, json_file: str | None) -> None:
    """Show the data sets of a home's chain."""
    with closing(Store(home.store_file, home.spec())) as store:
        state = Chain(store, ReferenceEvaluator).head
        here = store.dataset_sizes()
    rows = [
        {
            "id": dataset_id.hex(),
            "name": entry.manifest.name,
            "status": entry.status.name.lower(),
            "since": entry.since_height,
            "proofs": entry.window.bit_count(),
            "families": sum(family.dataset_id == dataset_id for family in state.families),
            "record": entry.record,
            "of": entry.manifest.pool_size,
            "bounty": entry.bounty,
            "is_here": dataset_id in here,
        }
        for dataset_id, entry in state.datasets.items()
    ]
    for row in rows:
        say(json_file)(
            f"{str(row['id'])[:SHORT_ID]}  {row['name']:12} {row['status']:9} since {row['since']}"
            f"  {row['families']} families, best {row['record']}/{row['of']}, bounty {row['bounty']}"
            f"{'' if row['is_here'] else '  (pool not here)'}"
        )
    write_json(json_file, {"height": state.height, "datasets": rows})


def describe_agreement(agreement: Agreement, head: bytes) -> str:
    """Return what the dialled peers agree on, in words."""
    count = f"{agreement.votes} of {agreement.voters} dialled peers"
    if agreement.block_id is None:
        return f"none ({count} on one tip)"
    whose = "this head" if agreement.block_id == head else agreement.block_id.hex()[:SHORT_ID]
    return f"{whose} ({count})"


def describe_alarm(alarm: DeepReorg) -> str:
    """Return a deep reorganisation in words."""
    when = datetime.fromtimestamp(alarm.time_s, timezone.utc).isoformat(timespec="seconds")
    return f"{alarm.depth} blocks left the chain at {when} for {alarm.block_id.hex()} (height {alarm.height})"
