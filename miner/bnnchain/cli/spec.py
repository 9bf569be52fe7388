"""`bnnchain spec`: what a chain's constitution says, and whether a file is the one that others follow."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.bnn.notation import format_architecture
from bnnchain.cli.options import json_option, say, write_json
from bnnchain.consensus.errors import Invalid
from bnnchain.home import is_for_tests, parse_hash, read_spec_file

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec

file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def spec() -> None:
    """Show or check a chain's spec: the file chain.json that everybody on a chain has."""


@spec.command()
@file_argument
@json_option
def show(file: Path, json_file: str | None) -> None:
    """Show what the spec in FILE says: genesis id, first data set, coins and rules."""
    read = read_spec_file(file)
    told = describe_spec(read)
    rules = {height: asdict(params) for height, params in read.schedule}
    for name, value in told.items():
        say(json_file)(f"{name:14} {value}")
    for height, params in rules.items():
        say(json_file)(f"rules from block {height}")
        for name, value in params.items():
            say(json_file)(f"  {name:28} {value}")
    write_json(json_file, {**told, "schedule": rules})


@spec.command()
@file_argument
@click.argument("genesis", required=False)
@json_option
def check(file: Path, genesis: str | None, json_file: str | None) -> None:
    """Check that FILE is a chain's spec and, where GENESIS is given, of the chain with this genesis id.

    The genesis id commits to all of the spec: whoever compares it with somebody else's has compared every rule.
    """
    read = read_spec_file(file)
    if genesis is not None and parse_hash(genesis) != read.genesis_id:
        raise Invalid("other-chain", file=file, genesis=read.genesis_id.hex(), wanted=genesis.lower())
    say(json_file)(f"{read.name}, genesis {read.genesis_id.hex()}" + ("" if genesis is None else ", as wanted"))
    if is_for_tests(read):
        say(json_file)("its lottery is open: a chain for tests and study, whose coins are worth nothing")
    result = {"name": read.name, "genesis": read.genesis_id.hex(), "is_for_tests": is_for_tests(read)}
    write_json(json_file, result)


def describe_spec(read: ChainSpec) -> dict[str, object]:
    """Return a spec's content but for its rules, for people and programs."""
    data = read.dataset
    return {
        "name": read.name,
        "genesis": read.genesis_id.hex(),
        "chain_id": read.chain_id,
        "begins": datetime.fromtimestamp(read.genesis_time, timezone.utc).isoformat(),
        "first_target": f"{read.initial_target:x}",
        "dataset": data.name,
        "dataset_id": data.dataset_id.hex(),
        "images": f"{data.pool_size} of {data.height}x{data.width}, {data.classes} classes, {data.licence}",
        "lottery_model": format_architecture(read.model.architecture),
        "first_coins": sum(amount for _, amount in read.allocations),
        "first_owners": len(read.allocations),
    }
