"""Opens a board by its backend name; what is optional is imported only here, when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain_fpga.evaluator import Accelerator, make_factory
from bnnchain_kernels.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_fpga.transport import Transport
    from bnnchain_kernels.evaluator import EvaluatorFactory


def open_transport(backend: str) -> Transport:
    """Return the board of ``fpga`` (a PYNQ-Z2 with the overlay installed) or ``fpga-sim`` (the simulated RTL).

    Raises ``Unavailable`` where the extra, the board or the checkout is missing, ``Fault`` where it does not work.
    """
    if backend == "fpga":
        from bnnchain_fpga.pynq_board import PynqBoard

        return PynqBoard()
    if backend == "fpga-sim":
        from bnnchain_fpga.simulated_board import SimulatedBoard

        return SimulatedBoard()
    raise Unavailable(f"no overlay backend is called {backend!r}: fpga or fpga-sim")


def open_accelerator(backend: str) -> Accelerator:
    """Return the identified board, its golden vectors checked."""
    return Accelerator(open_transport(backend))


def accelerated_factory(backend: str) -> Callable[[], EvaluatorFactory]:
    """Return what :func:`bnnchain_fpga.fallback.with_fallback` opens."""
    return lambda: make_factory(open_accelerator(backend))
