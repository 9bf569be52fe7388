"""How often a confirmed block is reversed: measured by the node's own fork choice, against the published curve."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from sim.byzantine import DoubleSpender
from sim.scale import BLOCKS, say
from sim.test_byzantine import QUARTER, attacked
from sim.world import INTERVAL_S

from bnnchain.consensus.difficulty import HALFLIFE_INTERVALS, asert, block_weight
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.types import MAX_TARGET

TRIALS, ASERT_TRIALS = 20_000, 4_000
HOPELESS_BLOCKS = 60
TARGET = MAX_TARGET >> 20
WEIGHT = block_weight(TARGET)
Z95 = 1.96


@dataclass(frozen=True)
class Tip:
    """All of a state that the fork choice looks at."""

    weight: int


def reversal_odds(share: float, confirmations: int) -> float:
    """Return the odds that an attacker one block ahead overtakes so many confirmations (Rosenfeld 2014, theorem 1)."""
    p, q, n = 1 - share, share, confirmations
    return 1 - sum(math.comb(m + n - 1, m) * (p**n * q**m - p**m * q**n) for m in range(n + 1))


def interval95(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share, square = successes / trials, Z95**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = Z95 * math.sqrt(share * (1 - share) / trials + square / trials / 4) / (1 + square)
    return middle - half, middle + half


def is_reversed(draw: random.Random, share: float, confirmations: int) -> bool:
    """Play one double-spend on chains of equal blocks, decided by the node's own fork choice."""
    honest, secret, found = Tip(0), Tip(WEIGHT), 0
    while True:
        if found >= confirmations:
            if is_better(secret, honest):
                return True
            if honest.weight - secret.weight >= HOPELESS_BLOCKS * WEIGHT:
                return False
        if draw.random() < share:
            secret = Tip(secret.weight + WEIGHT)
        else:
            honest, found = Tip(honest.weight + WEIGHT), found + 1


@dataclass
class Branch:
    """A branch whose targets follow ASERT; times in seconds since the fork, which was on schedule."""

    power: float
    """Blocks per second at the first target."""
    height: int = 0
    time_s: float = 0.0
    weight: int = 0

    @property
    def target(self) -> int:
        since_s = int(self.time_s) + INTERVAL_S
        return asert(TARGET, since_s, self.height, INTERVAL_S, HALFLIFE_INTERVALS * INTERVAL_S)

    def wait_s(self, draw: random.Random) -> float:
        return draw.expovariate(self.power * self.target / TARGET)

    def extend(self, time_s: float) -> None:
        self.weight += block_weight(self.target)
        self.height, self.time_s = self.height + 1, time_s


def is_reversed_under_asert(draw: random.Random, share: float, confirmations: int) -> bool:
    """Play the same double-spend with the targets that the node's own ASERT gives each branch."""
    honest, secret = Branch(1 / INTERVAL_S), Branch(share / (1 - share) / INTERVAL_S)
    now_s = draw.expovariate(honest.power + secret.power)
    secret.extend(now_s)
    while True:
        if honest.height >= confirmations:
            if is_better(secret, honest):  # type: ignore[arg-type]
                return True
            if honest.height - secret.height >= DoubleSpender.give_up_blocks:
                return False
        waits_s = honest.wait_s(draw), secret.wait_s(draw)
        now_s += min(waits_s)
        (honest if waits_s[0] < waits_s[1] else secret).extend(now_s)


def tied_odds(share: float, confirmations: int) -> float:
    """Return the odds of the same attack where it also wins with as many blocks as the others."""
    p, q, n = 1 - share, share, confirmations
    wins = [math.comb(m + n - 1, m) * p**n * q**m * (1 - (q / p) ** (n - m - 1)) for m in range(n - 1)]
    return 1 - sum(wins)


def test_the_curve_is_the_published_one() -> None:
    """Rosenfeld's table 1, in percent."""
    assert 100 * reversal_odds(0.10, 1) == pytest.approx(20.0, abs=0.001)
    assert 100 * reversal_odds(0.10, 6) == pytest.approx(0.059, abs=0.001)
    assert 100 * reversal_odds(0.20, 6) == pytest.approx(2.331, abs=0.001)
    assert 100 * reversal_odds(0.30, 6) == pytest.approx(15.645, abs=0.001)


@pytest.mark.parametrize("confirmations", [1, 2, 6])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.25])
def test_reversals_follow_the_curve(share: float, confirmations: int) -> None:
    draw = random.Random(f"reversals {share} {confirmations}")
    reversed_count = sum(is_reversed(draw, share, confirmations) for _ in range(TRIALS))
    low, high = interval95(reversed_count, TRIALS)
    odds = reversal_odds(share, confirmations)
    say(f"share {share}, {confirmations} confirmations: {low:.4f}..{high:.4f} against {odds:.4f}")
    assert low <= odds <= high


@pytest.mark.parametrize("confirmations", [2, 6])
def test_asert_lets_the_secret_branch_win_ties(confirmations: int) -> None:
    """Of two branches of equal length the earlier one has the harder targets, so the more weight: no tie is a tie.

    An attacker who is a block ahead is the earlier one.  So the published curve, which gives ties to the others, is a
    lower bound here, and the curve that gives them to the attacker an upper one: about one confirmation apart.
    """
    draw = random.Random(f"asert {confirmations}")
    reversed_count = sum(is_reversed_under_asert(draw, QUARTER, confirmations) for _ in range(ASERT_TRIALS))
    low, high = interval95(reversed_count, ASERT_TRIALS)
    bounds = reversal_odds(QUARTER, confirmations), tied_odds(QUARTER, confirmations)
    say(f"{confirmations} confirmations under ASERT: {low:.4f}..{high:.4f} within {bounds[0]:.4f}..{bounds[1]:.4f}")
    assert bounds[0] < low < high < bounds[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reversals_between_whole_nodes_lie_between_the_curves() -> None:
    """The same attack by a node on nodes, with real blocks, delays and reorganisations; the model's odds beside it."""
    wanted = max(20, BLOCKS // 2)
    draw = random.Random("whole nodes")
    played = sum(is_reversed_under_asert(draw, QUARTER, DoubleSpender.depth) for _ in range(ASERT_TRIALS))
    odds = played / ASERT_TRIALS
    with attacked(DoubleSpender, learn=0.0, honest_count=2) as (world, attacker):
        world.run_until(lambda: attacker.attempts >= wanted)
        successes, attempts = attacker.successes, attacker.attempts
        world.run_s(60)  # the last branch is on its way
        low, high = interval95(successes, attempts)
        deep = [sum(depth >= attacker.depth for depth in node.reorg_depths) for node in world.honest]
        say(
            f"{successes} of {attempts} attacks reversed {attacker.depth} confirmations:"
            f" {low:.3f}..{high:.3f} against {odds:.3f}; deep reorgs seen {deep}"
        )
        # Where ties are the attacker's and where they are not: the truth under ASERT lies between.
        assert reversal_odds(QUARTER, attacker.depth) < high
        assert low < tied_odds(QUARTER, attacker.depth)
        # A branch that overtakes while another block is under way may be taken in two steps.
        assert all(seen >= 0.9 * successes for seen in deep)
