"""A chain's models, asked of a running node: which there are, and any of them rebuilt from its family's blocks.

Nothing is taken on trust that bytes can show: blocks are checked against their ids, models against their block's
``model_hash``.  Whether the chain itself keeps the rules is not checked here; that is a node's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import apply_difference, decode_model, model_hash
from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain.exchange.provenance import Provenance
from bnnchain.net.reads import MAX_RANGE_HEADERS
from bnnchain.wire import ZERO_HASH

if TYPE_CHECKING:
    from bnnchain.consensus.types import Block, Header
    from bnnchain.datasets.manifest import Manifest
    from bnnchain.net.client import NodeClient
    from bnnchain_kernels.model import Model

MAX_LISTED_HEADERS = 1 << 22
"""A chain longer than this is listed to here: 1.8 GB of headers."""
MAX_FAMILY_BLOCKS = 4_096
"""Models of one family that are replayed to rebuild one of them."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A block that carries a model."""

    block_id: BlockId
    header: Header

    @classmethod
    def of(cls, header: Header) -> ListedModel:
        return cls(block_id(header), header)


async def list_models(node: NodeClient) -> list[ListedModel]:
    """Return the blocks of the node's active chain that carry a model, lowest first."""
    listed: list[ListedModel] = []
    start = 1
    while start <= MAX_LISTED_HEADERS:
        headers = await node.headers(start_height=start)
        listed += [ListedModel.of(header) for header in headers if header.kind != BlockKind.IDLE]
        if len(headers) < MAX_RANGE_HEADERS:
            break
        start += len(headers)
    return listed


async def read_model(node: NodeClient, identity: BlockId) -> tuple[Header, Model]:
    """Return a stored block's header and the model that it carries, an EVOLVE block's rebuilt from its family's.

    Raises :class:`Unavailable` where the node has not got the block or it carries none, :class:`Invalid` where an
    answer is not what its hash says.
    """
    blocks = [await _read_block(node, identity)]
    header = blocks[0].header
    if header.kind == BlockKind.IDLE:
        raise Unavailable(f"block {identity.hex()[:16]} carries no model")
    # A founder stands for itself; what follows needs all before it, for the best of them is the parent.
    while header.kind == BlockKind.EVOLVE and (previous := blocks[-1].header.previous_model_hash) != ZERO_HASH:
        if len(blocks) == MAX_FAMILY_BLOCKS:
            raise Unavailable(f"more than {MAX_FAMILY_BLOCKS} models lead to block {identity.hex()[:16]}")
        blocks.append(await _read_block(node, previous))
    return header, rebuild(blocks[::-1])[0]


def rebuild(blocks: list[Block]) -> tuple[Model, Model | None]:
    """Return the last block's model and, for a child, its parent; the blocks are a family's, from its first one on.

    Paper section 4.4: a child's parent is the family's best on the pool, of equals the latest.  Raises
    :class:`Invalid` ``bad-model-hash`` where a model is not the one its header names.
    """
    best: Model | None = None
    parent: Model | None = None
    best_correct = -1
    for block in blocks:
        header = block.header
        if header.kind == BlockKind.EVOLVE:
            if best is None:
                raise Invalid("bad-previous-model", reason="a family that starts with EVOLVE", height=header.height)
            parent, model = best, apply_difference(best, block.model)
        else:
            parent, model = None, decode_model(block.model)
        if model_hash(model) != header.model_hash:
            raise Invalid("bad-model-hash", height=header.height)
        if header.kind == BlockKind.EVOLVE or header.correct_new >= best_correct:
            best, best_correct = model, header.correct_new
    return model, parent


def provenance_of(
    header: Header, identity: BlockId, chain_name: str, genesis_id: BlockId, manifest: Manifest | None
) -> Provenance:
    """Return the papers of a block's model; without a manifest, a closed data set's may be gone, less of it."""
    return Provenance(
        model_hash=header.model_hash.hex(),
        chain=chain_name,
        genesis_id=genesis_id.hex(),
        block_id=identity.hex(),
        height=header.height,
        family=header.family_id,
        generation=header.generation,
        miner=header.miner.hex(),
        dataset=manifest.name if manifest else None,
        dataset_id=header.dataset_id.hex(),
        thresholds=tuple(manifest.thresholds) if manifest else None,
        licence=manifest.licence if manifest else None,
        origin=manifest.origin if manifest else None,
        correct=header.correct_new,
        total=header.eval_total,
    )


async def _read_block(node: NodeClient, identity: BlockId) -> Block:
    block = decode_block(await node.block(identity))
    if block_id(block.header) != identity:
        raise Invalid("bad-message", field="block", reason="another block than was asked for")
    return block
