"""Bytes and hashes that every layer shares: fixed-order little-endian fields, tagged SHA-256, Merkle trees.

PROTOCOL.md, section "Encoding".  A decoder accepts exactly what its encoder writes: decode then encode gives the same
bytes, so nothing on the chain has two spellings.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)
MAX_VARINT_BYTES = 5
"""A variable-length integer is unsigned LEB128 of at most 35 bits, in its shortest form."""

_PAYLOAD_BITS = 7
_PAYLOAD_MASK = (1 << _PAYLOAD_BITS) - 1
_CONTINUE = 1 << _PAYLOAD_BITS


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Return SHA-256(SHA-256(tag) || parts): 32 bytes in the hash domain ``tag`` (as BIP 340 does)."""
    digest = hash_domain(tag).copy()
    for part in parts:
        digest.update(part)
    return digest.digest()


@lru_cache(maxsize=64)
def hash_domain(tag: str) -> hashlib._Hash:
    """Return the hash that has taken in ``tag`` alone; take a copy to go on from there."""
    return hashlib.sha256(hashlib.sha256(f"bnnchain/{tag}".encode()).digest())


class Writer:
    """Collects fields in order; integers out of range are our own bug and raise ``OverflowError``."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def unsigned(self, value: int, size_bytes: int) -> Writer:
        """Append ``value`` as a little-endian unsigned integer of ``size_bytes``."""
        self._parts += value.to_bytes(size_bytes, "little")
        return self

    def u8(self, value: int) -> Writer:
        return self.unsigned(value, 1)

    def u16(self, value: int) -> Writer:
        return self.unsigned(value, 2)

    def u32(self, value: int) -> Writer:
        return self.unsigned(value, 4)

    def u64(self, value: int) -> Writer:
        return self.unsigned(value, 8)

    def u256(self, value: int) -> Writer:
        return self.unsigned(value, 32)

    def i32(self, value: int) -> Writer:
        self._parts += value.to_bytes(4, "little", signed=True)
        return self

    def varint(self, value: int) -> Writer:
        """Append an unsigned integer as shortest-form LEB128."""
        if not 0 <= value < 1 << (_PAYLOAD_BITS * MAX_VARINT_BYTES):
            raise OverflowError(value)
        while value >= _CONTINUE:
            self._parts.append((value & _PAYLOAD_MASK) | _CONTINUE)
            value >>= _PAYLOAD_BITS
        self._parts.append(value)
        return self

    def raw(self, data: bytes) -> Writer:
        self._parts += data
        return self

    def text(self, value: str, limit_bytes: int) -> Writer:
        """Append a u16 length and the UTF-8 bytes; longer than ``limit_bytes`` raises ``OverflowError``."""
        data = value.encode()
        if len(data) > limit_bytes:
            raise OverflowError(value)
        return self.u16(len(data)).raw(data)

    def bytes(self) -> bytes:
        """Return everything written so far."""
        return bytes(self._parts)


class Reader:
    """Takes fields in order from bytes of outside; raises :class:`Invalid` ``bad-encoding`` where they do not fit."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def raw(self, size_bytes: int) -> bytes:
        """Return the next ``size_bytes`` bytes; checked before anything is allocated."""
        if not 0 <= size_bytes <= self.remaining:
            raise Invalid("bad-encoding", reason="truncated", wanted=size_bytes, left=self.remaining)
        start = self._position
        self._position += size_bytes
        return self._data[start : self._position]

    def unsigned(self, size_bytes: int) -> int:
        return int.from_bytes(self.raw(size_bytes), "little")

    def u8(self) -> int:
        return self.unsigned(1)

    def u16(self) -> int:
        return self.unsigned(2)

    def u32(self) -> int:
        return self.unsigned(4)

    def u64(self) -> int:
        return self.unsigned(8)

    def u256(self) -> int:
        return self.unsigned(32)

    def i32(self) -> int:
        return int.from_bytes(self.raw(4), "little", signed=True)

    def varint(self) -> int:
        value = 0
        for index in range(MAX_VARINT_BYTES):
            octet = self.u8()
            value |= (octet & _PAYLOAD_MASK) << (_PAYLOAD_BITS * index)
            if octet < _CONTINUE:
                if octet == 0 and index:
                    break
                return value
        raise Invalid("bad-encoding", reason="variable-length integer is not in its shortest form")

    def text(self, limit_bytes: int) -> str:
        size = self.u16()
        if size > limit_bytes:
            raise Invalid("bad-encoding", reason="text too long", size=size, limit=limit_bytes)
        try:
            return self.raw(size).decode()
        except UnicodeDecodeError:
            raise Invalid("bad-encoding", reason="text is not UTF-8") from None

    def finish(self) -> None:
        """Raise where bytes are left over."""
        if self.remaining:
            raise Invalid("bad-encoding", reason="trailing bytes", left=self.remaining)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the leaves' bytes, as RFC 6962 shapes the tree; no leaves give the zero hash.

    Leaves and nodes are hashed in different domains and an odd node moves up alone, so no two lists share a root.
    """
    level = [tagged_hash("leaf", leaf) for leaf in leaves]
    while len(level) > 1:
        level = _next_level(level)
    return level[0] if level else ZERO_HASH


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the siblings from leaf ``index`` up to the root, for :func:`verify_merkle_path`."""
    level = [tagged_hash("leaf", leaf) for leaf in leaves]
    path = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _next_level(level)
        index //= 2
    return tuple(path)


def verify_merkle_path(root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Answer whether ``leaf`` is number ``index`` of the ``count`` leaves under ``root``."""
    if not 0 <= index < count:
        return False
    node = tagged_hash("leaf", leaf)
    siblings = iter(path)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(siblings, None)
            if sibling is None:
                return False
            node = tagged_hash("node", sibling, node) if index % 2 else tagged_hash("node", node, sibling)
        index //= 2
        count = (count + 1) // 2
    return next(siblings, None) is None and node == root


def _next_level(level: list[bytes]) -> list[bytes]:
    pairs = [tagged_hash("node", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]
