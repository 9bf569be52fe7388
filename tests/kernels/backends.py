"""The backends under test that can run on this machine, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import EvaluatorFactory


COMPILED = ("numba",)


def runs(name: str) -> bool:
    """Return whether a backend runs on this machine and agrees with the golden vectors."""
    try:
        select(name)
    except Unavailable:
        return False
    return True


BACKENDS: dict[str, EvaluatorFactory] = {name: select(name) for name in COMPILED if runs(name)}
