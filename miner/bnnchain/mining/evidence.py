"""What lottery tickets show of a parent's weights: the search's cheapest source of moves (PROTOCOL.md, "Lottery").

A ticket is a mutant of the elected parent, and its logits on the lottery's samples are there in any case.  Compared
with the labels they say whether the mutant was better; over many tickets, which weights are worth flipping.
"""

from __future__ import annotations

import heapq
import threading
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flat_weights
from bnnchain.mining.operators import FEW_FLIPS_MOVES, Move, draw_few_flips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain.mining.operators import Situation
    from bnnchain_kernels.model import Int32Array, Model

BEST_MUTANTS = 64
"""Tickets whose whole mutants are tried, those that gained most on the lottery's samples."""
ENOUGH_TICKETS = 1 << 15
"""Later ones are not recorded: the order hardly changes any more, and recording takes a tenth of a ticket's time."""
PRIOR_TICKETS = 8
"""A weight's mean counts as if it had been in so many more tickets of no effect: few tickets say little."""


class TicketEvidence:
    """Gains of tickets by weight, and the best of them; an operator of the search from the same parent.

    Every ticket flips the same number of weights in each layer, so only weights of one layer can be compared with each
    other: the best of every layer are promising.  Tickets are recorded from other threads than the search's.

    Measured on MNIST with cnn-4k: from 83 % six steps of this operator after 40,000 tickets gained a fifth more than
    six of random flips; from 87 % no more, for then every image of 60,000 counts and 1,024 are too few to see it.
    """

    name = "ticket-evidence"
    PROMISING_SHARE = 0.1
    """Of a layer's weights."""

    def __init__(self, parent: Model) -> None:
        self._weights = flat_weights(parent)
        self._geometry = parent.architecture.geometry
        self._gains = np.zeros(len(self._weights), np.int64)
        self._seen = np.zeros(len(self._weights), np.int64)
        self._best: list[tuple[int, int, tuple[int, ...]]] = []
        self._order = count()
        self._lock = threading.Lock()
        self._tickets = 0

    @property
    def tickets(self) -> int:
        """Return how many tickets have been recorded."""
        return self._tickets

    @property
    def is_complete(self) -> bool:
        """Answer whether further tickets are not worth recording."""
        return self._tickets >= ENOUGH_TICKETS

    def record(self, flips: Sequence[Sequence[int]], gains: Int32Array) -> None:
        """Remember tickets: the flat positions that each one flipped, and its right labels above the parent's."""
        with self._lock:
            self._tickets += len(flips)
            for positions, gain in zip(flips, gains.tolist(), strict=True):
                self._gains[positions] += gain
                self._seen[positions] += 1
                if gain > 0:
                    # The order decides between equals, for tuples of positions need not differ.
                    heapq.heappush(self._best, (gain, next(self._order), tuple(positions)))
                    if len(self._best) > BEST_MUTANTS:
                        heapq.heappop(self._best)

    def propose(self, situation: Situation, rng: np.random.Generator) -> list[Move]:
        """Return the best mutants not taken yet, then moves of 1 to 3 flips among the promising weights.

        None before a ticket was recorded.
        """
        with self._lock:
            if self._tickets == 0:
                return []
            best = sorted(self._best, reverse=True)
            promising = self._promising()
        # A weight that the base has flipped already has had its say.
        is_open = situation.weights == self._weights
        eligible = np.zeros(len(is_open), np.bool_)
        eligible[situation.eligible] = True
        mutants = [np.sort(np.array(positions, np.int64)) for _, _, positions in best]
        moves = [Move(flips) for flips in mutants if (is_open & eligible)[flips].all()]
        few = draw_few_flips(promising[(is_open & eligible)[promising]], rng)
        return [*moves, *(Move(flips) for flips in few[: FEW_FLIPS_MOVES - len(moves)])]

    def _promising(self) -> FlipPositions:
        """Return ``int64[n]``: the weights of each layer whose tickets gained most."""
        chosen, start = [], 0
        for layer in self._geometry:
            stop = start + layer.weight_count
            gains, seen = self._gains[start:stop], self._seen[start:stop]
            mean = gains.sum() / max(1, seen.sum())
            scores = (gains - mean * seen) / (seen + PRIOR_TICKETS)
            kept = max(1, round(self.PROMISING_SHARE * layer.weight_count))
            chosen.append(start + np.argsort(-scores, kind="stable")[:kept])
            start = stop
        positions: FlipPositions = np.sort(np.concatenate(chosen)).astype(np.int64)
        return positions
