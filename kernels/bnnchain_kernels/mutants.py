"""Many mutants of one base model at once: raced against the base for a search, or their logits for the lottery.

:class:`PlainMutants` is the definition, on any evaluator; ``native_mutants.py`` is the fast one, which remembers the
base's activations and computes only what a mutant's changes touch.  Both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from bnnchain_kernels.evaluator import BLOCK_IMAGES, predict
from bnnchain_kernels.model import Model, build_model, unpack_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture, Int32Array

Int64Array = npt.NDArray[np.int64]

MAX_MUTANTS: Final = 1 << 20
"""Mutants in one call."""


@dataclass(frozen=True, slots=True, eq=False)
class Mutants:
    """A batch of changes to one base model.

    flips: ``int64[f]``, flat positions of weights to invert, over all layers' (out, k) rows without padding; mutant i
        has those from ``flip_starts[i]`` to ``flip_starts[i+1]``; a position given twice is inverted back.
    steps: ``int64[s, 2]``, (flat position over all hidden thresholds, change); a threshold stops at 0 and K + 1;
        ``step_starts`` as above.
    """

    flip_starts: Int64Array
    flips: Int64Array
    step_starts: Int64Array
    steps: Int64Array

    def __len__(self) -> int:
        return len(self.flip_starts) - 1


def pack_mutants(changes: Sequence[tuple[Sequence[int] | Int64Array, Sequence[tuple[int, int]]]]) -> Mutants:
    """Return a batch from (flips, steps) pairs, one a mutant."""
    flips = [np.asarray(flips, np.int64) for flips, _ in changes]
    steps = [np.asarray(steps, np.int64).reshape(len(steps), 2) for _, steps in changes]
    flip_starts = np.cumsum([0, *(len(part) for part in flips)], dtype=np.int64)
    step_starts = np.cumsum([0, *(len(part) for part in steps)], dtype=np.int64)
    empty = np.zeros(0, np.int64)
    return Mutants(
        flip_starts, np.concatenate([empty, *flips]), step_starts, np.concatenate([empty.reshape(0, 2), *steps])
    )


@dataclass(frozen=True, slots=True)
class RaceRules:
    """A paired sequential test on the same images: after 1, 2, 4 ... blocks a mutant may be rejected, never accepted.

    floor: the change in right labels on all images that a mutant must reach.  It is rejected when it lies ``sigmas``
    standard deviations below; the variance of one image's difference (-1, 0 or 1) is the empirical one, with
    ``prior_variance`` counting as much as ``prior_images`` images.
    """

    floor: int
    sigmas: float = 2.0
    prior_variance: float = 0.02
    prior_images: float = 256.0


@dataclass(frozen=True, slots=True, eq=False)
class Races:
    """How a batch did.

    seen: ``int64[m]``, blocks counted of each mutant, all of them where it was never rejected.
    counts: ``int32[m, blocks]``, right labels; only the blocks seen, from the mutant's first block on, are filled.
    """

    seen: Int64Array
    counts: Int32Array

    def survivors(self) -> Int64Array:
        """Return the indices of the mutants that were counted to the end."""
        return np.flatnonzero(self.seen == self.counts.shape[1]).astype(np.int64)


class MutantEvaluator(Protocol):
    """Evaluates mutants of the base model it was built for, on the first ``images`` samples."""

    base_counts: Int32Array
    """``int32[blocks]``, the base's right labels."""

    def race(self, mutants: Mutants, first_blocks: Int64Array, rules: RaceRules) -> Races:
        """Race every mutant against the base, starting at its own ``int64[m]`` first block."""
        ...

    def logits(self, mutants: Mutants) -> Int32Array:
        """Return ``int32[m, images, classes]``."""
        ...


def validate_mutants(mutants: Mutants, architecture: Architecture) -> None:
    """Raise ``ValueError`` where a batch is malformed or points outside the model (the caller's bug)."""
    hidden = sum(place.out_channels for place in architecture.geometry[:-1])
    pairs = (
        (mutants.flip_starts, mutants.flips, mutants.flips, architecture.weight_count),
        (mutants.step_starts, mutants.steps, mutants.steps[:, 0], hidden),
    )
    if not 0 <= len(mutants) <= MAX_MUTANTS or len(mutants.step_starts) != len(mutants.flip_starts):
        raise ValueError("mutants: batch size")
    for starts, entries, positions, bound in pairs:
        if starts.dtype != np.int64 or entries.dtype != np.int64:
            raise ValueError("mutants: dtype")
        if not (starts.flags.c_contiguous and entries.flags.c_contiguous):
            raise ValueError("mutants: not contiguous")
        if starts[0] != 0 or starts[-1] != len(entries) or np.any(np.diff(starts) < 0):
            raise ValueError("mutants: starts")
        if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < bound:
            raise ValueError("mutants: position outside the model")
    if len(mutants.steps) and int(np.abs(mutants.steps[:, 1]).max()) > 1 << 21:
        raise ValueError("mutants: step size")


