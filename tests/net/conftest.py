"""What the tests of the net room share."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from net.running import Nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Makes nodes; all are stopped and closed after the test, and nothing may be left over in the event loop."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    made = Nodes(tmp_path)
    yield made
    await made.close()
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints
