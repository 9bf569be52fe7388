"""Grey values at which pixels become bits: Otsu's one threshold, or quantiles for several planes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_PLANES

if TYPE_CHECKING:
    import numpy.typing as npt

    from bnnchain_kernels.model import UInt8Array

LEVELS = 256


def histogram(pixels: UInt8Array) -> npt.NDArray[np.int64]:
    """Return ``int64[256]``: how many pixels have each grey value."""
    counts = np.zeros(LEVELS, np.int64)
    for image in pixels:  # bincount widens what it is given to eight bytes a pixel
        counts += np.bincount(image.reshape(-1), minlength=LEVELS)
    return counts


def otsu(counts: npt.NDArray[np.int64]) -> bytes:
    """Return the one threshold that separates dark from bright best (N. Otsu 1979): the largest variance between them.

    counts: of :func:`histogram`.  Exact; of equal thresholds the middle one.  Raises ``bad-thresholds`` where all
    pixels are the same.
    """
    below, below_sum = 0, 0
    total, total_sum = int(counts.sum()), int(counts @ np.arange(LEVELS))
    best: list[int] = []
    most = Fraction(0)
    for threshold in range(1, LEVELS):
        below += int(counts[threshold - 1])
        below_sum += int(counts[threshold - 1]) * (threshold - 1)
        above = total - below
        if not below or not above:
            continue
        spread = Fraction((below_sum * above - (total_sum - below_sum) * below) ** 2, below * above)
        if spread > most:
            most, best = spread, []
        if spread == most:
            best.append(threshold)
    if not best:
        raise Invalid("bad-thresholds", reason="all pixels have the same grey value")
    return bytes([best[len(best) // 2]])


def quantiles(counts: npt.NDArray[np.int64], planes: int) -> bytes:
    """Return ``planes`` thresholds that part the pixels evenly, the commonest grey value, the background, left out.

    counts: of :func:`histogram`.  Threshold p is the lowest grey value with more than share (p + 1) / (planes + 1) of
    the pixels at or below it, at least 1, and above the one before.  Raises ``bad-thresholds`` where there are fewer
    grey values than that.
    """
    if not 1 <= planes <= MAX_PLANES:
        raise Invalid("bad-thresholds", reason="planes", planes=planes, limit=MAX_PLANES)
    foreground = counts.copy()
    foreground[int(counts.argmax())] = 0
    reached = np.cumsum(foreground)
    thresholds: list[int] = []
    for plane in range(1, planes + 1):
        level = int(np.searchsorted(reached * (planes + 1), plane * reached[-1], side="right"))
        thresholds.append(max(level, thresholds[-1] + 1 if thresholds else 1))
    if reached[-1] == 0 or thresholds[-1] >= LEVELS or len(np.flatnonzero(counts)) <= planes:
        raise Invalid("bad-thresholds", reason="too few grey values", planes=planes)
    return bytes(thresholds)
