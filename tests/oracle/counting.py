"""What a model says of an image, bit by bit: PROTOCOL.md, section 2, and the tickets of section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oracle.reading import tagged

if TYPE_CHECKING:
    from collections.abc import Iterator

Image = int
"""All bits of an image, (y, x, plane) in order, the first one lowest."""


def logits(model: dict[str, Any], image: Image) -> list[int]:
    shape, values = model["shape"], image
    height, width, channels = shape["input"]
    for index, (kind, size) in enumerate(shape["layers"]):
        k, rows = shape["fan_in"][index], model["rows"][index]
        if kind == 2 and index == len(shape["layers"]) - 1:
            return [2 * matches(values, row, k) - k + bias for row, bias in zip(rows, model["biases"], strict=True)]
        limits = model["thresholds"][index]
        if kind == 2:
            values = joined([[matches(values, row, k) >= limit for row, limit in zip(rows, limits, strict=True)]])
            height, width, channels = 1, 1, size
            continue
        grid = [
            [
                [
                    matches(window(values, y, x, width, channels), row, k) >= t
                    for row, t in zip(rows, limits, strict=True)
                ]
                for x in range(width - 2)
            ]
            for y in range(height - 2)
        ]
        height, width, channels = height - 2, width - 2, size
        if kind == 1:
            height, width = height // 2, width // 2
            grid = [
                [
                    [any(grid[2 * y + dy][2 * x + dx][c] for dy in (0, 1) for dx in (0, 1)) for c in range(size)]
                    for x in range(width)
                ]
                for y in range(height)
            ]
        values = joined([cell for line in grid for cell in line])
    raise AssertionError


def matches(values: int, row: int, k: int) -> int:
    return k - (values ^ row).bit_count()


def window(values: int, y: int, x: int, width: int, channels: int) -> int:
    """The nine positions from (y, x) on, (ky, kx, channel) in order."""
    line = (1 << 3 * channels) - 1
    rows = [values >> ((y + ky) * width + x) * channels & line for ky in range(3)]
    return rows[0] | rows[1] << 3 * channels | rows[2] << 6 * channels


def joined(cells: list[list[bool]]) -> int:
    return sum(1 << at for at, bit in enumerate(bit for cell in cells for bit in cell) if bit)


def label(model: dict[str, Any], image: Image) -> int:
    scores = logits(model, image)
    return scores.index(max(scores))


def stream(seed: bytes) -> Iterator[int]:
    number = 0
    while True:
        block = tagged("stream", seed, number.to_bytes(8, "little"))
        yield from (int.from_bytes(block[at : at + 8], "little") for at in (0, 8, 16, 24))
        number += 1


def below(words: Iterator[int], bound: int) -> int:
    while True:
        word = next(words)
        if word < (1 << 64) // bound * bound:
            return word % bound


def distinct(words: Iterator[int], bound: int, count: int) -> list[int]:
    drawn: list[int] = []
    while len(drawn) < count:
        value = below(words, bound)
        if value not in drawn:
            drawn.append(value)
    return drawn


def ticket(base: dict[str, Any], seed: bytes, flips: int, images: list[Image]) -> bytes:
    """y of a ticket: the logits of a mutant of ``base`` on ``images``."""
    words, rows = stream(tagged("mutant", seed)), []
    for k, layer in zip(base["shape"]["fan_in"], base["rows"], strict=True):
        changed = list(layer)
        for position in distinct(words, k * len(layer), min(flips, k * len(layer))):
            changed[position // k] ^= 1 << position % k
        rows.append(changed)
    mutant = {**base, "rows": rows}
    values = [value for image in images for value in logits(mutant, image)]
    data = b"".join(value.to_bytes(4, "little", signed=True) for value in values)
    return tagged("lottery", seed, tagged("logits", data))
