from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnnchain_fpga.simulated_board import SimulatedBoard
from bnnchain_fpga.simulator import build_simulator
from bnnchain_kernels.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def simulator() -> Path:
    try:
        return build_simulator()
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
def board(simulator: Path) -> Iterator[SimulatedBoard]:
    board = SimulatedBoard(simulator)
    yield board
    board.close()
