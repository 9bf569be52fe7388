"""Which blocks of the active chain carry a model: what lists, trees and plots are drawn from."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.consensus.codec import decode_header
from bnnchain.consensus.header import block_id as header_id
from bnnchain.consensus.params import BP
from bnnchain.consensus.types import BlockId, BlockKind, DatasetId, Height, PublicKey

if TYPE_CHECKING:
    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import Header

MAX_INDEXED_MODELS = 50_000
"""Of a longer chain the latest so many are shown."""
_READ_HEADERS = 256


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A block with a model, without the model."""

    block_id: BlockId
    height: Height
    timestamp: int
    kind: BlockKind
    dataset_id: DatasetId
    family_id: int
    generation: int
    correct: int
    correct_parent: int
    """0 for a founder."""
    total: int
    miner: PublicKey

    @property
    def accuracy_bp(self) -> float:
        """Share of the pool that it labels right."""
        return BP * self.correct / max(1, self.total)


class ModelIndex:
    """Follows the active chain when asked, a reorganisation included; safe to use from several threads."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._entries: list[ModelEntry] = []
        self._last: tuple[Height, BlockId] = (Height(0), chain.spec.genesis_id)
        """The block that was looked at last, with a model or without."""

    def entries(self) -> list[ModelEntry]:
        """Return the active chain's models, lowest block first, at most ``MAX_INDEXED_MODELS``; blocking."""
        with self._lock:
            self._step_back()
            self._follow()
            return list(self._entries)

    def _step_back(self) -> None:
        store = self._chain.store
        if store.active_id(self._last[0]) == self._last[1]:
            return
        while self._entries and store.active_id(self._entries[-1].height) != self._entries[-1].block_id:
            self._entries.pop()
        kept = self._entries[-1] if self._entries else None
        self._last = (kept.height, kept.block_id) if kept else (Height(0), self._chain.spec.genesis_id)

    def _follow(self) -> None:
        while batch := self._chain.store.active_headers(self._last[0] + 1, _READ_HEADERS):
            for raw in batch:
                header = decode_header(raw)
                block_id = header_id(header)
                if header.previous_hash != self._last[1]:
                    return  # a reorganisation between two batches: the next question finds the fork
                if header.kind != BlockKind.IDLE:
                    self._entries.append(entry_of(block_id, header))
                self._last = (header.height, block_id)
        del self._entries[:-MAX_INDEXED_MODELS]


def entry_of(block_id: BlockId, header: Header) -> ModelEntry:
    """Return a block's entry."""
    return ModelEntry(
        block_id=block_id,
        height=header.height,
        timestamp=header.timestamp,
        kind=header.kind,
        dataset_id=header.dataset_id,
        family_id=header.family_id,
        generation=header.generation,
        correct=header.correct_new,
        correct_parent=header.correct_parent,
        total=header.eval_total,
        miner=header.miner,
    )
