"""Who earns how much: blocks in proportion to power, whoever learns."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from sim.learner import Learner
from sim.node import NodeOptions
from sim.scale import BLOCKS, SEED, say
from sim.world import INTERVAL_S, TICKETS_PER_BLOCK, World, assert_sound

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.signatures import public_key

POWERS = (1, 1, 2, 2, 3, 4, 5, 6, 8)
"""Nine miners: eight degrees of freedom."""
LEAST_P = 0.01


def chi_square_p(statistic: float, degrees: int) -> float:
    """Return the probability of a larger chi-square, exact for an even number of degrees of freedom."""
    assert degrees % 2 == 0
    half = statistic / 2
    return math.exp(-half) * sum(half**k / math.factorial(k) for k in range(degrees // 2))


def test_chi_square_agrees_with_published_values() -> None:
    assert chi_square_p(15.507, 8) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_p(20.090, 8) == pytest.approx(0.01, abs=1e-4)
    assert chi_square_p(5.991, 2) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rewards_are_shared_in_proportion_to_power() -> None:
    blocks, total = 5 * BLOCKS, sum(POWERS)
    options = [NodeOptions(TICKETS_PER_BLOCK / INTERVAL_S * power / total) for power in POWERS]
    with World(SEED, options, learner=Learner(share=0.2, steps=5), outbound=2) as world:
        world.run_blocks(blocks)
        world.blocks_to_converge()
        judge = world.nodes[0]
        raws = [raw for _, raw in judge.store.active_blocks(1, judge.head.height)]
        earned = Counter(decode_block(raw).header.miner for raw in raws)
        counts = [earned[public_key(node.key)] for node in world.nodes]
        expected = [len(raws) * power / total for power in POWERS]
        statistic = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
        p = chi_square_p(statistic, len(POWERS) - 1)
        say(f"{len(raws)} blocks, {counts} against {[round(mean) for mean in expected]}: p = {p:.3f}")
        assert p > LEAST_P
        assert_sound(world)
