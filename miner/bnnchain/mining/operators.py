"""The steps of the evolutionary search: each operator proposes a move from the model in hand (paper section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bnnchain.bnn.encoding import apply_flips
from bnnchain.mining.saliency import flip_saliency
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import BoolArray

PERCENT = 100
MAX_FEW_FLIPS = 3
STOP_PROBABILITY = 0.6
"""After each flip of a few-flip step: steps of one are found to help longest, those of three while much is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A change to a model.

    flips: ``int64[n]``, increasing flat positions of weights to invert.  steps: (position, -1 or +1) of hidden
    thresholds, positions counted over all hidden layers.
    """

    flips: FlipPositions
    steps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """What an operator may look at.

    base: the model a move starts from; weights: ``bool[weight_count]``, its flat weights; mates: the same of the other
    members of the population; eligible: ``int64[m]``, the weights that a few-flip step draws from.
    """

    base: Model
    weights: BoolArray
    mates: Sequence[BoolArray]
    eligible: FlipPositions


class Operator(Protocol):
    """Proposes moves; draws all its randomness from ``rng``."""

    name: str

    def propose(self, situation: Situation, rng: np.random.Generator) -> Move:
        """Return a move from the situation's base; one without effect is allowed."""
        ...


class FewFlips:
    """One to three random flips and sometimes a threshold step: the smallest changes, of which many help."""

    name = "few-flips"
    STEP_PROBABILITY = 0.3

    def propose(self, situation: Situation, rng: np.random.Generator) -> Move:
        """Return 1 to 3 flips among the eligible weights, with a threshold step in three moves of ten."""
        count = min(flip_count(rng), len(situation.eligible))
        drawn = situation.eligible[rng.integers(0, len(situation.eligible), count)] if count else situation.eligible
        steps: tuple[tuple[int, int], ...] = ()
        threshold_count = sum(len(limits) for limits in situation.base.thresholds)
        if threshold_count and rng.random() < self.STEP_PROBABILITY:
            steps = ((int(rng.integers(0, threshold_count)), 1 if rng.random() < 0.5 else -1),)  # noqa: PLR2004
        return Move(np.unique(drawn), steps)


class GuidedFlips:
    """One to three flips among the weights that the straight-through gradient calls the most promising.

    Measured on MNIST with cnn-4k, such a flip is worth about six random ones.  The gradient is taken on a new draw of
    images every so many proposals, from the base of that moment.
    """

    name = "guided-flips"
    PROMISING_SHARE = 0.3
    """Of all weights; flips are drawn evenly among these, as the order within them says little."""
    JUDGING_IMAGES = 1024
    REFRESH_PROPOSALS = 256

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._promising: FlipPositions = np.zeros(0, np.int64)
        self._proposals = 0

    def propose(self, situation: Situation, rng: np.random.Generator) -> Move:
        """Return 1 to 3 flips of promising weights, less those that are not eligible."""
        if self._proposals % self.REFRESH_PROPOSALS == 0:
            count = min(self.JUDGING_IMAGES, len(self._samples))
            images = rng.choice(len(self._samples), count, replace=False)
            salient = flip_saliency(situation.base, self._samples, images)
            kept = max(1, int(len(salient) * self.PROMISING_SHARE))
            self._promising = np.argpartition(-salient, kept - 1)[:kept].astype(np.int64)
        self._proposals += 1
        drawn = np.unique(self._promising[rng.integers(0, len(self._promising), flip_count(rng))])
        return Move(drawn[np.isin(drawn, situation.eligible)])


class Mutation:
    """The paper's mutation: a share of the weights, each flipped with a small probability (section 5.2: 10 %, 0.05)."""

    name = "mutation"

    def __init__(self, mutate_percent: float, probability: float) -> None:
        validate_percent("population_mutate_percent", mutate_percent)
        if not 0 <= probability <= 1:
            raise Invalid("bad-search", mutate_probability=probability)
        self._mutate_percent = mutate_percent
        self._probability = probability

    def propose(self, situation: Situation, rng: np.random.Generator) -> Move:
        """Return flips with the given probability among a random share of all weights."""
        drawn = _draw_share(len(situation.weights), self._mutate_percent, rng)
        return Move(np.sort(drawn[rng.random(len(drawn)) < self._probability]))


class Crossover:
    """The paper's crossover: a share of every layer's weights is taken from another member of the population."""

    name = "crossover"

    def __init__(self, cross_percent: float) -> None:
        validate_percent("population_cross_percent", cross_percent)
        self._cross_percent = cross_percent

    def propose(self, situation: Situation, rng: np.random.Generator) -> Move:
        """Return the flips that copy random shares of a random mate's layers; none without a mate."""
        if not situation.mates:
            return Move(np.zeros(0, np.int64))
        mate = situation.mates[int(rng.integers(0, len(situation.mates)))]
        drawn, start = [], 0
        for layer in situation.base.architecture.geometry:
            drawn.append(start + _draw_share(layer.weight_count, self._cross_percent, rng))
            start += layer.weight_count
        positions = np.concatenate(drawn)
        return Move(np.sort(positions[mate[positions] != situation.weights[positions]]))


def apply_move(model: Model, move: Move) -> Model:
    """Return the model after a move; a threshold step stops at 0 and at K + 1."""
    child = apply_flips(model, move.flips)
    if not move.steps:
        return child
    thresholds = [limits.copy() for limits in model.thresholds]
    for position, step in move.steps:
        index, place = 0, position
        while place >= len(thresholds[index]):
            place -= len(thresholds[index])
            index += 1
        highest = model.architecture.geometry[index].fan_in + 1
        thresholds[index][place] = min(max(int(thresholds[index][place]) + step, 0), highest)
    return Model(model.architecture, child.weights, tuple(thresholds), model.biases)


def flip_count(rng: np.random.Generator) -> int:
    """Return how many weights a few-flip step inverts: 1 to 3, mostly 1."""
    return min(int(rng.geometric(STOP_PROBABILITY)), MAX_FEW_FLIPS)


def validate_percent(name: str, percent: float) -> None:
    """Raise :class:`Invalid` ``bad-search`` where a share is not one of 0 to 100."""
    if not 0 <= percent <= PERCENT:
        raise Invalid("bad-search", **{name: percent})


def _draw_share(count: int, percent: float, rng: np.random.Generator) -> FlipPositions:
    return rng.choice(count, round(count * percent / PERCENT), replace=False)
