"""The models of a chain's blocks, rebuilt from their families' blocks, with what each changed of its parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flip_positions
from bnnchain.chain.validator import Cache
from bnnchain.consensus.codec import decode_block, decode_header
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain.net.models import MAX_FAMILY_BLOCKS, rebuild
from bnnchain.wire import ZERO_HASH

if TYPE_CHECKING:
    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import Block, Header
    from bnnchain_kernels.model import Model

CACHED_MODELS = 64


@dataclass(frozen=True, slots=True, eq=False)
class ChainModel:
    """A block's model."""

    block_id: BlockId
    header: Header
    model: Model
    parent: Model | None
    """None for a founder, and where blocks that lead to it were pruned."""
    wire_bytes: int | None
    """What the block carries of it, the whole model or the difference; None where it was pruned."""


@dataclass(frozen=True, slots=True)
class LayerChange:
    """What a child changed in one layer of its parent."""

    layer: int
    flips: int
    weights: int
    limits: int
    """Thresholds of a hidden layer, biases of the last."""


class ChainModels:
    """Rebuilds models from the store; keeps the last ones; safe to use from several threads."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._models: Cache[BlockId, ChainModel] = Cache(CACHED_MODELS)

    def read(self, block_id: BlockId) -> ChainModel:
        """Return a stored block's model; raises :class:`Unavailable` where it is not stored or carries none."""
        try:
            return self._models.get(block_id, lambda: self._read(block_id))
        except Unavailable:
            kept = self._kept(block_id)
            if kept is None:
                raise
            return kept

    def _read(self, block_id: BlockId) -> ChainModel:
        blocks = [self._block(block_id)]
        header = blocks[0].header
        if header.kind == BlockKind.IDLE:
            raise Unavailable(f"block {block_id.hex()[:16]} carries no model")
        # A founder stands for itself; a child needs all before it, for the best of them is its parent.
        while header.kind == BlockKind.EVOLVE and (previous := blocks[-1].header.previous_model_hash) != ZERO_HASH:
            if len(blocks) == MAX_FAMILY_BLOCKS:
                raise Unavailable(f"more than {MAX_FAMILY_BLOCKS} models lead to block {block_id.hex()[:16]}")
            blocks.append(self._block(previous))
        try:
            model, parent = rebuild(blocks[::-1])
        except Invalid as error:  # what is stored was judged before
            raise Fault(f"the store is damaged: {error}") from error
        return ChainModel(block_id, header, model, parent, len(blocks[0].model))

    def _kept(self, block_id: BlockId) -> ChainModel | None:
        """Return a model that the head's state holds, whose block may have been pruned."""
        for family in self._chain.head.families:
            for record in (*family.founders, family.best, family.latest):
                if record.block_id == block_id:
                    raws = self._chain.store.active_headers(record.height, 1)
                    return ChainModel(block_id, decode_header(raws[0]), record.model, None, None) if raws else None
        return None

    def _block(self, block_id: BlockId) -> Block:
        raw = self._chain.store.block(block_id)
        if raw is None:
            raise Unavailable(f"block {block_id.hex()[:16]} is not in this node's store")
        return decode_block(raw)


def changes(parent: Model, child: Model) -> list[LayerChange]:
    """Return what a child changed, layer by layer."""
    geometry = child.architecture.geometry
    ends = np.cumsum([layer.weight_count for layer in geometry])
    flips = np.bincount(np.searchsorted(ends, flip_positions(parent, child), side="right"), minlength=len(geometry))
    before, after = (*parent.thresholds, parent.biases), (*child.thresholds, child.biases)
    return [
        LayerChange(index, int(flips[index]), layer.weight_count, int(np.count_nonzero(before[index] != after[index])))
        for index, layer in enumerate(geometry)
    ]
