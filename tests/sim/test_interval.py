"""The interval between blocks: right in the mean, and back again after every shock; nothing ever halts a chain.

ASERT pulls the schedule back with a half-life of 10 intervals, so the mean over n blocks errs by about 4 / n intervals
(a random walk held to 2.7 intervals at both ends), far less than the 1 / sqrt(n) of a constant target: 0.2 % for
2,000 blocks, 2 % for 200.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from sim.learner import Learner
from sim.node import NodeOptions
from sim.scale import BLOCKS, SEED, say
from sim.world import INTERVAL_S, TICKETS_PER_BLOCK, World, assert_sound, sim_spec

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.types import BlockKind

LONG_BLOCKS = 10 * BLOCKS
SETTLE_BLOCKS, MEASURED_BLOCKS = 80, 200
TOLERANCE = 0.05
NO_LEARNING = Learner(share=0.0)
POWER = TICKETS_PER_BLOCK / INTERVAL_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def mean_interval_s(world: World, blocks: int) -> float:
    """Let so many blocks pass; return the mean of their intervals by the headers' own timestamps."""
    before = world.nodes[0].head
    world.run_until(lambda: world.nodes[0].head.height >= before.height + blocks)
    after = world.nodes[0].head
    mean_s = (after.timestamp - before.timestamp) / (after.height - before.height)
    say(f"mean interval over {after.height - before.height} blocks: {mean_s:.2f} s")
    return mean_s


def test_the_mean_interval_is_the_chains() -> None:
    with World(SEED, 3, learner=Learner(share=0.2, steps=5), skew_s=30) as world:
        assert mean_interval_s(world, LONG_BLOCKS) == pytest.approx(INTERVAL_S, rel=TOLERANCE)
        world.blocks_to_converge()
        assert_sound(world)


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_the_interval_recovers_from_another_power(factor: float) -> None:
    with World(SEED, 2, learner=NO_LEARNING) as world:
        world.run_blocks(SETTLE_BLOCKS // 2)
        for node in world.nodes:
            node.power *= factor
            node.wake()
        started = world.nodes[0].head
        world.run_until(lambda: world.nodes[0].head.height >= started.height + 5)
        shocked = world.nodes[0].head
        shock_s = (shocked.timestamp - started.timestamp) / (shocked.height - started.height)
        say(f"power x {factor}: {shock_s:.1f} s over the first five blocks")
        assert (shock_s < INTERVAL_S) == (factor > 1)
        world.run_until(lambda: world.nodes[0].head.height >= started.height + SETTLE_BLOCKS)
        assert mean_interval_s(world, MEASURED_BLOCKS) == pytest.approx(INTERVAL_S, rel=TOLERANCE)


def test_the_chain_goes_on_where_nothing_can_be_learned() -> None:
    plateau = Learner(share=0.5, steps=5)
    with World(SEED, 2, learner=plateau) as world:
        world.run_blocks(SETTLE_BLOCKS // 2)
        plateau.can_evolve = False
        learned = world.height
        mean_interval_s(world, SETTLE_BLOCKS // 2)
        assert mean_interval_s(world, MEASURED_BLOCKS) == pytest.approx(INTERVAL_S, rel=TOLERANCE)
        raws = [raw for _, raw in world.nodes[0].store.active_blocks(learned + 1, 10 * MEASURED_BLOCKS)]
        kinds = [decode_block(raw).header.kind for raw in raws]
        assert BlockKind.EVOLVE not in kinds
        assert kinds.count(BlockKind.IDLE) > len(kinds) // 2
        assert BlockKind.FOUND in kinds  # families that stand still close, and others open


@pytest.mark.parametrize("name", ["paper-low", "paper-medium", "paper-high"])
def test_a_plateau_does_not_halt_the_papers_chain(name: str) -> None:
    """No lottery, no IDLE: once the only family is at a plateau, the relief place lets another one begin."""
    stuck = Learner(share=1.0, can_evolve=False)
    spec = sim_spec(name, min_population=2)
    with World(SEED, [NodeOptions(1 / INTERVAL_S) for _ in range(2)], spec=spec, learner=stuck) as world:
        world.run_blocks(24)
        state = world.nodes[0].head
        raws = [raw for _, raw in world.nodes[0].store.active_blocks(1, state.height)]
        headers = [decode_block(raw).header for raw in raws]
        waits = [after.timestamp - before.timestamp for before, after in pairwise(headers)]
        say(f"{name}: {state.height} blocks, {len(state.families)} families, longest wait {max(waits)} s")
        assert {header.kind for header in headers} == {BlockKind.FOUND}
        assert len(state.families) > 8
        # One wait for relief, and then some tries of the miners.
        params = spec.params_at(1)
        assert params.relief_s <= max(waits) < params.relief_s + 20 * INTERVAL_S
        world.blocks_to_converge()
        assert_sound(world)
