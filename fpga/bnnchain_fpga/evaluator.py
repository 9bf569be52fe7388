"""The overlay as an :class:`~bnnchain_kernels.evaluator.Evaluator`: backends ``fpga`` and ``fpga-sim``.

A model that does not fit raises :class:`~bnnchain_fpga.compile.DoesNotFit`, a failing board ``Fault``; neither says
anything about the model, and :mod:`bnnchain_fpga.fallback` turns both into a CPU evaluation.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_fpga.driver import MAX_RUN_IMAGES, Driver, RunResult
from bnnchain_fpga.golden import check_golden
from bnnchain_fpga.images import pack_images
from bnnchain_kernels.evaluator import BLOCK_IMAGES, validate_range

if TYPE_CHECKING:
    from bnnchain_fpga.compile import Plan, UInt32Array
    from bnnchain_fpga.registers import Operation
    from bnnchain_fpga.transport import Transport
    from bnnchain_kernels.evaluator import EvaluatorFactory, Samples
    from bnnchain_kernels.model import Int32Array, Model


class Accelerator:
    """One board, shared by every evaluator on it; the lock makes one operation at a time."""

    def __init__(self, transport: Transport) -> None:
        """Identify the overlay and run the golden vectors; raises ``Fault`` where either fails."""
        self.lock = threading.Lock()
        self.name = transport.name
        self.clock_hz = transport.clock_hz
        self.driver = Driver(transport)
        check_golden(self.driver)

    def close(self) -> None:
        """Release the board."""
        with self.lock:
            self.driver.close()


class OverlayEvaluator:
    """Evaluates models on one set of images; packs them once for each input layout."""

    def __init__(self, accelerator: Accelerator, samples: Samples) -> None:
        self.backend = accelerator.name
        self._accelerator = accelerator
        self._samples = samples
        self._packed: dict[Operation, UInt32Array] = {}

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return the exact count per 512-image block; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=True)
        right = np.zeros(-(-(stop - start) // BLOCK_IMAGES) * BLOCK_IMAGES, np.int32)
        for first, run in self._run(model, start, stop, want_logits=False):
            last = first + len(run.predictions)
            right[first - start : last - start] = run.predictions == self._samples.labels[first:last]
        counts: Int32Array = right.reshape(-1, BLOCK_IMAGES).sum(axis=1, dtype=np.int32)
        return counts

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[stop-start, classes]``; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=False)
        runs = self._run(model, start, stop, want_logits=True)
        rows = [run.logits for _, run in runs if run.logits is not None]
        if not rows:
            return np.zeros((0, model.architecture.classes), np.int32)
        return np.concatenate(rows)

    def _run(self, model: Model, start: int, stop: int, *, want_logits: bool) -> list[tuple[int, RunResult]]:
        """Return (index of its first image, result) of each run that start..stop takes."""
        self._samples.validate_fits(model.architecture)
        results = []
        with self._accelerator.lock:
            driver = self._accelerator.driver
            compiled = driver.compile(model)
            words = self._pack(compiled.plan)
            if start < stop:
                driver.load(model, compiled)
            for first in range(start, stop, MAX_RUN_IMAGES):
                last = min(first + MAX_RUN_IMAGES, stop)
                results.append((first, driver.run(words[first:last], want_logits=want_logits)))
        return results

    def _pack(self, plan: Plan) -> UInt32Array:
        layout = plan.layers[0].operation
        if layout not in self._packed:
            self._packed[layout] = pack_images(self._samples, plan, self._accelerator.driver.capabilities)
        return self._packed[layout]


def make_factory(accelerator: Accelerator) -> EvaluatorFactory:
    """Return the factory of evaluators on this board, for the kernels' selection."""

    def build(samples: Samples) -> OverlayEvaluator:
        return OverlayEvaluator(accelerator, samples)

    return build
