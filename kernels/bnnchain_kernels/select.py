"""The one place that chooses a backend: which exist, which run here, and which agree with the golden vectors.

Nothing is imported before it is asked for: Numba takes a second to load, and aborts the process on 32-bit ARM.
"""

from __future__ import annotations

import logging
import platform
import struct
from typing import TYPE_CHECKING, Final

from bnnchain_kernels.errors import BnnchainError, Unavailable
from bnnchain_kernels.golden import find_difference, self_check_cases
from bnnchain_kernels.mutants import PlainMutants
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnchain_kernels.evaluator import Evaluator, EvaluatorFactory, Samples
    from bnnchain_kernels.model import Model
    from bnnchain_kernels.mutants import MutantEvaluator

log = logging.getLogger(__name__)

BACKENDS: Final = ("auto", "fpga", "fpga-sim", "c", "numba", "reference")
AUTO_ORDER: Final = ("c", "numba", "reference")
"""Fastest first.  The overlay is never chosen unasked: it is configured by name."""
POINTER_BYTES_64_BIT: Final = 8

_verdicts: dict[EvaluatorFactory, str | None] = {}
"""Factories already checked in this process, and why one was refused."""


def select(backend: str = "auto", factories: Mapping[str, EvaluatorFactory] | None = None) -> EvaluatorFactory:
    """Return the factory of a backend that has just repeated the golden vectors on this machine.

    factories: further backends by name, such as the overlay's, handed in because kernels do not know them.

    ``auto`` takes the first of ``AUTO_ORDER`` that runs and agrees.  Raises :class:`Unavailable` with the reason where
    a backend asked for by name does not.
    """
    if backend != "auto":
        return _checked(backend, factories or {})
    for name in AUTO_ORDER:
        try:
            factory = _checked(name, factories or {})
        except Unavailable as reason:
            log.warning("%s; trying the next backend", reason)
            continue
        log.info("kernel backend: %s", name)
        return factory
    raise Unavailable("no kernel backend agrees with the golden vectors on this machine")


def mutants_of(evaluator: Evaluator, samples: Samples, base: Model, images: int) -> MutantEvaluator:
    """Return the fastest way to evaluate mutants of ``base`` on an evaluator's first ``images`` samples.

    samples: those that the evaluator was built from.
    """
    if evaluator.backend == "c":
        from bnnchain_kernels.native import NativeEvaluator
        from bnnchain_kernels.native_mutants import NativeMutants

        if isinstance(evaluator, NativeEvaluator):
            return NativeMutants(evaluator, base, images)
    return PlainMutants(evaluator, samples, base, images)


def _checked(name: str, factories: Mapping[str, EvaluatorFactory]) -> EvaluatorFactory:
    """Return a backend's factory after its self-check; raise :class:`Unavailable` with the reason if there is none."""
    factory = factories.get(name) or _load(name)
    if factory not in _verdicts:
        _verdicts[factory] = _find_fault(factory)
    fault = _verdicts[factory]
    if fault is not None:
        log.error("kernel backend %s refused: %s", name, fault)
        raise Unavailable(f"kernel backend {name} refused: {fault}")
    return factory


def _find_fault(factory: EvaluatorFactory) -> str | None:
    """Return what is wrong with a backend, or None; whatever it raises is its fault, not ours."""
    try:
        return find_difference(factory, self_check_cases())
    except BnnchainError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  (a broken driver or compiler may raise anything)
        return f"{type(error).__name__}: {error}"


def _load(name: str) -> EvaluatorFactory:
    if name == "reference":
        return ReferenceEvaluator
    if name == "numba":
        return _load_numba()
    if name == "c":
        return _load_native()
    if name in BACKENDS:
        raise Unavailable(f"kernel backend {name} needs the overlay's driver")
    raise Unavailable(f"no kernel backend is called {name!r}; there are {', '.join(BACKENDS)}")


def _load_native() -> EvaluatorFactory:
    try:
        from bnnchain_kernels.native import NativeEvaluator, choose_isa
    except ImportError as error:
        raise Unavailable(f"kernel backend c cannot be imported: {error}") from error
    log.info("instruction set of the C kernel: %s", choose_isa())
    return NativeEvaluator


def _load_numba() -> EvaluatorFactory:
    if struct.calcsize("P") < POINTER_BYTES_64_BIT or platform.machine() in {"armv6l", "armv7l", "armv8l"}:
        raise Unavailable("kernel backend numba does not run on 32-bit machines")
    try:
        from bnnchain_kernels.numba_sliced import NumbaEvaluator
    except ImportError as error:
        raise Unavailable(f"kernel backend numba cannot be imported: {error}") from error
    return NumbaEvaluator
