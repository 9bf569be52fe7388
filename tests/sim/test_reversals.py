"""How often a confirmed block is reversed: measured by the node's own fork choice, against the published curve."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from sim.byzantine import DoubleSpender
from sim.scale import BLOCKS, say
from sim.test_byzantine import QUARTER, attacked

from bnnchain.consensus.difficulty import block_weight
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.types import MAX_TARGET

TRIALS = 20_000
HOPELESS_BLOCKS = 60
WEIGHT = block_weight(MAX_TARGET >> 20)
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reversals_between_whole_nodes_follow_the_curve() -> None:
    """The same attack by a node on nodes, with real blocks, delays and reorganisations."""
    trials = max(20, BLOCKS // 2)
    with attacked(DoubleSpender, learn=0.0, honest_count=2) as (world, attacker):
        world.run_until(lambda: attacker.attempts >= trials)
        low, high = interval95(attacker.successes, attacker.attempts)
        odds = reversal_odds(QUARTER, attacker.depth)
        deep = [sum(depth >= attacker.depth for depth in node.reorg_depths) for node in world.honest]
        say(
            f"{attacker.successes} of {attacker.attempts} attacks reversed {attacker.depth} confirmations:"
            f" {low:.3f}..{high:.3f} against {odds:.3f}; deep reorgs seen {deep}"
        )
        assert low <= odds <= high
        assert all(seen >= attacker.successes for seen in deep)
