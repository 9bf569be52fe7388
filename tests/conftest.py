"""What every test gets: nothing that it opened through the builders stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import close_opened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _stores_are_closed() -> Iterator[None]:
    yield
    close_opened()
