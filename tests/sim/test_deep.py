"""The deep run, on demand (`make sim-deep`): fifty nodes, two thousand blocks, every fault again and again."""

from __future__ import annotations

import os

import pytest
from sim.network import Weather
from sim.scale import SEED, say
from sim.test_faults import MOST_BLOCKS_TO_CONVERGE, PARTITIONS, part
from sim.world import World, assert_sound

NODES = 50
BLOCKS = int(os.environ.get("SIM_DEEP", "0"))
CALM_BLOCKS = 80


@pytest.mark.slow
@pytest.mark.skipif(not BLOCKS, reason="on demand: make sim-deep")
@pytest.mark.timeout(7_200)
def test_fifty_nodes_converge_again_and_again() -> None:
    say(f"replay: make sim-deep SIM_SEED={SEED}")
    blocks_to_converge: list[int] = []
    with World(SEED, NODES, weather=Weather(loss=0.1, duplicates=0.05), skew_s=60) as world:
        while world.height < BLOCKS:
            world.run_blocks(CALM_BLOCKS)
            part(world, PARTITIONS[len(blocks_to_converge) % len(PARTITIONS)])
            world.heal()
            blocks_to_converge.append(world.blocks_to_converge())
            say(f"height {world.height}: converged within {blocks_to_converge[-1]} blocks; {world.summary()}")
        assert max(blocks_to_converge) <= MOST_BLOCKS_TO_CONVERGE
        assert_sound(world)
