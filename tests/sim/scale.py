"""How much is simulated: little in `make test`, all of it in `make test-sim`; SIM_SEED replays one failure."""

from __future__ import annotations

import os
import sys

SEED = int(os.environ.get("SIM_SEED", "0"))
"""The first seed."""
SEED_COUNT = int(os.environ.get("SIM_SEEDS", "1"))
BLOCKS = int(os.environ.get("SIM_BLOCKS", "40"))
"""Blocks of a wide run; long measurements take ten times as many."""
LOG_LEVEL = os.environ.get("SIM_LOG", "ERROR")
"""INFO shows what the nodes of a failed run had to say to each other."""
SEEDS = range(SEED, SEED + SEED_COUNT)


def replay(seed: int, test: str) -> str:
    """Return the command that runs one seed of a test again."""
    return f"replay: make test-sim SIM_SEED={seed} SIM_SEEDS=1 SIM_BLOCKS={BLOCKS} SIM_TESTS=tests/sim/{test}"


def say(text: str) -> None:
    """Print a line, which pytest shows where a test fails, and always under ``-s``."""
    sys.stdout.write(text + "\n")
