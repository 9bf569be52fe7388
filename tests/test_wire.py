from __future__ import annotations

import hashlib

import pytest
from builders import outcome
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.wire import (
    MAX_VARINT_BYTES,
    ZERO_HASH,
    Reader,
    Writer,
    merkle_path,
    merkle_root,
    tagged_hash,
    verify_merkle_path,
)
from bnnchain_kernels.errors import Invalid

VARINT_LIMIT = 1 << (7 * MAX_VARINT_BYTES)
leaves = st.lists(st.binary(max_size=40), max_size=20)


def code(read: object) -> str:
    with pytest.raises(Invalid) as caught:
        read()  # type: ignore[operator]
    return caught.value.code


def test_tagged_hash_is_sha256_of_the_hashed_tag_and_the_parts() -> None:
    tag = hashlib.sha256(b"bnnchain/block").digest()
    assert tagged_hash("block", b"a", b"bc") == hashlib.sha256(tag + b"abc").digest()


@given(st.integers(0, VARINT_LIMIT - 1))
def test_varints_come_back(value: int) -> None:
    data = Writer().varint(value).bytes()
    reader = Reader(data)
    assert reader.varint() == value
    reader.finish()
    assert len(data) == max(1, -(-value.bit_length() // 7))


@given(st.binary(min_size=1, max_size=8))
def test_a_varint_has_one_spelling(data: bytes) -> None:
    reader = Reader(data)
    value = outcome(reader.varint)
    if isinstance(value, str):
        assert value == "bad-encoding"
        return
    assert Writer().varint(value).bytes() == data[: len(data) - reader.remaining]


@pytest.mark.parametrize("data", [b"\x80\0", b"\xff\0", b"\x80\x80\0", b"\x80" * 5 + b"\1", b"\x80", b""])
def test_other_spellings_of_varints_are_refused(data: bytes) -> None:
    assert code(Reader(data).varint) == "bad-encoding"


@pytest.mark.parametrize("value", [-1, VARINT_LIMIT])
def test_a_varint_out_of_range_is_our_own_bug(value: int) -> None:
    with pytest.raises(OverflowError):
        Writer().varint(value)


def test_integers_are_little_endian_and_of_fixed_width() -> None:
    writer = Writer().u8(1).u16(2).u32(3).u64(4).u256(5).i32(-2).text("ü", 2)
    data = writer.bytes()
    assert data.hex() == "01" + "0200" + "03000000" + "04" + "00" * 7 + "05" + "00" * 31 + "feffffff" + "0200c3bc"
    reader = Reader(data)
    assert [reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.u256(), reader.i32()] == [1, 2, 3, 4, 5, -2]
    assert reader.text(2) == "ü"
    assert reader.remaining == 0
    reader.finish()


@pytest.mark.parametrize(("size", "value"), [(1, 256), (2, 1 << 16), (4, -1), (8, 1 << 64), (32, 1 << 256)])
def test_an_integer_out_of_range_is_our_own_bug(size: int, value: int) -> None:
    with pytest.raises(OverflowError):
        Writer().unsigned(value, size)


def test_a_text_over_its_limit_is_refused_on_both_sides() -> None:
    with pytest.raises(OverflowError):
        Writer().text("abc", 2)
    assert code(lambda: Reader(Writer().text("abc", 3).bytes()).text(2)) == "bad-encoding"
    assert code(lambda: Reader(b"\2\0\xff\xfe").text(8)) == "bad-encoding"


@pytest.mark.parametrize("size", [-1, 4])
def test_bytes_that_are_not_there_are_refused(size: int) -> None:
    assert code(lambda: Reader(b"abc").raw(size)) == "bad-encoding"


def test_left_over_bytes_are_refused() -> None:
    assert code(Reader(b"a").finish) == "bad-encoding"


@given(leaves)
def test_every_leaf_has_a_path_and_no_other_fits(items: list[bytes]) -> None:
    root = merkle_root(items)
    for index, leaf in enumerate(items):
        path = merkle_path(items, index)
        assert verify_merkle_path(root, leaf, index, len(items), path)
        assert not verify_merkle_path(root, leaf + b"x", index, len(items), path)
        assert not verify_merkle_path(root, leaf, index, len(items), (*path, ZERO_HASH))
        assert not verify_merkle_path(root, leaf, len(items), len(items), path)
        assert not verify_merkle_path(root, leaf, -1, len(items), path)
        if path:
            assert not verify_merkle_path(root, leaf, index, len(items), path[:-1])
            assert not verify_merkle_path(root, leaf, index, len(items), (bytes(32), *path[1:]))


@given(leaves, leaves)
def test_no_two_lists_share_a_root(first: list[bytes], second: list[bytes]) -> None:
    assert (merkle_root(first) == merkle_root(second)) == (first == second)


def test_a_doubled_last_leaf_changes_the_root() -> None:
    """The flaw of Bitcoin's tree (CVE-2012-2459), which doubles an odd last node, is not here."""
    assert merkle_root([b"a", b"b", b"c"]) != merkle_root([b"a", b"b", b"c", b"c"])


def test_the_tree_has_the_shape_of_rfc_6962() -> None:
    a, b, c = (tagged_hash("leaf", leaf) for leaf in (b"a", b"b", b"c"))
    assert merkle_root([]) == ZERO_HASH
    assert merkle_root([b"a"]) == a
    assert merkle_root([b"a", b"b", b"c"]) == tagged_hash("node", tagged_hash("node", a, b), c)
