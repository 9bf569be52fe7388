"""Founding models trained side by side: a lane a seed; the first in the order of lanes counts, the others wait."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from bnnchain.bnn.encoding import decode_model
from bnnchain.mining.founders import FoundedModel, FoundProgress
from bnnchain.mining.genesis import random_model
from bnnchain.mining.pool.tasks import TrainingOrder, train
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    from bnnchain.mining.founders import ReportFound, ShouldStop
    from bnnchain.mining.pool.workers import WorkerPool
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture

SHAPES_KEPT = 8
STOP_S = 5.0
"""Until trainings that were told to stop have handed over what they had."""


class PooledFounder:
    """A founder whose trainings run on the workers of a pool, as many at once as it has lanes.

    A family wants several founders: those that reach the target beside the first are what the next calls return.
    """

    def __init__(self, pool: WorkerPool, trainer: str) -> None:
        """trainer: ``larq`` or ``device``; every worker must have it, or results would depend on which of them ran."""
        self.name = trainer
        self._pool = pool
        self._spare: OrderedDict[tuple[Architecture, str], list[FoundedModel]] = OrderedDict()

    def found(
        self,
        architecture: Architecture,
        samples: Samples,
        evaluator: Evaluator,
        *,
        seed: int,
        target_correct: int | None = None,
        max_epochs: int,
        on_progress: ReportFound | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FoundedModel:
        """Return the first lane's model that reaches the target, else the best; see :class:`Founder`.

        seed: the first lane's; the others' are the next integers.  Raises also :class:`Fault` where a worker fails.
        """
        key = architecture, self._pool.key_of(samples)
        spare = self._spare.setdefault(key, [])
        while len(self._spare) > SHAPES_KEPT:
            self._spare.popitem(last=False)
        while spare:
            founded = spare.pop(0)
            if target_correct is not None and founded.correct >= target_correct:
                return founded
        started, stop = time.monotonic(), f"founding-{secrets.token_hex(16)}"
        orders = [
            TrainingOrder(self.name, architecture, seed + lane, target_correct, max_epochs)
            for lane in range(self._pool.lanes)
        ]
        futures = [self._pool.submit(train, self._pool.share_samples(samples), order, stop) for order in orders]
        results: list[FoundedModel] = []
        for future in futures:
            answer = self._pool.result(future, should_stop or _never)
            if answer is None:
                results += self._stopped(futures[len(results) :], stop)
                break
            results.append(_founded(answer))
            if on_progress is not None:
                best = max(each.correct for each in results)
                last, seconds = results[-1], time.monotonic() - started
                on_progress(FoundProgress(last.epochs, max_epochs, 0.0, last.correct, best, len(samples), seconds))
        reached = [each for each in results if target_correct is not None and each.correct >= target_correct]
        if reached:
            spare += reached[1:]
            return reached[0]
        if results:
            return max(results, key=lambda each: each.correct)  # of equals the first lane's
        untrained = random_model(architecture, seed.to_bytes(32, "little"))
        correct = count_correct(evaluator, untrained, len(samples))
        return FoundedModel(untrained, correct, len(samples), 0.0, time.monotonic() - started)

    def _stopped(self, futures: list[Any], stop: str) -> list[FoundedModel]:
        """Tell trainings to stop and return what they hand over soon."""
        self._pool.stop_event(stop).set()
        until, results = time.monotonic() + STOP_S, []
        for future in futures:
            answer = self._pool.result(future, lambda: time.monotonic() > until)
            if answer is not None:
                results.append(_founded(answer))
        return results


def _founded(answer: tuple[bytes, FoundedModel]) -> FoundedModel:
    model, founded = answer
    return FoundedModel(decode_model(model), founded.correct, founded.pool_size, founded.epochs, founded.seconds)


def _never() -> bool:
    return False
