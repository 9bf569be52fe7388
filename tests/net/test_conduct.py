from __future__ import annotations

import pytest

from bnnchain.consensus.errors import CODES, Invalid
from bnnchain.net.codes import CODES as NET_CODES
from bnnchain.net.conduct import BAN_SCORE, DEFAULT_PENALTY, MAX_REMEMBERED, PENALTIES, Conduct
from bnnchain.net.peers import Backoff


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_scores_add_up_to_a_ban_that_ends() -> None:
    time = Time()
    conduct = Conduct(60, time)
    blames = [conduct.blame("a", Invalid("bad-claim")) for _ in range(BAN_SCORE // DEFAULT_PENALTY)]
    assert blames == [False] * 9 + [True]
    assert conduct.ban_left_s("a") == 60
    assert not conduct.is_banned("b")
    time.now = 59
    assert conduct.is_banned("a")
    time.now = 60
    assert not conduct.is_banned("a")
    assert not conduct.blame("a", Invalid("bad-claim"))  # and the score begins anew


@pytest.mark.parametrize("code", sorted(PENALTIES))
def test_special_codes(code: str) -> None:
    conduct = Conduct()
    bans = [conduct.blame("a", Invalid(code)) for _ in range(50)]
    assert any(bans) == bool(PENALTIES[code])
    assert bans[0] == (PENALTIES[code] >= BAN_SCORE)


def test_penalties_are_for_codes_that_exist() -> None:
    assert set(PENALTIES) <= set(CODES) | set(NET_CODES) | {"mempool-full"}


def test_memory_is_bounded() -> None:
    conduct = Conduct()
    for number in range(3 * MAX_REMEMBERED):
        conduct.blame(f"score-{number}", Invalid("bad-claim"))
        conduct.blame(f"ban-{number}", Invalid("bad-chunk"))
    assert len(conduct._scores) == len(conduct._banned_until) == MAX_REMEMBERED
    assert conduct.is_banned(f"ban-{3 * MAX_REMEMBERED - 1}")


def test_backoff_grows_to_its_limit_and_starts_anew() -> None:
    backoff = Backoff(1, 8)
    for step in (1, 2, 4, 8, 8, 8):
        assert step / 2 <= backoff.next_s() <= step
    backoff.reset()
    assert backoff.next_s() <= 1
