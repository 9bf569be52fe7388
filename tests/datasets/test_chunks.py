from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnchain.datasets.chunks import (
    CHUNK_BYTES,
    LEAF_BYTES,
    MAX_PATH_HASHES,
    MAX_PAYLOAD_BYTES,
    Chunk,
    ChunkAssembler,
    ChunkTree,
    chunk_count,
    decode_chunk,
    encode_chunk,
    payload_root,
    split_leaves,
    validate_chunk,
)
from bnnchain.wire import ZERO_HASH, merkle_path, merkle_root, verify_merkle_path
from bnnchain_kernels.errors import Invalid, Unavailable

SIZES = [
    1,
    LEAF_BYTES - 1,
    LEAF_BYTES,
    LEAF_BYTES + 1,
    3 * LEAF_BYTES,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    CHUNK_BYTES + 3 * LEAF_BYTES + 5,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES + 1,
    5 * CHUNK_BYTES - LEAF_BYTES,
    7 * CHUNK_BYTES + 17,
]


def make_payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_chunks_and_leaves_share_one_root(size: int) -> None:
    payload = make_payload(size)
    tree = ChunkTree(payload)
    assert tree.root == payload_root(payload) == merkle_root(split_leaves(payload))
    assert len(tree) == chunk_count(size)
    assert b"".join(chunk.data for chunk in tree) == payload
    for chunk in tree:
        validate_chunk(chunk, tree.root, size)
        assert len(chunk.path) <= MAX_PATH_HASHES


def test_one_leaf_is_proven_by_the_root_too() -> None:
    payload = make_payload(2 * CHUNK_BYTES + 5)
    leaves = split_leaves(payload)
    index = 100
    path = merkle_path(leaves, index)
    assert verify_merkle_path(payload_root(payload), leaves[index], index, len(leaves), path)
    assert not verify_merkle_path(payload_root(payload), leaves[index], index + 1, len(leaves), path)


@settings(max_examples=30)
@given(st.integers(1, 3 * CHUNK_BYTES), st.data())
def test_a_tree_proves_each_of_its_leaves(size: int, data: st.DataObject) -> None:
    payload = make_payload(size)
    leaves = split_leaves(payload)
    index = data.draw(st.integers(0, len(leaves) - 1))
    assert ChunkTree(payload).leaf(index) == (leaves[index], merkle_path(leaves, index))


@pytest.mark.parametrize(("size", "index"), [(1, 1), (1, -1), (1_024, 1), (1_025, 2), (CHUNK_BYTES, 64), (70_000, 69)])
def test_there_is_no_leaf_past_the_end(size: int, index: int) -> None:
    with pytest.raises(Invalid, match="bad-chunk"):
        ChunkTree(make_payload(size)).leaf(index)


def test_root_is_pinned() -> None:
    assert (
        payload_root(bytes(range(256)) * 260).hex()
        == "07a00607ac5341f7d547a1320dc2e96c078855b2f8d220305c7ac58f1d4c630b"
    )
    assert payload_root(b"") == ZERO_HASH


@settings(max_examples=30)
@given(st.integers(1, 4 * CHUNK_BYTES), st.data())
def test_any_flipped_bit_is_refused(size: int, data: st.DataObject) -> None:
    tree = ChunkTree(make_payload(size))
    chunk = tree.chunk(data.draw(st.integers(0, len(tree) - 1)))
    changed = bytearray(chunk.data)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Invalid, match=r"bad-chunk .*root"):
        validate_chunk(replace(chunk, data=bytes(changed)), tree.root, size)


