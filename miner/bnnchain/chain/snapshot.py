"""A whole chain in one file, for backup and restore: spec, pools, the active chain's blocks, a digest at the end.

    magic, u16 format | u32 size, spec | u32 count, (32-byte id, u32 size, payload)* | u64 count, (u32 size, block)*
    | u64 height, 32-byte head, 40-byte weight | SHA-256 of all before

Integers are little-endian.  It is read twice: first its digest, its blocks' links and what it claims are checked, and
nothing is written where one is wrong; then its blocks go through the one door.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.chain.refill import BATCH_BLOCKS, Refill
from bnnchain.consensus.codec import HEADER_BYTES, decode_header
from bnnchain.consensus.difficulty import block_weight
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.params import MAX_BLOCK_BYTES, MAX_U64
from bnnchain.consensus.spec import MAX_SPEC_BYTES, ChainSpec, decode_spec, encode_spec
from bnnchain.consensus.types import BlockId, DatasetId, Height
from bnnchain.datasets.chunks import MAX_PAYLOAD_BYTES
from bnnchain.wire import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

    from bnnchain.chain.chain import Chain
    from bnnchain.chain.store import Store

MAGIC = b"bnnchain snapshot\n"
FORMAT = 1
WEIGHT_BYTES = 40
MAX_WEIGHT = (1 << 8 * WEIGHT_BYTES) - 1
MAX_SNAPSHOT_DATASETS = 1 << 16
MAX_SNAPSHOT_BLOCKS = 1 << 32
_HASHED_AT_ONCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot holds, once its digest and its links are right; no block's rules have been judged yet."""

    path: Path
    spec: ChainSpec
    height: Height
    head: BlockId
    weight: int
    """Sum of what its headers claim; a chain of this weight is only there once every block is judged."""
    dataset_places: Mapping[DatasetId, tuple[int, int]]
    """Offset and size of each pool's payload."""
    blocks_place: int
    """Offset of the first block's size."""


def write_snapshot(store: Store, path: Path, on_height: Callable[[int], None] = lambda _: None) -> Snapshot:
    """Write the store's active chain, as it is at one moment, to ``path``; a node may go on writing to the store.

    The file is there whole, or as it was before.  Raises :class:`Unavailable` where blocks were pruned,
    :class:`Fault` where disk or store fail.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file, store.at_one_moment():
            _write(store, _Hashing(file), on_height)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Fault(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_snapshot(path)


def read_snapshot(path: Path, checkpoints: Mapping[int, BlockId] | None = None) -> Snapshot:
    """Return what a file holds; raises :class:`Invalid` ``bad-snapshot``, or ``other-checkpoint`` against a pin.

    checkpoints: ids by height that the operator has pinned.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path, checkpoints or {})
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error


def import_snapshot(
    snapshot: Snapshot, chain: Chain, *, trusted_height: int = 0, on_height: Callable[[int], None] = lambda _: None
) -> None:
    """Put a snapshot's blocks into the chain, every rule judged; what is there already is passed over.

    Interrupted, it is begun again and goes on.  trusted_height: that of a pinned block on the snapshot's chain, which
    :func:`read_snapshot` has found there; blocks up to it are not counted again.

    Raises :class:`Invalid` at the first block that breaks a rule; the ones before it are in.
    """
    with snapshot.path.open("rb") as file, snapshot.path.open("rb") as payloads:

        def payload_of(dataset_id: DatasetId) -> bytes | None:
            place = snapshot.dataset_places.get(dataset_id)
            if place is None:
                return None
            payloads.seek(place[0])
            return payloads.read(place[1])

        refill = Refill(chain, payload_of, trusted_height=trusted_height)
        file.seek(snapshot.blocks_place)
        for start in range(0, snapshot.height, BATCH_BLOCKS):
            count = min(BATCH_BLOCKS, snapshot.height - start)
            refill.add([_Reading(file).sized(MAX_BLOCK_BYTES) for _ in range(count)])
            on_height(start + count)


