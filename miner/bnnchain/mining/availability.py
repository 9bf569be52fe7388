"""Proofs that this miner holds the data sets of others: the pieces that the parent block draws (PROTOCOL.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.consensus.registry import needs_proofs, prove_available
from bnnchain.datasets.chunks import ChunkTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import AvailabilityProof, DatasetId, PublicKey


def availability_proofs(
    state: ChainState, miner: PublicKey, payload_of: Callable[[DatasetId], bytes | None]
) -> tuple[AvailabilityProof, ...]:
    """Return a proof for each data set that waits for one and is here, ascending by its id.

    payload_of: returns a data set's pool payload, or None where it is not here; 16 MiB are hashed in a tenth of a
    second, once a block.
    """
    proofs = []
    for dataset_id in sorted(key for key, entry in state.datasets.items() if needs_proofs(entry)):
        payload = payload_of(dataset_id)
        if payload is not None:
            manifest = state.datasets[dataset_id].manifest
            proofs.append(prove_available(state.head, miner, manifest, ChunkTree(payload)))
    return tuple(proofs)
