"""Bit strings: integers of a fixed width, counts in Elias' gamma code, lists of small integers in Rice's code.

PROTOCOL.md, section "Model".  Bits fill each byte from its least significant one on; the last byte ends in zeros.
Every string has one spelling: what the reader accepts, the writer writes again bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from bnnchain_kernels.model import BoolArray

Integers: TypeAlias = npt.NDArray[np.int64]

RICE_PARAMETER_BITS = 5
MAX_COUNT_BITS = 32
"""A count is less than 2**32 - 1."""


class BitWriter:
    """Collects bits in order; every call appends and returns the writer."""

    def __init__(self) -> None:
        self._parts: list[BoolArray] = []

    def raw(self, bits: BoolArray) -> BitWriter:
        self._parts.append(bits)
        return self

    def integers(self, values: Integers, width: int) -> BitWriter:
        """Append each of ``values`` (0..2**width - 1) in ``width`` bits, least significant first."""
        return self.raw(((values[:, None] >> np.arange(width)) & 1).astype(np.bool_).ravel())

    def count(self, value: int) -> BitWriter:
        """Append an integer from 0 on: with n = value + 1 of w + 1 bits, w zeros, a one and the w low bits of n."""
        width = (value + 1).bit_length() - 1
        return self._unary(_one(width)).integers(_one(value + 1 - (1 << width)), width)

    def rice(self, values: Integers) -> BitWriter:
        """Append integers from 0 on, at least one: the parameter k; each v >> k as zeros and a one; each v's low bits.

        Rice's code, nearly the shortest there is for gaps between independent positions; its high parts stand
        together, as Elias and Fano have it, so that they are read in one pass.
        """
        parameter = rice_parameter(values)
        self.integers(_one(parameter), RICE_PARAMETER_BITS)
        return self._unary(values >> parameter).integers(values & ((1 << parameter) - 1), parameter)

    def bits(self) -> BoolArray:
        """Return all bits so far."""
        return np.concatenate([np.zeros(0, np.bool_), *self._parts])

    def bytes(self) -> bytes:
        return np.packbits(self.bits(), bitorder="little").tobytes()

    def _unary(self, values: Integers) -> BitWriter:
        ends = np.cumsum(values + 1)
        bits = np.zeros(ends[-1], np.bool_)
        bits[ends - 1] = True
        return self.raw(bits)


class BitReader:
    """Takes bits in order from bytes of outside; raises :class:`Invalid` ``bad-encoding`` where they do not fit."""

    def __init__(self, data: bytes) -> None:
        self._bits: BoolArray = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").astype(np.bool_)
        self._position = 0

    def raw(self, size: int) -> BoolArray:
        """Return the next ``size`` bits."""
        start, left = self._position, len(self._bits) - self._position
        if size > left:
            raise Invalid("bad-encoding", reason="truncated bits", wanted=size, left=left)
        self._position += size
        return self._bits[start : self._position]

    def integers(self, count: int, width: int) -> Integers:
        """Return ``int64[count]``: integers of ``width`` bits, at most 62."""
        bits = self.raw(count * width).reshape(count, width)
        values: Integers = (bits.astype(np.int64) << np.arange(width)).sum(axis=1, dtype=np.int64)
        return values

    def count(self, limit: int) -> int:
        """Return a count; refused above ``limit`` before anything of its size is allocated."""
        width = int(self._unary(1)[0])
        if width >= MAX_COUNT_BITS:
            raise Invalid("bad-encoding", reason="count too long", bits=width)
        value = (1 << width) + int(self.integers(1, width)[0]) - 1
        if value > limit:
            raise Invalid("bad-encoding", reason="more entries than places", count=value, limit=limit)
        return value

    def rice(self, count: int) -> Integers:
        """Return ``int64[count]``, each below 2**32 times the string's length in bits; ``count`` is at least one."""
        parameter = int(self.integers(1, RICE_PARAMETER_BITS)[0])
        values = (self._unary(count) << parameter) + self.integers(count, parameter)
        if parameter != rice_parameter(values):
            raise Invalid("bad-encoding", reason="not the shortest Rice code", parameter=parameter)
        return values

    def finish(self) -> None:
        """Raise where more is left than the zeros that fill the last byte."""
        rest = self._bits[self._position :]
        if len(rest) >= 8 or rest.any():  # noqa: PLR2004  (a byte)
            raise Invalid("bad-encoding", reason="trailing bits", left=len(rest))

    def _unary(self, count: int) -> Integers:
        ends = np.flatnonzero(self._bits[self._position :])[:count].astype(np.int64)
        if len(ends) < count:
            raise Invalid("bad-encoding", reason="truncated bits", wanted=count, left=len(ends))
        self._position += int(ends[-1]) + 1
        values: Integers = np.diff(ends, prepend=-1) - 1
        return values


def rice_parameter(values: Integers) -> int:
    """Return the parameter that gives the shortest code of ``values``, the least of equals."""
    costs = [
        int((values >> parameter).sum()) + parameter * len(values) for parameter in range(1 << RICE_PARAMETER_BITS)
    ]
    return costs.index(min(costs))


def _one(value: int) -> Integers:
    return np.array([value], np.int64)
