"""The compiled backends that run on this machine, the C kernel once per instruction set, by name.

``BNNCHAIN_ISA=name`` restricts the C kernel to one instruction set, whose absence is then an error, not a skip.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import EvaluatorFactory


def c_isas() -> list[str]:
    """Return the C kernel's instruction sets to test, none where it is not built."""
    from bnnchain_kernels.native import ISA_VARIABLE, choose_isa, instruction_sets, load_library

    try:
        load_library()
    except Unavailable:
        if os.environ.get(ISA_VARIABLE):
            raise
        return []
    return [choose_isa()] if os.environ.get(ISA_VARIABLE) else list(instruction_sets())


def c_kernels() -> dict[str, EvaluatorFactory]:
    """Return the C kernel's factories by instruction set."""
    from bnnchain_kernels.native import NativeEvaluator

    return {f"c {name}": partial(NativeEvaluator, isa=name) for name in C_ISAS}


def numba_kernel() -> dict[str, EvaluatorFactory]:
    """Return Numba's factory, or nothing where Numba does not run."""
    try:
        return {"numba": select("numba")}
    except Unavailable:
        return {}


C_ISAS = c_isas()
BACKENDS: dict[str, EvaluatorFactory] = c_kernels() | numba_kernel()
