"""Which of a running node's models is meant, and that model with its papers."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bnnchain.cli.options import open_node
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain.home import parse_hash
from bnnchain.net.convert import MAX_HEIGHT
from bnnchain.net.models import ListedModel, list_models, provenance_of, read_model
from bnnchain.wire import HASH_BYTES

if TYPE_CHECKING:
    from bnnchain.exchange.provenance import Provenance
    from bnnchain.net.client import NodeClient
    from bnnchain_kernels.model import Model

BEST = "best"
_FAMILY = re.compile(r"(\d{1,10}):(\d{1,10})?")


async def list_rows(address: str) -> list[dict[str, Any]]:
    """Return every model of a node's active chain, lowest block first; hashes as hex."""
    async with open_node(address) as node:
        return [_row(each) for each in await list_models(node)]


async def fetch(address: str, which: str) -> tuple[Model, Provenance]:
    """Return a model of a node's chain and its provenance; raises ``bad-id`` or :class:`Unavailable`."""
    async with open_node(address) as node:
        identity = await _find(node, which)
        header, model = await read_model(node, identity)
        status = await node.status()
        manifest = None
        with suppress(Unavailable):  # a closed data set's manifest may be gone, its models are not
            manifest = await node.manifest(header.dataset_id)
    return model, provenance_of(header, identity, status.chain_name, status.genesis_id, manifest)


async def _find(node: NodeClient, which: str) -> BlockId:
    if which.isdecimal() and len(which) < 2 * HASH_BYTES:
        height = int(which)
        headers = await node.headers(start_height=height, count=1) if 0 < height <= MAX_HEIGHT else []
        if not headers:
            raise Unavailable(f"the node's chain has no block {which}")
        return ListedModel.of(headers[0]).block_id
    named = _FAMILY.fullmatch(which)
    if which != BEST and named is None:
        return BlockId(parse_hash(which))
    listed = await list_models(node)
    if named is not None:
        family, generation = int(named[1]), named[2]
        listed = [each for each in listed if each.header.family_id == family]
        listed = [each for each in listed if generation is None or each.header.generation == int(generation)]
    if not listed:
        raise Unavailable(f"the node's chain has no model {which}")
    return max(listed, key=lambda each: (_share(each), each.header.height)).block_id


def _share(listed: ListedModel) -> float:
    return listed.header.correct_new / max(1, listed.header.eval_total)


def _row(listed: ListedModel) -> dict[str, Any]:
    header = listed.header
    return {
        "family": header.family_id,
        "generation": header.generation,
        "height": header.height,
        "block_id": listed.block_id.hex(),
        "kind": BlockKind(header.kind).name,
        "model_hash": header.model_hash.hex(),
        "dataset_id": header.dataset_id.hex(),
        "miner": header.miner.hex(),
        "correct": header.correct_new,
        "total": header.eval_total,
    }
