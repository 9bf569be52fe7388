"""What every test gets: conserved money, no deadline on a busy machine, nothing that the builders opened left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import close_opened, money
from hypothesis import settings

from bnnchain.consensus import transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.consensus.state import ChainState

# A failure prints the blob that replays it; the shared machine, not the code, decides how long an example takes.
settings.register_profile("bnnchain", deadline=None, print_blob=True)
settings.load_profile("bnnchain")


@pytest.fixture(autouse=True, scope="session")
def _money_is_conserved() -> Iterator[None]:
    """After every block that any test judges or replays, accounts, rewards and pots together are the supply."""
    apply = transition.apply

    def conserving(state: ChainState, checked: transition.CheckedBlock) -> ChainState:
        after = apply(state, checked)
        assert money(after) == after.supply
        return after

    transition.apply = conserving
    yield
    transition.apply = apply


@pytest.fixture(autouse=True)
def _stores_are_closed() -> Iterator[None]:
    yield
    close_opened()
