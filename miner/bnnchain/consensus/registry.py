"""Data sets as objects of the chain: proposed, available and so active, suspended, closed (paper section 4.3).

PROTOCOL.md, section "Data sets".  A pool is far too large for a block; that it can be had is shown by small proofs:
each block may carry the piece of the pool that its parent and its miner draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.lottery import counter_stream, draw_below
from bnnchain.consensus.state import DatasetState, DatasetStatus
from bnnchain.consensus.types import Amount, AvailabilityProof, DatasetId, Height
from bnnchain.datasets.chunks import LEAF_BYTES
from bnnchain.wire import tagged_hash, verify_merkle_path

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import BlockId, PublicKey, Upload
    from bnnchain.datasets.chunks import ChunkTree
    from bnnchain.datasets.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class Aged:
    """The data sets after a block, and what their closing gives back and burns."""

    datasets: dict[DatasetId, DatasetState]
    refunds: tuple[tuple[PublicKey, Amount], ...]
    burned: Amount


def validate_upload(upload: Upload, datasets: Mapping[DatasetId, DatasetState], params: Params) -> None:
    """Raise ``bad-upload``, ``dataset-known`` or ``datasets-full`` where a data set cannot be proposed."""
    if upload.manifest.pool_size < params.min_pool_size:
        raise Invalid("bad-upload", pool_size=upload.manifest.pool_size, least=params.min_pool_size)
    if upload.manifest.dataset_id in datasets:
        raise Invalid("dataset-known", dataset_id=upload.manifest.dataset_id.hex())
    waiting = (DatasetStatus.PENDING, DatasetStatus.SUSPENDED)
    # With the active ones, no state so ever holds more open data sets than the two limits together.
    if sum(entry.status in waiting for entry in datasets.values()) >= params.max_pending_datasets:
        raise Invalid("datasets-full", limit=params.max_pending_datasets)


def proposed(upload: Upload, uploader: PublicKey, height: Height, params: Params) -> DatasetState:
    """Return the state of a data set that a block of ``height`` proposes."""
    return DatasetState(
        manifest=upload.manifest,
        uploader=uploader,
        min_family_acc_bp=upload.min_family_acc_bp,
        status=DatasetStatus.PENDING,
        added_height=height,
        since_height=height,
        deposit=Amount(params.upload_deposit),
        bounty=upload.bounty,
        own_bounty=upload.bounty,
    )


def leaf_index(previous_hash: BlockId, miner: PublicKey, manifest: Manifest) -> int:
    """Return which 1 KiB piece of the pool a block of ``miner`` on ``previous_hash`` must show."""
    stream = counter_stream(tagged_hash("availability", previous_hash, miner, manifest.dataset_id))
    return draw_below(stream, leaf_count(manifest))


def prove_available(
    previous_hash: BlockId, miner: PublicKey, manifest: Manifest, payload: ChunkTree
) -> AvailabilityProof:
    """Return the proof that a block of ``miner`` on ``previous_hash`` carries for the data set of ``payload``."""
    leaf, path = payload.leaf(leaf_index(previous_hash, miner, manifest))
    return AvailabilityProof(DatasetId(manifest.dataset_id), leaf, path)


def leaf_count(manifest: Manifest) -> int:
    """Return the number of 1 KiB pieces of a pool's payload."""
    return -(-manifest.pool_bytes // LEAF_BYTES)


def needs_proofs(entry: DatasetState) -> bool:
    """Answer whether blocks may prove that this data set is available; the chain's own is taken for granted."""
    return entry.uploader is not None and not entry.is_closed


def validate_proofs(
    state: ChainState, previous_hash: BlockId, miner: PublicKey, proofs: Sequence[AvailabilityProof]
) -> None:
    """Raise ``bad-availability`` where a proof of a block of ``miner`` on ``state`` is wrong or out of order."""
    ids = [proof.dataset_id for proof in proofs]
    if ids != sorted(set(ids)):
        raise Invalid("bad-availability", reason="proofs do not rise by data set")
    for proof in proofs:
        entry = state.datasets.get(proof.dataset_id)
        if entry is None or not needs_proofs(entry):
            raise Invalid("bad-availability", reason="no such data set waits for proofs", id=proof.dataset_id.hex())
        index, count = leaf_index(previous_hash, miner, entry.manifest), leaf_count(entry.manifest)
        if not verify_merkle_path(entry.manifest.pool_root, proof.leaf, index, count, proof.path):
            raise Invalid("bad-availability", reason="not the piece that this block must show", index=index)


def age_datasets(
    datasets: Mapping[DatasetId, DatasetState],
    proven: Collection[DatasetId],
    unfilled: Collection[DatasetId],
    height: Height,
    params: Params,
) -> Aged:
    """Return the data sets after a block of ``height`` that carried proofs of ``proven``.

    unfilled: the active ones that wanted a family before this block and did not get it.
    """
    aged = dict(datasets)
    refunds, burned = [], 0
    for dataset_id, entry in datasets.items():
        if entry.is_active:
            lacking = entry.unfilled_blocks + 1 if dataset_id in unfilled else 0
            entry = aged[dataset_id] = replace(entry, unfilled_blocks=lacking)  # noqa: PLW2901
        if entry.uploader is None or entry.is_closed or entry.added_height == height:
            continue
        active = sum(each.is_active and each.uploader is not None for each in aged.values())
        after = _aged(entry, dataset_id in proven, height, params, may_open=active < params.max_active_datasets)
        if after.is_closed:
            refund = min(entry.bounty, entry.own_bounty) + (entry.deposit if _has_served(entry, after, params) else 0)
            refunds.append((entry.uploader, Amount(refund)))
            burned += entry.bounty + entry.deposit - refund
            after = replace(after, bounty=Amount(0), deposit=Amount(0))
        aged[dataset_id] = after
    return Aged(aged, tuple(refunds), Amount(burned))


def _aged(
    entry: DatasetState,
    is_proven: bool,  # noqa: FBT001  (a bit of the window)
    height: Height,
    params: Params,
    *,
    may_open: bool,
) -> DatasetState:
    window = (entry.window << 1 | is_proven) & ((1 << params.availability_window) - 1)
    entry = replace(entry, window=window)
    entry = replace(entry, below_blocks=0 if _is_available(entry, params) else entry.below_blocks + 1)
    waited = height - entry.since_height
    if entry.is_active:
        is_over = 0 < params.dataset_life_blocks <= waited or entry.unfilled_blocks >= params.suspended_blocks
        if is_over:
            return _turned(entry, DatasetStatus.CLOSED, height)
        is_below = entry.below_blocks >= params.suspend_blocks
        return _turned(entry, DatasetStatus.SUSPENDED, height) if is_below else entry
    if _is_available(entry, params) and may_open:
        return _turned(entry, DatasetStatus.ACTIVE, height)
    limit = params.pending_blocks if entry.status == DatasetStatus.PENDING else params.suspended_blocks
    return _turned(entry, DatasetStatus.CLOSED, height) if waited >= limit else entry


def _has_served(before: DatasetState, closed: DatasetState, params: Params) -> bool:
    """Answer whether a data set that closes gets its deposit back.

    It does after models were learned on it to the end, and where it could be had and there was no room for it.
    """
    return before.record > 0 if before.is_active else _is_available(closed, params)


def _is_available(entry: DatasetState, params: Params) -> bool:
    return entry.window.bit_count() >= params.availability_least


def _turned(entry: DatasetState, status: DatasetStatus, height: Height) -> DatasetState:
    return replace(entry, status=status, since_height=height, below_blocks=0)
