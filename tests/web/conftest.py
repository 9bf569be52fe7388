"""A small chain behind the page, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import Builder, open_chain, transfer
from web.page import Page, make_page

from bnnchain.consensus.types import BlockKind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """Founders, three generations, an idle block and a transfer."""
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    builder.extend(5)
    builder.extend(kind=BlockKind.IDLE)
    builder.extend(transactions=(transfer(),))
    return make_page(chain)
