"""How peers behave: every reject code has a weight, and who reaches the limit is left alone for a while.

Penalties never decide what is valid.  Codes that an honest peer can cause (its clock, its older head) weigh nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnnchain.consensus.errors import Invalid

BAN_SCORE = 100
BAN_S = 600.0
MAX_REMEMBERED = 1_024
DEFAULT_PENALTY = 10

PENALTIES = {
    # The only way to get these wrong is to lie: one is enough.
    "bad-lottery-value": BAN_SCORE,
    "bad-chunk": BAN_SCORE,
    "bad-range": BAN_SCORE,
    # Depends on clocks, or on which head the peer stands on.
    "time-too-new": 0,
    "bad-tx-nonce": 0,
    "bad-tx-balance": 0,
    "bad-tx-expired": 0,
    "dataset-known": 0,
    "datasets-full": 0,
    "unknown-dataset": 0,
    "bad-evidence": 0,
    # Rules of this node alone.
    "mempool-full": 0,
    "fee-too-low": 0,
    "other-checkpoint": 0,
}


def is_harmless(error: Invalid) -> bool:
    """Answer whether an honest peer can cause the error: its code weighs nothing."""
    return PENALTIES.get(error.code, DEFAULT_PENALTY) == 0


class Conduct:
    """Scores and bans by :attr:`Address.conduct_key`; used from the event loop only."""

    def __init__(self, ban_s: float = BAN_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._ban_s = ban_s
        self._clock = clock
        self._scores: OrderedDict[str, int] = OrderedDict()
        self._banned_until: OrderedDict[str, float] = OrderedDict()
        self.ban_count = 0
        """Bans pronounced since the process began."""

    def blame(self, key: str, error: Invalid) -> bool:
        """Add the error's penalty to the score of ``key``; answer whether it is banned now."""
        score = self._scores.pop(key, 0) + PENALTIES.get(error.code, DEFAULT_PENALTY)
        self._scores[key] = score
        if score >= BAN_SCORE:
            del self._scores[key]
            self._banned_until[key] = self._clock() + self._ban_s
            self.ban_count += 1
        for memory in (self._scores, self._banned_until):
            while len(memory) > MAX_REMEMBERED:
                memory.popitem(last=False)
        return self.is_banned(key)

    def ban_left_s(self, key: str) -> float:
        """Return the seconds for which ``key`` stays banned, 0 where it is not."""
        until = self._banned_until.get(key)
        if until is None:
            return 0.0
        left = until - self._clock()
        if left <= 0:
            del self._banned_until[key]
            return 0.0
        return left

    def bans(self) -> dict[str, float]:
        """Return the seconds left of each ban, to be kept over a restart."""
        return {key: left_s for key in tuple(self._banned_until) if (left_s := self.ban_left_s(key)) > 0}

    def restore(self, bans: Mapping[str, float]) -> None:
        """Take up the bans of an earlier run; none lasts longer than a fresh one."""
        now_s = self._clock()
        for key, left_s in list(bans.items())[:MAX_REMEMBERED]:
            self._banned_until[key] = now_s + min(left_s, self._ban_s)

    def banned_count(self) -> int:
        """Return how many are left alone at present."""
        return sum(self.is_banned(key) for key in tuple(self._banned_until))

    def is_banned(self, key: str) -> bool:
        """Answer whether ``key`` is left alone at present."""
        return self.ban_left_s(key) > 0
