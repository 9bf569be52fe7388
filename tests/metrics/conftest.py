"""What the tests of the metrics share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from net.running import Nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Makes nodes; all are stopped and closed after the test."""
    made = Nodes(tmp_path)
    yield made
    await made.close()
