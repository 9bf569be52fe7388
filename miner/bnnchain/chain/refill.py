"""Filling a store from blocks and pools that are at hand, a snapshot's or a damaged store's, through the one door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.header import block_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import DatasetId

BATCH_BLOCKS = 64
"""Blocks that one flush of the disk puts into the store."""


class Refill:
    """Imports blocks in order and brings each data set's pool as soon as the chain asks for it.

    payload_of: returns a pool's payload, or None; it is checked against its manifest.
    trusted_height: as of :meth:`Chain.import_blocks`.
    """

    def __init__(
        self, chain: Chain, payload_of: Callable[[DatasetId], bytes | None], *, trusted_height: int = 0
    ) -> None:
        self._chain = chain
        self._payload_of = payload_of
        self._trusted_height = trusted_height
        self._asked: set[DatasetId] = set()

    def add(self, raws: Sequence[bytes]) -> None:
        """Import a batch of blocks; raises as :meth:`Chain.import_blocks`, what came before the bad block is in."""
        self._bring_pools()
        while True:
            try:
                self._chain.import_blocks(raws, self._trusted_height)
            except Unavailable:
                if not self._bring_pools():
                    raise
            else:
                self._bring_pools()
                return

    def salvage(self, raws: Iterable[bytes]) -> tuple[int, int]:
        """Import what can be imported of blocks in order of arrival; return how many were, and were not, taken."""
        taken, batch, lost = 0, list[bytes](), 0
        for raw in raws:
            batch.append(raw)
            if len(batch) == BATCH_BLOCKS:
                added, left = self._salvage(batch)
                taken, lost, batch = taken + added, lost + left, []
        added, left = self._salvage(batch)
        return taken + added, lost + left

    def _salvage(self, batch: list[bytes]) -> tuple[int, int]:
        lost, rest = 0, batch
        while rest:
            try:
                self.add(rest)
                break
            except (Invalid, Unavailable):
                first = next((number for number, raw in enumerate(rest) if not self._is_in(raw)), len(rest))
                rest = rest[first + 1 :]
                lost += 1
        return len(batch) - lost, lost

    def _is_in(self, raw: bytes) -> bool:
        try:
            return self._chain.store.has_block(block_id(decode_block(raw).header))
        except Invalid:
            return False

    def _bring_pools(self) -> bool:
        """Give the chain the pools that it asks for now and that are at hand; answer whether there was one."""
        has_brought = False
        for dataset_id in self._chain.missing_datasets():
            if dataset_id in self._asked:
                continue
            self._asked.add(dataset_id)
            payload = self._payload_of(dataset_id)
            if payload is not None:
                self._chain.add_dataset(dataset_id, payload)
                has_brought = True
        return has_brought