class _Hashing:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def raw(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def unsigned(self, value: int, size_bytes: int) -> None:
        self.raw(value.to_bytes(size_bytes, "little"))

    def sized(self, data: bytes) -> None:
        self.unsigned(len(data), 4)
        self.raw(data)

    def finish(self) -> None:
        self._file.write(self._hash.digest())


class _Reading:
    """Reads from a file what :class:`_Hashing` wrote; no size is believed before its limit is checked."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def raw(self, size_bytes: int) -> bytes:
        data = self._file.read(size_bytes)
        if len(data) != size_bytes:
            raise Invalid("bad-snapshot", reason="the file ends too soon")
        return data

    def unsigned(self, size_bytes: int, limit: int) -> int:
        value = int.from_bytes(self.raw(size_bytes), "little")
        if value > limit:
            raise Invalid("bad-snapshot", reason="a size or a count is out of bounds", value=value, limit=limit)
        return value

    def sized(self, limit: int) -> bytes:
        return self.raw(self.unsigned(4, limit))


def _write(store: Store, writer: _Hashing, on_height: Callable[[int], None]) -> None:
    writer.raw(MAGIC)
    writer.unsigned(FORMAT, 2)
    writer.sized(encode_spec(store.spec))
    dataset_ids = sorted(store.dataset_sizes())
    writer.unsigned(len(dataset_ids), 4)
    for dataset_id in dataset_ids:
        writer.raw(dataset_id)
        writer.sized(store.dataset(dataset_id) or b"")
    head = store.head()
    height, weight = store.height(head) or 0, 0
    writer.unsigned(height, 8)
    for start in range(1, height + 1, BATCH_BLOCKS):
        for _, raw in store.active_blocks(start, min(BATCH_BLOCKS, height + 1 - start)):
            weight += block_weight(decode_header(raw[:HEADER_BYTES]).target)
            writer.sized(raw)
        on_height(min(start + BATCH_BLOCKS - 1, height))
    writer.unsigned(height, 8)
    writer.raw(head)
    writer.unsigned(weight, WEIGHT_BYTES)
    writer.finish()


def _read(file: IO[bytes], path: Path, checkpoints: Mapping[int, BlockId]) -> Snapshot:
    reader = _Reading(file)
    if reader.raw(len(MAGIC)) != MAGIC:
        raise Invalid("bad-snapshot", reason="not a snapshot of a chain")
    if reader.unsigned(2, 0xFFFF) != FORMAT:
        raise Invalid("bad-snapshot", reason="of a format that this version does not know")
    _check_digest(file)
    file.seek(len(MAGIC) + 2)
    spec = decode_spec(reader.sized(MAX_SPEC_BYTES))
    places = dict[DatasetId, tuple[int, int]]()
    for _ in range(reader.unsigned(4, MAX_SNAPSHOT_DATASETS)):
        dataset_id = DatasetId(reader.raw(HASH_BYTES))
        size = reader.unsigned(4, MAX_PAYLOAD_BYTES)
        places[dataset_id] = (file.tell(), size)
        file.seek(size, os.SEEK_CUR)
    count = reader.unsigned(8, MAX_SNAPSHOT_BLOCKS)
    blocks_place, head, weight = file.tell(), spec.genesis_id, 0
    for height in range(1, count + 1):
        header = decode_header(reader.sized(MAX_BLOCK_BYTES)[:HEADER_BYTES])
        if header.previous_hash != head or header.height != height:
            raise Invalid("bad-snapshot", reason="a block does not follow from the one before", height=height)
        head, weight = block_id(header), weight + block_weight(header.target)
        if checkpoints.get(height, head) != head:
            raise Invalid("other-checkpoint", height=height, id=head.hex()[:16])
    claimed = reader.unsigned(8, MAX_U64), reader.raw(HASH_BYTES), reader.unsigned(WEIGHT_BYTES, MAX_WEIGHT)
    if claimed != (count, head, weight):
        raise Invalid("bad-snapshot", reason="its blocks are not what it claims", height=count)
    return Snapshot(path, spec, Height(count), head, weight, places, blocks_place)


def _check_digest(file: IO[bytes]) -> None:
    """Raise where the last 32 bytes are not the hash of all before them, or something follows them."""
    left = file.seek(0, os.SEEK_END) - HASH_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0:
        data = file.read(min(left, _HASHED_AT_ONCE_BYTES))
        digest.update(data)
        left -= len(data) or left
    if file.read(HASH_BYTES) != digest.digest():
        raise Invalid("bad-snapshot", reason="its digest is wrong: cut off, or changed on disk or on the way")
