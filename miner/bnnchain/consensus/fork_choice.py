"""Which of two validated chains counts: the heavier one (the paper's longest chain, section 4.6, generalised)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnnchain.consensus.state import ChainState


def is_better(candidate: ChainState, current: ChainState) -> bool:
    """Answer whether ``candidate`` replaces ``current``; of equal weights the first seen stays."""
    return candidate.weight > current.weight