SIZE = 5 * CHUNK_BYTES - 7
TREE = ChunkTree(make_payload(SIZE))


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (replace(TREE.chunk(0), index=5), "index"),
        (replace(TREE.chunk(0), index=-1), "index"),
        (replace(TREE.chunk(0), index=1), "root"),
        (replace(TREE.chunk(4), index=3), "size"),
        (replace(TREE.chunk(0), data=b""), "size"),
        (replace(TREE.chunk(4), data=TREE.chunk(4).data + bytes(7)), "size"),
        (replace(TREE.chunk(2), path=()), "root"),
        (replace(TREE.chunk(2), path=TREE.chunk(2).path[:-1]), "root"),
        (replace(TREE.chunk(2), path=(*TREE.chunk(2).path, ZERO_HASH)), "root"),
        (replace(TREE.chunk(2), path=TREE.chunk(3).path), "root"),
        (replace(TREE.chunk(2), path=TREE.chunk(2).path[::-1]), "root"),
    ],
)
def test_a_chunk_that_does_not_belong_is_refused(chunk: Chunk, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate_chunk(chunk, TREE.root, SIZE)
    assert caught.value.code == "bad-chunk"
    assert reason in str(caught.value)


def test_another_payload_size_is_refused() -> None:
    with pytest.raises(Invalid, match=r"bad-chunk"):
        validate_chunk(TREE.chunk(0), TREE.root, 4 * CHUNK_BYTES)


def test_tree_has_no_chunk_outside() -> None:
    for index in (-1, 5, 1 << 40):
        with pytest.raises(Invalid, match=r"bad-chunk"):
            TREE.chunk(index)


@pytest.mark.parametrize("seed", range(5))
def test_chunks_assemble_in_any_order(seed: int) -> None:
    assembler = ChunkAssembler(TREE.root, SIZE)
    assert assembler.missing == [0, 1, 2, 3, 4]
    order = random.Random(seed).sample(range(5), 5)
    for position, index in enumerate(order):
        with pytest.raises(Unavailable, match=rf"{5 - position} of 5 chunks"):
            assembler.payload()
        assert assembler.add(TREE.chunk(index)), seed
        assert not assembler.add(TREE.chunk(index))
    assert assembler.missing == []
    assert assembler.payload() == make_payload(SIZE)


def test_a_refused_chunk_leaves_the_payload_alone() -> None:
    assembler = ChunkAssembler(TREE.root, SIZE)
    for chunk in TREE:
        assembler.add(chunk)
    with pytest.raises(Invalid, match=r"bad-chunk"):
        assembler.add(replace(TREE.chunk(1), data=bytes(CHUNK_BYTES)))
    assert assembler.payload() == make_payload(SIZE)


@pytest.mark.parametrize("size", [0, -1, MAX_PAYLOAD_BYTES + 1])
def test_assembler_refuses_payload_sizes_over_the_limit(size: int) -> None:
    with pytest.raises(Invalid, match=r"bad-chunk .*payload size"):
        ChunkAssembler(TREE.root, size)
    if size >= 0:
        with pytest.raises(ValueError, match=str(size)):
            ChunkTree(bytes(size))


def test_the_largest_payload_fits_the_path_limit() -> None:
    tree = ChunkTree(bytes(MAX_PAYLOAD_BYTES))
    assert len(tree.chunk(255).path) == MAX_PATH_HASHES
    validate_chunk(tree.chunk(255), tree.root, MAX_PAYLOAD_BYTES)


@pytest.mark.parametrize("index", range(5))
def test_encoding_round_trips(index: int) -> None:
    data = encode_chunk(TREE.chunk(index))
    assert decode_chunk(data) == TREE.chunk(index)
    assert encode_chunk(decode_chunk(data)) == data


def test_encoding_refuses_what_it_would_not_write() -> None:
    small = ChunkTree(make_payload(10))
    data = encode_chunk(small.chunk(0))
    assert data == b"\0\0\0\x0a\0\0\0" + make_payload(10)
    for size in range(len(data)):
        with pytest.raises(Invalid, match=r"bad-encoding"):
            decode_chunk(data[:size])
    with pytest.raises(Invalid, match=r"bad-encoding .*trailing"):
        decode_chunk(data + b"\0")
    with pytest.raises(Invalid, match=r"bad-chunk .*path too long"):
        decode_chunk(b"\0\0\x09" + bytes(400))
    with pytest.raises(Invalid, match=r"bad-chunk .*chunk too long"):
        decode_chunk(b"\0\0\0\x01\0\x01\0" + bytes(CHUNK_BYTES + 1))


def reject_code(data: bytes) -> str | None:
    """The code with which the bytes are refused, None where they are accepted."""
    try:
        decode_chunk(data)
    except Invalid as error:
        return error.code
    return None


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    code = reject_code(data)
    assert code in {None, "bad-encoding", "bad-chunk"}
    if code is None:
        assert encode_chunk(decode_chunk(data)) == data
        with pytest.raises(Invalid, match=r"bad-chunk"):
            validate_chunk(decode_chunk(data), TREE.root, SIZE)
