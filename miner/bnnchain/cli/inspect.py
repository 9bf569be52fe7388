"""`bnnchain show` and `bnnchain verify`: what a home's chain holds, and whether it keeps every rule."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from bnnchain.backends import evaluator_factory
from bnnchain.bnn.encoding import encode_model
from bnnchain.chain.chain import Chain
from bnnchain.chain.store import Store
from bnnchain.chain.verify import verify_chain
from bnnchain.cli.options import backend_option, home_option, json_option, say, write_json
from bnnchain.cli.status import describe_alarm, show_datasets, show_node
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import Block, BlockId, BlockKind, Bounty, Transfer, Upload
from bnnchain.home import Home, parse_hash
from bnnchain.wire import HASH_BYTES
from bnnchain_kernels.model import Conv3x3, Layer
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.consensus.state import ChainState, FamilyState
    from bnnchain.consensus.types import TransactionBody
    from bnnchain_kernels.model import Architecture

SHORT_ID = 16
MAX_HEIGHT = (1 << 63) - 1
BATCH_BLOCKS = 256


@click.command()
@home_option
@backend_option
@json_option
def verify(home: Home, backend: str, json_file: str | None) -> None:
    """Replay the chain from genesis, kernel included; exit 1 with the reject code at the first bad block."""
    store = open_store(home)
    started = time.monotonic()
    try:
        state = verify_chain(store, evaluator_factory(backend), int(time.time()), lambda _state: None)
    finally:
        store.close()
    seconds = time.monotonic() - started
    say(json_file)(f"{state.height} blocks keep every rule; head {state.head.hex()} ({seconds:.1f} s)")
    write_json(json_file, {"height": state.height, "head": state.head.hex(), "seconds": round(seconds, 3)})


@click.group()
def show() -> None:
    """Show the chain, a block, a family, a model or the data sets of a home, or a running node."""


show.add_command(show_node)
show.add_command(show_datasets)


@show.command("chain")
@home_option
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Blocks to show.")
@json_option
def show_chain(home: Home, last: int, json_file: str | None) -> None:
    """Show the last blocks."""
    store = open_store(home)
    state = Chain(store, ReferenceEvaluator).head
    blocks = [describe_block(raw) for raw in iterate_blocks(store, max(1, state.height - last + 1))]
    alarms = store.alarms()
    store.close()
    for alarm in alarms:
        say(json_file)(f"ALARM: {describe_alarm(alarm)}")
    title = f"{store.spec.name}: height {state.height}, head {state.head.hex()}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("#", "id", "kind", "fam", "gen", "correct", "parent", "of", "txs", "bytes"):
        table.add_column(column, justify="right" if column not in {"id", "kind"} else "left", no_wrap=True)
    for block in blocks:
        row = ("height", "id", "kind", "family", "generation", "correct_new", "correct_parent", "eval_total")
        texts = ["" if block[field] is None else str(block[field]) for field in row]
        texts[1] = texts[1][:SHORT_ID]
        table.add_row(*texts, str(block["transaction_count"]), str(block["bytes"]))
    Console(stderr=json_file == "-").print(table)
    result = {"height": state.height, "head": state.head.hex(), "weight": state.weight}
    write_json(json_file, result | {"alarms": [describe_alarm(alarm) for alarm in alarms], "blocks": blocks})


@show.command("block")
@home_option
@click.argument("which")
@json_option
def show_block(home: Home, which: str, json_file: str | None) -> None:
    """Show one block, WHICH being its height or id."""
    store = open_store(home)
    raw = find_block(store, which)
    store.close()
    block = decode_block(raw)
    transactions = [describe_transaction(block, index) for index in range(len(block.transactions))]
    fields = describe_block(raw) | {"transactions": transactions}
    for name, value in fields.items():
        say(json_file)(f"{name:20} {value}")
    write_json(json_file, fields)


@show.command("family")
@home_option
@click.argument("family_id", type=click.IntRange(min=0))
@json_option
def show_family(home: Home, family_id: int, json_file: str | None) -> None:
    """Show a family: its shape, founders and generations."""
    store = open_store(home)
    family = find_family(Chain(store, ReferenceEvaluator).head, family_id)
    blocks = [block for block in map(describe_block, iterate_blocks(store, 1)) if block["family"] == family_id]
    members = [block for block in blocks if block["kind"] != BlockKind.IDLE.name]
    store.close()
    result = {
        "family": family_id,
        "shape": describe_shape(family.architecture),
        "weights": family.architecture.weight_count,
        "generation": family.generation,
        "model_count": family.model_count,
        "best_correct": family.best.correct,
        "models": members,
    }
    say(json_file)(
        f"family {family_id}: {result['shape']}, {result['weights']} weights, generation {family.generation}"
    )
    for member in members:
        share = 100 * member["correct_new"] / member["eval_total"]
        say(json_file)(
            f"  height {member['height']:>6}  {member['kind']:6}  generation {member['generation']:>4}"
            f"  {member['correct_new']}/{member['eval_total']} ({share:.2f} %)"
        )
    write_json(json_file, result)


@show.command("model")
@home_option
@click.argument("family_id", type=click.IntRange(min=0))
@json_option
def show_model(home: Home, family_id: int, json_file: str | None) -> None:
    """Show a family's best model, with its wire form as hex."""
    store = open_store(home)
    family = find_family(Chain(store, ReferenceEvaluator).head, family_id)
    store.close()
    best, shape = family.best, family.architecture
    wire = encode_model(best.model)
    result = {
        "family": family_id,
        "model_hash": best.model_hash.hex(),
        "block": best.block_id.hex(),
        "height": best.height,
        "generation": best.generation,
        "correct": best.correct,
        "shape": describe_shape(family.architecture),
        "weights": shape.weight_count,
        "macs": shape.mac_count,
        "bytes": len(wire),
        "miner": best.miner.hex(),
        "wire": wire.hex(),
    }
    for name, value in result.items():
        if name != "wire":
            say(json_file)(f"{name:12} {value}")
    write_json(json_file, result)


