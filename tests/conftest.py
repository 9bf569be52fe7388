"""What every test gets: no deadline on a busy machine, and nothing that the builders opened stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import close_opened
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A failure prints the blob that replays it; the shared machine, not the code, decides how long an example takes.
settings.register_profile("bnnchain", deadline=None, print_blob=True)
settings.load_profile("bnnchain")


@pytest.fixture(autouse=True)
def _stores_are_closed() -> Iterator[None]:
    yield
    close_opened()
