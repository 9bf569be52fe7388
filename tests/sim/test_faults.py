"""Honest nodes on bad networks: partitions, losses, duplicates and wrong clocks never part them for long."""

from __future__ import annotations

import pytest
from builders import ALICE, BOB, COINS, transfer
from sim.network import Weather
from sim.scale import BLOCKS, SEEDS, replay, say
from sim.world import World, assert_sound

from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.signatures import public_key

NODES = 12
LOSSES = (0.0, 0.05, 0.1, 0.2)
PARTITIONS = (0.5, 0.1, None)
"""The share that is cut off; None: half of the nodes, again and again."""
FLAPS, FLAP_S = 6, 45.0
CALM_BLOCKS, PARTED_BLOCKS = 12, 12
MOST_BLOCKS_TO_CONVERGE = 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_all_honest_nodes_converge_after_every_heal(seed: int) -> None:
    say(replay(seed, "test_faults.py"))
    weather = Weather(loss=LOSSES[seed % len(LOSSES)], duplicates=0.05)
    blocks_to_converge, spent = [], 0
    with World(seed, NODES, weather=weather, skew_s=60) as world:
        while world.height < BLOCKS:
            world.run_blocks(CALM_BLOCKS)
            spent += _spend(world, spent)
            part(world, PARTITIONS[(seed + len(blocks_to_converge)) % len(PARTITIONS)])
            world.heal()
            blocks_to_converge.append(world.blocks_to_converge())
        world.run_until(lambda: not any(len(node.mempool) for node in world.nodes))
        world.blocks_to_converge()
        say(f"heights {world.height}, blocks to converge {blocks_to_converge}, {world.summary()}")
        assert max(blocks_to_converge) <= MOST_BLOCKS_TO_CONVERGE
        assert_sound(world)
        ledger = world.nodes[0].head.ledger
        assert ledger.account(public_key(ALICE)).nonce == spent
        assert ledger.account(public_key(ALICE)).balance == COINS - 101 * spent
        assert ledger.account(public_key(BOB)).balance == COINS + 100 * spent


def part(world: World, share: float | None) -> None:
    """Cut off a share of the nodes for some blocks; None: half of them, again and again."""
    if share is not None:
        world.partition(share)
        world.run_blocks(PARTED_BLOCKS)
        return
    for _ in range(FLAPS):
        world.partition(0.5)
        world.run_s(FLAP_S)
        world.heal()
        world.run_s(FLAP_S)


def _spend(world: World, nonce: int) -> int:
    """Hand a transfer to some node just before the network parts; return 1, the transfers made."""
    node = world.draw.choice(world.nodes)
    raw = encode_transaction(transfer(ALICE, BOB, nonce=nonce))
    assert node.network is not None
    world.do(node.network.submit_transaction(raw))
    return 1
