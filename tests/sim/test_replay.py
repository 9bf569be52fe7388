"""One seed, one story: on every run, in every process, with and without the memo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim.network import Weather
from sim.scale import SEED
from sim.world import World

TESTS = Path(__file__).resolve().parents[1]
STORY = """
from sim.test_replay import tell
print(tell({seed}))
"""


def tell(seed: int, *, is_memoised: bool = True) -> str:
    """Return the tip of a short, eventful world."""
    weather = Weather(loss=0.1, duplicates=0.05)
    with World(seed, 5, weather=weather, skew_s=60, is_memoised=is_memoised) as world:
        world.run_blocks(6)
        world.partition(0.4)
        world.run_blocks(5)
        world.heal()
        world.blocks_to_converge()
        return world.nodes[0].head.head.hex()


def test_the_same_seed_gives_the_same_tip() -> None:
    assert tell(SEED) == tell(SEED)


def test_another_seed_gives_another_tip() -> None:
    assert tell(SEED) != tell(SEED + 1)


def test_the_memo_hides_no_difference() -> None:
    assert tell(SEED, is_memoised=False) == tell(SEED)


@pytest.mark.slow
def test_another_process_gives_the_same_tip() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(TESTS)}
    told = subprocess.run(
        [sys.executable, "-c", STORY.format(seed=SEED)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert told.stdout.split()[-1] == tell(SEED)
