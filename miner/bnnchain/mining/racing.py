"""Racing: most candidates of a search are worse than what it has, and a few hundred images tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.evaluator import BLOCK_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain_kernels.evaluator import Evaluator
    from bnnchain_kernels.model import Int32Array, Model

REJECT_SIGMAS = 0.25
"""A candidate is dropped when it lies this many standard deviations below what it must reach.

Low on purpose: on MNIST with cnn-4k this found the most gain per image counted.  Good candidates lost to bad luck cost
less than mediocre ones counted to the end, and a move lost here may be drawn again.
"""
PRIOR_VARIANCE = 0.02
"""Of one image's difference (-1, 0, 1) between a model and a few-flip child, before a race has seen any."""
PRIOR_BLOCKS = 2
"""The weight of the prior, in blocks, against the variance seen in this race."""


@dataclass(frozen=True, slots=True, eq=False)
class Racer:
    """Compares candidates with a model in hand, on the same images, block by block."""

    evaluator: Evaluator
    pool_size: int

    @property
    def block_count(self) -> int:
        return -(-self.pool_size // BLOCK_IMAGES)

    def count(self, model: Model) -> Int32Array:
        """Return ``int32[block_count]``: a model's exact right labels per block of the whole pool."""
        return self.evaluator.correct(model, 0, self.pool_size)

    def race(self, candidate: Model, base_counts: Int32Array, *, floor: int, first_block: int) -> Int32Array | None:
        """Return the candidate's exact count per block of the whole pool, or None where it was rejected on the way.

        base_counts: ``int32[block_count]`` of the model in hand.  floor: the change in right labels that the candidate
        must reach on the whole pool.  first_block: where to start; vary it, or one block's luck decides every race.

        The stages are 1, 1, 2, 4 ... blocks.  After each, a paired one-sided test with the variance between the blocks
        seen (and a prior, while they are few) may reject; nothing but a full count ever accepts, and the caller does.
        """
        counts = np.zeros(self.block_count, np.int32)
        sizes = self._block_sizes()
        seen = np.zeros(0, np.int64)
        for blocks in self._stages(first_block):
            for first, last in _runs(blocks):
                start, stop = first * BLOCK_IMAGES, min(last * BLOCK_IMAGES, self.pool_size)
                counts[first:last] = self.evaluator.correct(candidate, start, stop)
            seen = np.concatenate([seen, blocks])
            differences = (counts[seen] - base_counts[seen]).astype(np.float64)
            if len(seen) < self.block_count and is_hopeless(differences, sizes[seen], floor, self.pool_size):
                return None
        return counts

    def _block_sizes(self) -> Int32Array:
        sizes = np.full(self.block_count, BLOCK_IMAGES, np.int32)
        sizes[-1] = self.pool_size - (self.block_count - 1) * BLOCK_IMAGES
        return sizes

    def _stages(self, first_block: int) -> Iterator[np.ndarray]:
        order = (np.arange(self.block_count) + first_block) % self.block_count
        done, stop = 0, 1
        while done < self.block_count:
            yield order[done:stop]
            done, stop = stop, 2 * stop


def is_hopeless(differences: np.ndarray, sizes: np.ndarray, floor: int, pool_size: int) -> bool:
    """Tell whether a candidate lies so far below its floor that it is not worth another block.

    differences: ``float64[b]``, its right labels per block minus those of the model in hand; sizes: ``int32[b]``,
    images per block.  The pool is finite: the fewer images are left, the less they can change.
    """
    images = float(sizes.sum())
    rate = differences.sum() / images
    scatter = float(((differences - rate * sizes) ** 2 / sizes).sum())
    variance = (PRIOR_BLOCKS * PRIOR_VARIANCE + scatter) / (PRIOR_BLOCKS + len(sizes) - 1)
    deviation = math.sqrt(variance * images * (1 - images / pool_size))
    return bool(differences.sum() - floor * images / pool_size < -REJECT_SIGMAS * deviation)


def _runs(blocks: np.ndarray) -> Iterator[tuple[int, int]]:
    # Consecutive blocks as (first, last + 1): at most two runs, as a stage may wrap around the end of the pool.
    breaks = np.flatnonzero(np.diff(blocks) != 1) + 1
    for run in np.split(blocks, breaks):
        yield int(run[0]), int(run[-1]) + 1
