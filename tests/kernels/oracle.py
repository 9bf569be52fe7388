"""A second, naive definition of the kernel: plain Python on single bits, sharing no code with the package's kernels.

It reads a model's canonical words and a sample's packed bytes itself, straight from PROTOCOL.md, section "Model".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model


def oracle_logits(model: Model, samples: Samples, image: int) -> list[int]:
    """Return the logits of one image."""
    shape = model.architecture
    data = samples.images[image].tobytes()
    bits = [data[i // 8] >> (i % 8) & 1 for i in range(shape.height * shape.width * shape.planes)]
    height, width, channels = shape.height, shape.width, shape.planes
    last = len(shape.layers) - 1
    for index, layer in enumerate(shape.layers):
        rows = [[int(word) for word in row] for row in model.weights[index]]
        if type(layer).__name__ == "Conv3x3":
            windows, out_height, out_width = _windows(bits, height, width, channels)
        else:
            windows, out_height, out_width = [bits], 1, 1
        counts = [[_matches(window, row) for row in rows] for window in windows]
        if index == last:
            fan_in = len(windows[0])
            return [2 * count - fan_in + int(bias) for count, bias in zip(counts[0], model.biases, strict=True)]
        limits = [int(limit) for limit in model.thresholds[index]]
        fired = [[int(count >= limit) for count, limit in zip(pixel, limits, strict=True)] for pixel in counts]
        height, width, channels = out_height, out_width, len(rows)
        if getattr(layer, "pool", False):
            fired, height, width = _pooled(fired, height, width)
        bits = [bit for pixel in fired for bit in pixel]
    raise AssertionError


def oracle_class(logits: list[int]) -> int:
    """Return the class of the largest logit, the lowest of those that tie."""
    return logits.index(max(logits))


def _windows(bits: list[int], height: int, width: int, channels: int) -> tuple[list[list[int]], int, int]:
    windows = []
    for y in range(height - 2):
        for x in range(width - 2):
            window = []
            for ky in range(3):
                for kx in range(3):
                    at = ((y + ky) * width + x + kx) * channels
                    window += bits[at : at + channels]
            windows.append(window)
    return windows, height - 2, width - 2


def _matches(inputs: list[int], row: list[int]) -> int:
    return sum(1 for k, bit in enumerate(inputs) if bit == row[k // 64] >> (k % 64) & 1)


def _pooled(fired: list[list[int]], height: int, width: int) -> tuple[list[list[int]], int, int]:
    out_height, out_width = height // 2, width // 2
    pooled = []
    for y in range(out_height):
        for x in range(out_width):
            corners = [fired[(2 * y + dy) * width + 2 * x + dx] for dy in (0, 1) for dx in (0, 1)]
            pooled.append([int(any(corner[c] for corner in corners)) for c in range(len(corners[0]))])
    return pooled, out_height, out_width
