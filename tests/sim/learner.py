"""What simulated miners can do: how often a ticket wins, and a real if modest search for models."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from builders import family_shape, founder

from bnnchain.bnn.encoding import apply_flips
from bnnchain.consensus.difficulty import next_target
from bnnchain.consensus.learning import required_accuracy, required_flips, required_gain
from bnnchain.consensus.lineage import novel_flips
from bnnchain.consensus.lottery import is_winning
from bnnchain.consensus.types import BlockKind
from bnnchain.mining.shapes import new_shape
from bnnchain.mining.template import Candidate, next_timestamp, open_places
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    import random

    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.election import Place
    from bnnchain.consensus.state import ChainState
    from bnnchain_kernels.model import Architecture

Y_BITS = 256


class Learner:
    """Finds models for the open places of the election order.

    share: of the blocks, how many it tries to fill with a model; steps: children it counts before it gives up;
    can_evolve: False makes every family a plateau.
    """

    def __init__(self, share: float = 0.5, steps: int = 40, *, can_evolve: bool = True) -> None:
        self.share, self.steps, self.can_evolve = share, steps, can_evolve

    def is_willing(self, draw: random.Random) -> bool:
        """Answer whether the next block shall carry a model."""
        return draw.random() < self.share

    def find(self, state: ChainState, now: int, validator: Validator, draw: random.Random) -> Candidate | None:
        """Return a model that passes the gates of the first open place for which one is found, or None."""
        for place in open_places(state, now):
            search = self._evolve if place.kind == BlockKind.EVOLVE else self._found
            candidate = search(state, place, now, validator, draw)
            if candidate is not None:
                return candidate
        return None

    def _found(
        self, state: ChainState, place: Place, now: int, validator: Validator, draw: random.Random
    ) -> Candidate | None:
        params = state.spec.params_at(state.height + 1)
        manifest = state.datasets[place.dataset_id].manifest
        shape = (
            place.family.architecture
            if place.family
            else new_shape(state, manifest, params, family_shape(place.family_id))
        )
        model = founder(shape, draw.randrange(1 << 32))
        correct = count_correct(validator.evaluator(place.dataset_id), model, manifest.pool_size)
        if correct < required_accuracy(state.datasets[place.dataset_id], params):
            return None
        return Candidate(place, model, correct)

    def _evolve(
        self, state: ChainState, place: Place, now: int, validator: Validator, draw: random.Random
    ) -> Candidate | None:
        family = place.family
        if family is None or not self.can_evolve:
            return None
        params = state.spec.params_at(state.height + 1)
        evaluator = validator.evaluator(place.dataset_id)
        pool_size = state.datasets[place.dataset_id].manifest.pool_size
        elapsed_s = max(0, next_timestamp(state, now) - state.timestamp)
        wanted = family.best.correct + required_gain(family, pool_size, elapsed_s, params)
        novel, flips = np.flatnonzero(novel_flips(family)), required_flips(family.architecture, params)
        for _ in range(self.steps):
            chosen = np.array(sorted(draw.sample(range(len(novel)), flips)), np.int64)
            child = apply_flips(family.best.model, novel[chosen].astype(np.int64))
            correct = count_correct(evaluator, child, pool_size)
            if correct >= wanted:
                return Candidate(place, child, correct)
        return None


def winning_share(state: ChainState) -> float:
    """Return the share of all tickets that win on ``state``, by the rule itself; bases of tiny models cost the same."""
    params = state.spec.params_at(state.height + 1)
    if params.is_lottery_open:
        return 1.0
    return _winning_share(state.spec.model.architecture, next_target(state, params))


@lru_cache(maxsize=4_096)
def _winning_share(base: Architecture, target: int) -> float:
    """Bisect for the least y that loses: as exact as the rule, whatever its formula."""
    low, high = 0, 1 << Y_BITS
    while low < high:
        middle = (low + high) // 2
        if is_winning(middle.to_bytes(Y_BITS // 8, "little"), base, target):
            low = middle + 1
        else:
            high = middle
    return low / (1 << Y_BITS)
