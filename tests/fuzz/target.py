"""What a fuzz target is, and what every one of them asks of the code under test.

A target takes any bytes.  It returns where the code behaved, and raises where it did not: an error of no known kind, a
text that would reach a terminal unescaped, bytes accepted that are written in another way, a state that differs.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Invalid, Unavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_MESSAGE_CHARACTERS = 4_096
"""What an error says is shown to people and logged: it never grows with the input."""


@dataclass(frozen=True)
class Target:
    """One decoder or door, with what helps the fuzzer through it."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that reach deep, made by the program's own encoders."""
    mutate: Callable[[bytes, random.Random], bytes] | None = None
    """Changes an input by what it means; None: bytes alone are changed."""
    max_size_bytes: int = 4_096
    tokens: tuple[bytes, ...] = field(default=())
    """Words of the format, for libFuzzer's dictionary."""
    needs: str = ""
    """An optional package without which the target cannot run."""
    share: int = 1
    """Of a campaign's time, beside the other targets' shares."""


REFUSED: Counter[str] = Counter()
"""How often each code was earned in this process: shows whether a target reaches past its first check."""


@contextmanager
def refusals(*codes: str) -> Iterator[None]:
    """Let the block be refused as outside data may be, and with no other error; ``codes``: these alone."""
    try:
        yield
    except (Invalid, Unavailable) as error:
        REFUSED[error.code if isinstance(error, Invalid) else "unavailable"] += 1
        message = str(error)
        assert message.isprintable(), f"unprintable: {message!a}"
        assert len(message) <= MAX_MESSAGE_CHARACTERS, f"{len(message)} characters: {message[:200]!a}"
        if isinstance(error, Invalid) and codes:
            assert error.code in codes, f"{message!a} is none of {codes}"  # noqa: PT017  (no test of pytest)


def canonical(decode: Callable[[bytes], object], encode: Callable[..., bytes], *codes: str) -> Callable[[bytes], None]:
    """Return a target's run: what is accepted is written again byte for byte."""

    def run(data: bytes) -> None:
        with refusals(*codes):
            value = decode(data)
            again = encode(value)
            assert again == data, f"{data.hex()} is accepted and written as {again.hex()}"

    return run


class MemoryFile(io.BytesIO):
    """Bytes where the code under test expects the path of a file."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name
        self.suffix = f".{name.rpartition('.')[2]}"

    def __str__(self) -> str:
        return self.name

    def open(self, _mode: str = "rb") -> MemoryFile:
        return MemoryFile(self.getvalue(), self.name)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.getvalue().decode(encoding, errors)

    def read_bytes(self) -> bytes:
        return self.getvalue()

    def exists(self) -> bool:
        return True


def file_of(data: bytes, name: str) -> Path:
    """Return ``data`` as something that reads like a path."""
    return MemoryFile(data, name)  # type: ignore[return-value]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with a few bytes changed, put in, taken out, or doubled: for runs without a fuzzer."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, what = rng.randrange(len(changed) + 1), rng.randrange(5)
        if what == 0:
            changed[at:at] = rng.randbytes(rng.randint(1, 8))
        elif what == 1:
            del changed[at : at + rng.randint(1, 8)]
        elif what == 2:
            changed[at:at] = changed[at : at + rng.randint(1, 64)]
        elif at < len(changed):
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1 << rng.randrange(8)])
    return bytes(changed)
