"""Evaluates on the overlay, and on the CPU whenever the overlay cannot: an accelerator never decides validity.

Every answer, from wherever, is the exact one, so callers need not know.  A model that does not fit runs on the CPU
without a word; the first fault is logged as one warning and moves everything to the CPU for good.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from bnnchain_fpga.compile import DoesNotFit
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_kernels.evaluator import Evaluator, EvaluatorFactory, Samples
    from bnnchain_kernels.model import Int32Array, Model

logger = logging.getLogger(__name__)


class AcceleratorState:
    """Whether the accelerator is still trusted; shared by every evaluator on it, so that one warning is enough."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_trusted = True

    @property
    def is_trusted(self) -> bool:
        """Whether no fault has happened yet."""
        return self._is_trusted

    def distrust(self, error: Exception) -> None:
        """Give the accelerator up; the first call logs why."""
        with self._lock:
            was_trusted, self._is_trusted = self._is_trusted, False
        if was_trusted:
            logger.warning("accelerator given up, continuing on the CPU: %s", error)


class FallbackEvaluator:
    """An evaluator that asks the accelerator first; see the module."""

    def __init__(
        self,
        accelerated: EvaluatorFactory,
        cpu: EvaluatorFactory,
        samples: Samples,
        state: AcceleratorState,
    ) -> None:
        self._cpu_factory = cpu
        self._samples = samples
        self._state = state
        self._lock = threading.Lock()
        self._cpu: Evaluator | None = None
        self._accelerated: Evaluator | None = None
        if state.is_trusted:
            try:
                self._accelerated = accelerated(samples)
            except (Fault, Unavailable) as error:
                state.distrust(error)
        first = self._accelerated or self._fall_back()
        self.backend = first.backend
        """The backend that is asked first; the CPU's from the first fault on."""

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return the exact count per 512-image block; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        return self._ask(lambda evaluator: evaluator.correct(model, start, stop))

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[stop-start, classes]``; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        return self._ask(lambda evaluator: evaluator.logits(model, start, stop))

    def _ask(self, question: Callable[[Evaluator], Int32Array]) -> Int32Array:
        if self._accelerated is not None and self._state.is_trusted:
            try:
                return question(self._accelerated)
            except DoesNotFit as reason:
                logger.debug("%s", reason)
            except (Fault, Unavailable) as error:
                self._state.distrust(error)
        cpu = self._fall_back()
        if not self._state.is_trusted:
            self.backend = cpu.backend
        return question(cpu)

    def _fall_back(self) -> Evaluator:
        with self._lock:  # packing the images twice would only cost memory and time, but costs both
            if self._cpu is None:
                self._cpu = self._cpu_factory(self._samples)
            return self._cpu


def with_fallback(open_accelerated: Callable[[], EvaluatorFactory], cpu: EvaluatorFactory) -> EvaluatorFactory:
    """Return a factory whose evaluators use the accelerator while it can be trusted, and ``cpu`` otherwise.

    ``open_accelerated`` finds the board and checks it, once; where it raises ``Unavailable`` or ``Fault`` (no board,
    no extra, wrong golden vectors) there is one warning and every evaluator is a CPU one.
    """
    state = AcceleratorState()
    try:
        accelerated = open_accelerated()
    except (Fault, Unavailable) as error:
        state.distrust(error)
        return cpu

    def build(samples: Samples) -> FallbackEvaluator:
        return FallbackEvaluator(accelerated, cpu, samples, state)

    return build
