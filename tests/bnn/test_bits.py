"""The bit strings of models' bytes: what comes back, how long it is, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.bnn.bits import RICE_PARAMETER_BITS, BitReader, BitWriter, rice_parameter
from bnnchain_kernels.errors import Invalid

SMALL_INTEGERS = st.lists(st.integers(0, 3_000), min_size=1, max_size=60)


def integers(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 2**32 - 2), SMALL_INTEGERS, SMALL_INTEGERS)
def test_what_is_written_is_read(flags: list[bool], count: int, first: list[int], second: list[int]) -> None:
    writer = BitWriter().raw(np.array(flags, np.bool_)).count(count).rice(integers(first))
    data = writer.integers(integers(second), 12).bytes()
    reader = BitReader(data)
    assert reader.raw(len(flags)).tolist() == flags
    assert reader.count(count) == count
    assert reader.rice(len(first)).tolist() == first
    assert reader.integers(len(second), 12).tolist() == second
    reader.finish()


@pytest.mark.parametrize(
    ("value", "bits"), [(0, 1), (1, 3), (2, 3), (3, 5), (6, 5), (7, 7), (700, 19), (2**32 - 2, 63)]
)
def test_a_count_takes_twice_its_length(value: int, bits: int) -> None:
    assert len(BitWriter().count(value).bits()) == bits


@given(SMALL_INTEGERS)
def test_no_other_parameter_is_shorter(values: list[int]) -> None:
    sizes = [sum((value >> k) + 1 + k for value in values) for k in range(1 << RICE_PARAMETER_BITS)]
    assert rice_parameter(integers(values)) == sizes.index(min(sizes))
    assert len(BitWriter().rice(integers(values)).bits()) == min(sizes) + RICE_PARAMETER_BITS


@given(SMALL_INTEGERS, st.data())
def test_any_other_parameter_is_refused(values: list[int], data: st.DataObject) -> None:
    best = rice_parameter(integers(values))
    other = data.draw(st.integers(0, 31).filter(lambda parameter: parameter != best))
    unary = [bit for value in values for bit in [False] * (value >> other) + [True]]
    writer = BitWriter().integers(integers([other]), RICE_PARAMETER_BITS).raw(np.array(unary, np.bool_))
    writer.integers(integers(values) & ((1 << other) - 1), other)
    with pytest.raises(Invalid, match=r"bad-encoding .*not the shortest Rice code"):
        BitReader(writer.bytes()).rice(len(values))


@given(SMALL_INTEGERS, st.integers(0, 200))
def test_a_cut_string_is_refused(values: list[int], cut: int) -> None:
    data = BitWriter().rice(integers(values)).bytes()
    with pytest.raises(Invalid, match="bad-encoding"):
        BitReader(data[: min(cut, len(data) - 1)]).rice(len(values))


def test_nothing_is_allocated_for_a_count_above_its_limit() -> None:
    data = BitWriter().count(1 << 31).bytes()
    with pytest.raises(Invalid, match=r"bad-encoding .*more entries than places"):
        BitReader(data).count((1 << 31) - 1)
    with pytest.raises(Invalid, match=r"bad-encoding .*truncated"):
        BitReader(data).rice(1 << 31)
    with pytest.raises(Invalid, match=r"bad-encoding .*truncated"):
        BitReader(data).integers(1 << 31, 62)
    with pytest.raises(Invalid, match=r"bad-encoding .*count too long"):
        BitReader(bytes(4) + b"\xff" * 8).count(1 << 40)


@pytest.mark.parametrize("data", [b"\x09", b"\x81", b"\x01\x00", b"\x01\x01"])
def test_nothing_follows_but_the_zeros_of_the_last_byte(data: bytes) -> None:
    reader = BitReader(data)
    assert reader.count(0) == 0
    with pytest.raises(Invalid, match=r"bad-encoding .*trailing bits"):
        reader.finish()
