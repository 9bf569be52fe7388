"""Kernel backends by name: the CPU's, and the overlay with the CPU behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import EvaluatorFactory

OVERLAYS = ("fpga", "fpga-sim")


def evaluator_factory(backend: str) -> EvaluatorFactory:
    """Return the factory of a backend, or of the best CPU backend for ``auto``.

    The overlay is checked against golden vectors first.  Where it is missing or wrong there is one warning and the CPU
    counts instead: an accelerator never decides a block's validity.  Raises :class:`Unavailable` where a CPU backend
    asked for by name cannot run here.
    """
    if backend not in OVERLAYS:
        return select(backend)
    from bnnchain_fpga.boards import accelerated_factory
    from bnnchain_fpga.fallback import with_fallback

    return with_fallback(accelerated_factory(backend), select("auto"))
