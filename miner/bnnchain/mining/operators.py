"""The steps of the evolutionary search: each operator proposes moves from the model in hand (paper section 4.2)."""

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
FEW_FLIPS_MOVES = 256
"""Few-flip moves in a batch: the larger it is, the more that help are found to recombine.  256 and 512 did best."""
LARGE_MOVES = 16
"""Mutants or crossings in a batch; they rarely gain, and cost little as races reject them at once."""
MAX_RECOMBINED = 24


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A change to a model.

    flips: ``int64[n]``, increasing flat positions of weights to invert.  steps: (position, change) of hidden
    thresholds, positions counted over all hidden layers.
    """

    flips: FlipPositions
    steps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """What an operator may look at.

    base: the model that moves start from; weights: ``bool[weight_count]``, its flat weights; mates: the same of the
    other members of the population; eligible: ``int64[m]``, the weights that a few-flip step draws from.
    """

    base: Model
    weights: BoolArray
    mates: Sequence[BoolArray]
    eligible: FlipPositions


class Operator(Protocol):
    """Proposes moves; draws all its randomness from ``rng``."""

    name: str

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return a batch of moves from the situation's base; none, and moves without effect, are allowed."""
        ...


class FewFlips:
    """One to three random flips and sometimes a threshold step: the smallest changes, of which many help."""

    name = "few-flips"
    STEP_PROBABILITY = 0.3

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return moves of 1 to 3 flips among the eligible weights, three of ten with a threshold step."""
        batch = draw_few_flips(situation.eligible, rng)
        threshold_count = sum(len(limits) for limits in situation.base.thresholds)
        if threshold_count == 0:
            return [Move(flips) for flips in batch]
        has_step = rng.random(len(batch)) < self.STEP_PROBABILITY
        places = rng.integers(0, threshold_count, len(batch))
        changes = rng.choice([-1, 1], len(batch))
        steps = zip(has_step, places.tolist(), changes.tolist(), strict=True)
        return [
            Move(flips, ((place, change),) if has else ())
            for flips, (has, place, change) in zip(batch, steps, strict=True)
        ]


class GuidedFlips:
    """One to three flips among the weights that the straight-through gradient calls the most promising.

    Measured on MNIST with cnn-4k, such a flip is worth about six random ones.  The gradient is taken on a new draw of
    images every so many batches, from the base of that moment.
    """

    name = "guided-flips"
    PROMISING_SHARE = 0.3
    """Of all weights; flips are drawn evenly among these, as the order within them says little."""
    JUDGING_IMAGES = 1024
    REFRESH_BATCHES = 8

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._promising: FlipPositions = np.zeros(0, np.int64)
        self._batches = 0

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return moves of 1 to 3 flips among the weights that are promising and eligible."""
        if self._batches % self.REFRESH_BATCHES == 0:
            count = min(self.JUDGING_IMAGES, len(self._samples))
            images = rng.choice(len(self._samples), count, replace=False)
            salient = flip_saliency(situation.base, self._samples, images)
            kept = max(1, int(len(salient) * self.PROMISING_SHARE))
            self._promising = np.argpartition(-salient, kept - 1)[:kept].astype(np.int64)
        self._batches += 1
        return [Move(flips) for flips in draw_few_flips(np.intersect1d(self._promising, situation.eligible), rng)]


class Mutation:
    """The paper's mutation: a share of the weights, each flipped with a small probability (section 5.2: 10 %, 0.05)."""

    name = "mutation"

    def __init__(self, mutate_percent: float, probability: float) -> None:
        validate_percent("population_mutate_percent", mutate_percent)
        if not 0 <= probability <= 1:
            raise Invalid("bad-search", mutate_probability=probability)
        self._mutate_percent = mutate_percent
        self._probability = probability

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return moves that flip, with the given probability, each of a random share of all weights."""
        moves = []
        for _ in range(LARGE_MOVES):
            drawn = _draw_share(len(situation.weights), self._mutate_percent, rng)
            moves.append(Move(np.sort(drawn[rng.random(len(drawn)) < self._probability])))
        return moves


class Crossover:
    """The paper's crossover: a share of every layer's weights is taken from another member of the population."""

    name = "crossover"

    def __init__(self, cross_percent: float) -> None:
        validate_percent("population_cross_percent", cross_percent)
        self._cross_percent = cross_percent

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return moves that copy random shares of random mates' layers; none without a mate."""
        if not situation.mates:
            return []
        moves = []
        for _ in range(LARGE_MOVES):
            mate = situation.mates[int(rng.integers(0, len(situation.mates)))]
            drawn, start = [], 0
            for layer in situation.base.architecture.geometry:
                drawn.append(start + _draw_share(layer.weight_count, self._cross_percent, rng))
                start += layer.weight_count
            positions = np.concatenate(drawn)
            moves.append(Move(np.sort(positions[mate[positions] != situation.weights[positions]])))
        return moves


def recombine(helpful: Sequence[Move]) -> list[Move]:
    """Return the first two, the first three ... of some moves taken together; best first, most of them add up."""
    return [_union(helpful[:count]) for count in range(2, min(len(helpful), MAX_RECOMBINED) + 1)]


def apply_move(model: Model, move: Move) -> Model:
    """Return the model after a move; a threshold stops at 0 and at K + 1."""
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


def validate_percent(name: str, percent: float) -> None:
    """Raise :class:`Invalid` ``bad-search`` where a share is not one of 0 to 100."""
    if not 0 <= percent <= PERCENT:
        raise Invalid("bad-search", **{name: percent})


def _union(moves: Sequence[Move]) -> Move:
    steps: dict[int, int] = {}
    for move in moves:
        for position, change in move.steps:
            steps[position] = steps.get(position, 0) + change
    flips = np.unique(np.concatenate([move.flips for move in moves]))
    return Move(flips, tuple((position, change) for position, change in sorted(steps.items()) if change))


def draw_few_flips(eligible: FlipPositions, rng: np.random.Generator) -> list[FlipPositions]:
    """Return sets of 1 to 3 of the eligible weights, mostly one; all empty where none is eligible."""
    if len(eligible) == 0:
        return [eligible] * FEW_FLIPS_MOVES
    counts = np.minimum(rng.geometric(STOP_PROBABILITY, FEW_FLIPS_MOVES), MAX_FEW_FLIPS)
    drawn = eligible[rng.integers(0, len(eligible), int(counts.sum()))]
    return [np.unique(flips) for flips in np.split(drawn, np.cumsum(counts)[:-1])]


def _draw_share(count: int, percent: float, rng: np.random.Generator) -> FlipPositions:
    return rng.choice(count, round(count * percent / PERCENT), replace=False)