def open_store(home: Home) -> Store:
    """Return the home's store."""
    return Store(home.store_file, home.spec())


def iterate_blocks(store: Store, start: int) -> Iterator[bytes]:
    """Yield the bytes of the active chain's blocks from height ``start`` up."""
    while blocks := store.active_blocks(start, BATCH_BLOCKS):
        for _, raw in blocks:
            yield raw
        start += len(blocks)


def find_block(store: Store, which: str) -> bytes:
    """Return the block of a height or an id (hex); raises ``bad-id`` or :class:`Unavailable`."""
    if which.isdecimal() and len(which) < 2 * HASH_BYTES:
        identity = store.active_id(int(which)) if int(which) <= MAX_HEIGHT else None
    else:
        identity = BlockId(parse_hash(which))
    raw = store.block(identity) if identity else None
    if raw is None:
        raise Unavailable(f"no block {which} in this store")
    return raw


def find_family(state: ChainState, family_id: int) -> FamilyState:
    """Return a family of the chain; raises :class:`Unavailable`."""
    if family_id >= len(state.families):
        raise Unavailable(f"no family {family_id}; the chain has {len(state.families)}")
    return state.families[family_id]


def describe_shape(shape: Architecture) -> str:
    """Return a shape in words, such as ``28x28x1 conv4+pool conv16+pool dense10``."""
    return " ".join([f"{shape.height}x{shape.width}x{shape.planes}", *map(_describe_layer, shape.layers)])


def describe_block(raw: bytes) -> dict[str, Any]:
    """Return a block's fields for people and programs; hashes as hex."""
    block = decode_block(raw)
    header = block.header
    has_model = header.kind != BlockKind.IDLE
    return {
        "height": header.height,
        "id": block_id(header).hex(),
        "previous": header.previous_hash.hex(),
        "timestamp": header.timestamp,
        "miner": header.miner.hex(),
        "kind": header.kind.name,
        "dataset": header.dataset_id.hex(),
        "family": header.family_id if has_model else None,
        "generation": header.generation,
        "model_count": header.model_count,
        "model_hash": header.model_hash.hex(),
        "correct_new": header.correct_new,
        "correct_parent": header.correct_parent,
        "eval_total": header.eval_total,
        "model_bytes": len(block.model),
        "transaction_count": len(block.transactions),
        "bytes": len(raw),
    }


def describe_transaction(block: Block, index: int) -> dict[str, object]:
    """Return a transaction's fields; hashes as hex."""
    transaction = block.transactions[index]
    return {
        "id": transaction_id(transaction).hex(),
        "kind": type(transaction.body).__name__.lower(),
        "sender": transaction.sender.hex(),
        **_describe_body(transaction.body),
        "fee": transaction.fee,
        "nonce": transaction.nonce,
    }


def _describe_body(body: TransactionBody) -> dict[str, object]:
    if isinstance(body, Transfer):
        return {"recipient": body.recipient.hex(), "amount": body.amount}
    if isinstance(body, Bounty):
        return {"dataset": body.dataset_id.hex(), "amount": body.amount}
    if isinstance(body, Upload):
        manifest = body.manifest
        return {"dataset": manifest.dataset_id.hex(), "name": manifest.name, "pool": manifest.pool_size}
    return {"miner": body.first.miner.hex(), "height": body.first.height}


def _describe_layer(layer: Layer) -> str:
    if isinstance(layer, Conv3x3):
        return f"conv{layer.filters}{'+pool' if layer.pool else ''}"
    return f"dense{layer.units}"
