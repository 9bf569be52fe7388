"""A payload as 64 KiB chunks under one Merkle root: what peers stream and what a manifest commits to.

PROTOCOL.md, section "Data sets".  The tree's leaves are the payload's 1 KiB pieces, so that an availability proof is
small; 64 leaves are a complete subtree, so that a chunk is checked against the same root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.wire import HASH_BYTES, Reader, Writer, merkle_path, merkle_root, tagged_hash, verify_merkle_path
from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAF_BYTES = 1 << 10
CHUNK_BYTES = 1 << 16
LEAVES_PER_CHUNK = CHUNK_BYTES // LEAF_BYTES
MAX_PAYLOAD_BYTES = 1 << 24
MAX_CHUNKS = MAX_PAYLOAD_BYTES // CHUNK_BYTES
MAX_PATH_HASHES = (MAX_CHUNKS - 1).bit_length()
"""The siblings above a chunk; those inside it follow from its bytes and are never sent."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a payload with its way up to the root.

    data: ``CHUNK_BYTES`` bytes; the last chunk has what is left.
    path: the 32-byte sibling hashes from the chunk's own subtree to the root, lowest first.
    """

    index: int
    data: bytes
    path: tuple[bytes, ...]


def split_leaves(payload: bytes) -> list[bytes]:
    """Return the 1 KiB leaves of a payload or of a chunk; the last one is shorter, never padded."""
    return [payload[start : start + LEAF_BYTES] for start in range(0, len(payload), LEAF_BYTES)]


def payload_root(payload: bytes) -> bytes:
    """Return the 32-byte Merkle root over the payload's leaves; the zero hash for an empty payload."""
    return merkle_root(split_leaves(payload))


def chunk_count(payload_bytes: int) -> int:
    """Return how many chunks a payload of ``payload_bytes`` has."""
    return -(-payload_bytes // CHUNK_BYTES)


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the chunk's bytes: u16 index, u8 path length, the path's hashes, u32 data length, data."""
    writer = Writer().u16(chunk.index).u8(len(chunk.path))
    for sibling in chunk.path:
        writer.raw(sibling)
    return writer.u32(len(chunk.data)).raw(chunk.data).bytes()


def decode_chunk(data: bytes) -> Chunk:
    """Return the chunk of :func:`encode_chunk`'s bytes, not yet checked against a root.

    Raises ``bad-encoding``, or ``bad-chunk`` where a length is over its limit.
    """
    reader = Reader(data)
    index, path_size = reader.u16(), reader.u8()
    if path_size > MAX_PATH_HASHES:
        raise Invalid("bad-chunk", reason="path too long", hashes=path_size, limit=MAX_PATH_HASHES)
    path = tuple(reader.raw(HASH_BYTES) for _ in range(path_size))
    size = reader.u32()
    if size > CHUNK_BYTES:
        raise Invalid("bad-chunk", reason="chunk too long", size=size, limit=CHUNK_BYTES)
    chunk = Chunk(index, reader.raw(size), path)
    reader.finish()
    return chunk


def validate_chunk(chunk: Chunk, root: bytes, payload_bytes: int) -> None:
    """Raise ``bad-chunk`` unless this is chunk ``chunk.index`` of the payload of that size under ``root``."""
    count = chunk_count(payload_bytes)
    if not 0 <= chunk.index < count:
        raise Invalid("bad-chunk", reason="index", index=chunk.index, chunks=count)
    size = min(CHUNK_BYTES, payload_bytes - chunk.index * CHUNK_BYTES)
    if len(chunk.data) != size:
        raise Invalid("bad-chunk", reason="size", index=chunk.index, size=len(chunk.data), wanted=size)
    # The first leaf's siblings inside the chunk are computed from all its bytes, so its proof covers them all.
    leaves = split_leaves(chunk.data)
    path = (*merkle_path(leaves, 0), *chunk.path)
    leaf_count = -(-payload_bytes // LEAF_BYTES)
    if not verify_merkle_path(root, leaves[0], chunk.index * LEAVES_PER_CHUNK, leaf_count, path):
        raise Invalid("bad-chunk", reason="not under the manifest's root", index=chunk.index)


class ChunkTree:
    """The tree of one payload, hashed once, for a node that serves its chunks."""

    def __init__(self, payload: bytes) -> None:
        if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
            raise ValueError(len(payload))
        self._payload = payload
        starts = range(0, len(payload), CHUNK_BYTES)
        level = [payload_root(payload[start : start + CHUNK_BYTES]) for start in starts]
        self._levels = [level]
        while len(level) > 1:
            pairs = [tagged_hash("node", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(pairs) * 2 :]
            self._levels.append(level)

    def __len__(self) -> int:
        return len(self._levels[0])

    def __iter__(self) -> Iterator[Chunk]:
        return (self.chunk(index) for index in range(len(self)))

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def chunk(self, index: int) -> Chunk:
        """Return chunk ``index``; raises ``bad-chunk`` where the payload has none of that number."""
        if not 0 <= index < len(self):
            raise Invalid("bad-chunk", reason="index", index=index, chunks=len(self))
        siblings = [(level, index >> depth ^ 1) for depth, level in enumerate(self._levels)]
        path = tuple(level[sibling] for level, sibling in siblings if sibling < len(level))
        start = index * CHUNK_BYTES
        return Chunk(index, self._payload[start : start + CHUNK_BYTES], path)

    def leaf(self, index: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return leaf ``index`` of the payload (up to 1 KiB) and its siblings up to the root, lowest first.

        Hashes one chunk; raises ``bad-chunk`` where the payload has no leaf of that number.
        """
        chunk = self.chunk(index // LEAVES_PER_CHUNK)
        leaves, inside = split_leaves(chunk.data), index % LEAVES_PER_CHUNK
        if inside >= len(leaves):
            raise Invalid("bad-chunk", reason="leaf", index=index)
        return leaves[inside], (*merkle_path(leaves, inside), *chunk.path)


class ChunkAssembler:
    """Puts a payload together from chunks that arrive in any order; holds at most the payload and checks each one."""

    def __init__(self, root: bytes, payload_bytes: int) -> None:
        if not 0 < payload_bytes <= MAX_PAYLOAD_BYTES:
            raise Invalid("bad-chunk", reason="payload size", size=payload_bytes, limit=MAX_PAYLOAD_BYTES)
        self._root = root
        self._payload = bytearray(payload_bytes)
        self._missing = set(range(chunk_count(payload_bytes)))

    @property
    def missing(self) -> list[int]:
        """The indices still to come, ascending."""
        return sorted(self._missing)

    def add(self, chunk: Chunk) -> bool:
        """Keep a chunk and answer whether it was a new one; raises ``bad-chunk`` for one that does not belong."""
        validate_chunk(chunk, self._root, len(self._payload))
        if chunk.index not in self._missing:
            return False
        start = chunk.index * CHUNK_BYTES
        self._payload[start : start + len(chunk.data)] = chunk.data
        self._missing.discard(chunk.index)
        return True

    def payload(self) -> bytes:
        """Return the whole payload; raises :class:`Unavailable` while chunks are missing."""
        if self._missing:
            raise Unavailable(f"{len(self._missing)} of {chunk_count(len(self._payload))} chunks have not arrived")
        return bytes(self._payload)