class PlainMutants:
    """The definition: builds every mutant and evaluates it in full."""

    def __init__(self, evaluator: Evaluator, samples: Samples, base: Model, images: int) -> None:
        if not 0 < images <= len(samples):
            raise ValueError(f"{images} images of {len(samples)}")
        self._evaluator = evaluator
        self._base = base
        self._images = images
        self._labels = samples.labels[:images]
        self._base_right = predict(evaluator.logits(base, 0, images)) == self._labels
        self._blocks = -(-images // BLOCK_IMAGES)
        self.base_counts: Int32Array = np.add.reduceat(
            self._base_right, np.arange(0, images, BLOCK_IMAGES), dtype=np.int32
        )

    def race(self, mutants: Mutants, first_blocks: Int64Array, rules: RaceRules) -> Races:
        """Race every mutant; see :class:`MutantEvaluator`."""
        validate_mutants(mutants, self._base.architecture)
        seen = np.zeros(len(mutants), np.int64)
        counts: Int32Array = np.zeros((len(mutants), self._blocks), np.int32)
        for index in range(len(mutants)):
            model = build_mutant(self._base, mutants, index)
            order = (np.arange(self._blocks) + first_blocks[index]) % self._blocks
            seen[index] = self._race_one(model, order, rules, counts[index])
        return Races(seen, counts)

    def logits(self, mutants: Mutants) -> Int32Array:
        """Return every mutant's logits; see :class:`MutantEvaluator`."""
        validate_mutants(mutants, self._base.architecture)
        models = [build_mutant(self._base, mutants, index) for index in range(len(mutants))]
        logits = [self._evaluator.logits(model, 0, self._images) for model in models]
        return np.array(logits, np.int32).reshape(len(models), self._images, self._base.architecture.classes)

    def _race_one(self, model: Model, order: Int64Array, rules: RaceRules, counts: Int32Array) -> int:
        """Fill a mutant's counts block by block until it is rejected; return how many were counted."""
        gained = differing = images = 0
        stage = 1
        for seen, block in enumerate(order.tolist(), start=1):
            start, stop = block * BLOCK_IMAGES, min((block + 1) * BLOCK_IMAGES, self._images)
            right = predict(self._evaluator.logits(model, start, stop)) == self._labels[start:stop]
            counts[block] = np.count_nonzero(right)
            gained += int(counts[block]) - int(self.base_counts[block])
            differing += int(np.count_nonzero(right != self._base_right[start:stop]))
            images += stop - start
            if seen == stage and seen < self._blocks:
                if is_hopeless(rules, gained, differing, images, self._images):
                    return seen
                stage *= 2
        return self._blocks


def is_hopeless(rules: RaceRules, gained: int, differing: int, seen: int, images: int) -> bool:
    """Tell whether a mutant lies so far below its floor that no further block is worth it.

    gained: its right labels minus the base's on the ``seen`` images; differing: images that only one labels right.
    """
    share = seen / images
    deficit = rules.floor * share - gained
    if deficit <= 0:
        return False
    scatter = differing - gained * gained / seen
    variance = (rules.prior_images * rules.prior_variance + scatter) / (rules.prior_images + seen)
    # The pool is finite: the fewer images are left, the less they can change.
    return bool(deficit * deficit > rules.sigmas * rules.sigmas * variance * seen * (1 - share))


def build_mutant(base: Model, mutants: Mutants, index: int) -> Model:
    """Return mutant number ``index`` as a model of its own."""
    weights = unpack_weights(base)
    thresholds = [limits.astype(np.int64) for limits in base.thresholds]
    flat = np.concatenate([rows.reshape(-1) for rows in weights])
    for position in mutants.flips[mutants.flip_starts[index] : mutants.flip_starts[index + 1]]:
        flat[position] = not flat[position]
    ends = np.cumsum([rows.size for rows in weights])[:-1]
    changed = [part.reshape(rows.shape) for part, rows in zip(np.split(flat, ends), weights, strict=True)]
    for position, step in mutants.steps[mutants.step_starts[index] : mutants.step_starts[index + 1]].tolist():
        layer, place = 0, position
        while place >= len(thresholds[layer]):
            place -= len(thresholds[layer])
            layer += 1
        highest = base.architecture.geometry[layer].fan_in + 1
        thresholds[layer][place] = min(max(int(thresholds[layer][place]) + step, 0), highest)
    return build_model(base.architecture, changed, thresholds, base.biases)
