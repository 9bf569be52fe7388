"""The primitives under every encoding, driven by small programs: which field to read next is itself input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fuzz.target import Target, refusals

from bnnchain.bnn.bits import BitReader, BitWriter
from bnnchain.wire import (
    HASH_BYTES,
    MAX_VARINT_BYTES,
    Reader,
    Writer,
    merkle_path,
    merkle_root,
    tagged_hash,
    verify_merkle_path,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STEPS = 24
TEXT_LIMIT_BYTES = 32
COUNT_LIMIT = 1_000
MAX_LEAVES = 40


def run_wire(data: bytes) -> None:
    """Read fields of the kinds that the first bytes name; what was read is written again byte for byte."""
    steps = data[1 : 1 + data[0] % MAX_STEPS] if data else b""
    body = data[1 + len(steps) :]
    reader, writer = Reader(body), Writer()
    with refusals("bad-encoding"):
        for step in steps:
            _copy_field(step, reader, writer)
        rest = reader.remaining
        written = writer.bytes()
        assert written == body[: len(body) - rest], (body.hex(), written.hex())
        reader.finish()
        assert rest == 0


def _copy_field(step: int, reader: Reader, writer: Writer) -> None:
    kind = step % 9
    if kind == 0:
        writer.varint(reader.varint())
    elif kind == 1:
        writer.text(reader.text(TEXT_LIMIT_BYTES), TEXT_LIMIT_BYTES)
    elif kind == 2:
        writer.raw(reader.raw(step))
    elif kind == 3:
        writer.i32(reader.i32())
    else:
        name = ("u8", "u16", "u32", "u64", "u256")[kind - 4]
        getattr(writer, name)(getattr(reader, name)())


def run_bits(data: bytes) -> None:
    """The same for bit strings: counts, integers of a width, Rice codes."""
    steps = data[1 : 1 + data[0] % MAX_STEPS] if data else b""
    body = data[1 + len(steps) :]
    reader, writer = BitReader(body), BitWriter()
    with refusals("bad-encoding"):
        for step in steps:
            if step % 4 == 0:
                writer.count(reader.count(COUNT_LIMIT))
            elif step % 4 == 1:
                writer.integers(reader.integers(1 + step // 32, step // 5), step // 5)
            elif step % 4 == 2:
                writer.rice(reader.rice(1 + step // 4))
            else:
                writer.raw(reader.raw(step // 4))
        reader.finish()
        assert writer.bytes() == body


def run_merkle(data: bytes) -> None:
    """Any list of leaves: each leaf's path proves that leaf in that place, and nothing else that the input tries."""
    if len(data) < 4:
        return
    count, index, other, flip = 1 + data[0] % MAX_LEAVES, data[1] % MAX_LEAVES, data[2] % MAX_LEAVES, data[3]
    body = data[4:]
    leaves = [body[number::count] for number in range(count)]
    index %= count
    root, path = merkle_root(leaves), merkle_path(leaves, index)
    assert verify_merkle_path(root, leaves[index], index, count, path)
    claimed = verify_merkle_path(root, leaves[index], other, count, path)
    assert claimed == (
        other == index or (other < count and leaves[other] == leaves[index] and _same(leaves, other, path))
    )
    if path:
        wrong = bytearray(path[flip % len(path)])
        wrong[flip % HASH_BYTES] ^= 1 << flip % 8
        changed = (*path[: flip % len(path)], bytes(wrong), *path[flip % len(path) + 1 :])
        assert not verify_merkle_path(root, leaves[index], index, count, changed)
        assert not verify_merkle_path(root, leaves[index], index, count, path[:-1])
    assert not verify_merkle_path(root, leaves[index], index, count, (*path, root))
    assert not verify_merkle_path(root, leaves[index] + b"\0", index, count, path)
    # A node's hash is no leaf's: two children given as one leaf prove nothing.
    if count > 1:
        inner = tagged_hash("leaf", leaves[0]) + tagged_hash("leaf", leaves[1])
        assert not verify_merkle_path(root, inner, 0, (count + 1) // 2, merkle_path(leaves, 0)[1:])


def _same(leaves: list[bytes], index: int, path: tuple[bytes, ...]) -> bool:
    return merkle_path(leaves, index) == path


def wire_seeds() -> Sequence[bytes]:
    fields = Writer().varint(0).varint(127).varint(128).varint((1 << 7 * MAX_VARINT_BYTES) - 1).text("digits", 32)
    fields.raw(b"\1\2").i32(-5).u8(7).u16(500).u32(1 << 31).u64(1 << 63).u256(1 << 255)
    steps = bytes([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    return [bytes([len(steps)]) + steps + fields.bytes(), b"", b"\1\0\xff\xff\xff\xff\xff"]


def bits_seeds() -> Sequence[bytes]:
    gaps = np.array([0, 1, 5, 700, 3, 2, 9, 30], np.int64)
    fields = BitWriter().count(0).count(999).integers(np.array([5, 9], np.int64), 8).rice(gaps)
    steps = bytes([0, 0, 41, 30])
    return [bytes([len(steps)]) + steps + fields.bytes(), bytes([2, 2, 2]) + bytes(12), bytes([2, 30, 3]) + b"\xff" * 9]


def merkle_seeds() -> Sequence[bytes]:
    return [
        bytes([leaves, index, index + 1, 3]) + bytes(range(90)) for leaves, index in ((0, 0), (1, 1), (6, 4), (12, 0))
    ]


TARGETS = [
    Target("wire", run_wire, wire_seeds, max_size_bytes=256, share=2),
    Target("bits", run_bits, bits_seeds, max_size_bytes=256),
    Target("merkle", run_merkle, merkle_seeds, max_size_bytes=256),
]
