"""The data sets' pools that this node holds: which it needs, which it lacks, and how many it keeps.

A pool that a miner lacks costs it the blocks on that data set, nothing else; one that a validator lacks makes those
blocks wait.  Closed data sets are kept while there is room: a node that joins later has to judge their old blocks.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bnnchain.chain.schema import Damaged
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.state import DatasetStatus
from bnnchain.consensus.types import DatasetId
from bnnchain.datasets.dataset import dataset_from_payloads

if TYPE_CHECKING:
    from bnnchain.chain.store import Store
    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.state import ChainState
    from bnnchain.datasets.manifest import Manifest

DEFAULT_LIMIT_BYTES = 1 << 32
"""Of pool payloads on disk: 256 data sets of the largest size."""
_FETCH_ORDER = (DatasetStatus.ACTIVE, DatasetStatus.SUSPENDED, DatasetStatus.PENDING)


class Pools:
    """Moves pools from the store to the validator, and keeps the store within its limit.  Thread-safe.

    limit_bytes: what all stored payloads together may take; those of active data sets are kept in any case.
    """

    def __init__(self, store: Store, validator: Validator, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._store = store
        self._validator = validator
        self._limit_bytes = limit_bytes
        self._loaded: set[DatasetId] = set()
        self._lock = threading.RLock()

    def missing(self, state: ChainState) -> list[DatasetId]:
        """Return the ids of the pools that ``state`` asks for and that are not here, most needed first.

        What has come into the store since, from this node's operator, is loaded first.  Raises :class:`Fault` where a
        stored pool is damaged.
        """
        with self._lock:
            return [dataset_id for dataset_id in self._wanted(state) if not self._load(state, dataset_id)]

    def add(self, manifest: Manifest, dataset_id: DatasetId, payload: bytes) -> None:
        """Store a pool's payload and use it; raises :class:`Invalid` where it is not what its manifest says."""
        pool = dataset_from_payloads(manifest, payload).pool
        with self._lock:
            self._store.put_dataset(dataset_id, payload)
            self._validator.add_dataset(dataset_id, pool)
            self._loaded.add(dataset_id)

    def trim(self, state: ChainState) -> None:
        """Forget the oldest closed data sets' payloads where all of them together take more than the limit."""
        if not any(entry.is_closed for entry in state.datasets.values()):
            return
        with self._lock:
            sizes = self._store.dataset_sizes()
            excess = sum(sizes.values()) - self._limit_bytes
            for dataset_id, entry in state.datasets.items():
                if excess > 0 and entry.is_closed and dataset_id in sizes:
                    self._store.drop_dataset(dataset_id)
                    excess -= sizes[dataset_id]

    def _wanted(self, state: ChainState) -> list[DatasetId]:
        """Return the pools to have: all active ones, then the others, oldest first, as far as the limit goes."""
        wanted, room = list[DatasetId](), self._limit_bytes
        for status in _FETCH_ORDER:
            for dataset_id, entry in state.datasets.items():
                if entry.status != status:
                    continue
                room -= entry.manifest.pool_bytes
                if entry.is_active or room >= 0:
                    wanted.append(dataset_id)
        return wanted

    def _load(self, state: ChainState, dataset_id: DatasetId) -> bool:
        """Give a stored pool to the validator; answer whether it has it."""
        if dataset_id in self._loaded:
            return True
        payload = self._store.dataset(dataset_id)
        if payload is None:
            return False
        try:
            pool = dataset_from_payloads(state.datasets[dataset_id].manifest, payload).pool
        except Invalid as error:
            raise Damaged(f"the store is damaged: data set {dataset_id.hex()[:16]}: {error}") from error
        self._validator.add_dataset(dataset_id, pool)
        self._loaded.add(dataset_id)
        return True


def manifest_of(state: ChainState, dataset_id: DatasetId) -> Manifest:
    """Return the manifest of a data set of the chain; raises :class:`Unavailable` where it has none of that id."""
    entry = state.datasets.get(dataset_id)
    if entry is None:
        raise Unavailable(f"unknown data set {dataset_id.hex()[:16]}")
    return entry.manifest
