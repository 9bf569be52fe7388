"""The founder that trains with Larq: TensorFlow trains in another process, the integer models are counted in this."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import MAX_WIRE_BYTES, wire_size_bytes
from bnnchain.mining.founders import FoundedModel, FoundProgress
from bnnchain.mining.genesis import random_model
from bnnchain.mining.larq.messages import Request
from bnnchain.mining.larq.process import TrainingProcess
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    from bnnchain.mining.founders import ReportFound, ShouldStop
    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture

PACKAGES = ("tensorflow", "tf_keras", "larq")
FIRST_UNSUPPORTED_PYTHON = (3, 13)
POLL_S = 0.2
"""How often ``should_stop`` is asked."""
SEED_LIMIT = 1 << 64


class LarqFounder:
    """Trains founding models with Larq, for every architecture that a block could carry."""

    name = "larq"

    def __init__(self, threads: int = 2) -> None:
        """threads: of TensorFlow.  Raises :class:`Unavailable` where the extra ``train`` is not installed."""
        validate_installed()
        self._threads = threads

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
        """Return the best model seen in training; see :class:`~bnnchain.mining.founders.Founder`.

        Stopped before the first count, it returns an untrained model.  Raises also :class:`Fault` where the training
        process crashes.
        """
        samples.validate_fits(architecture)
        size = len(samples)
        if size == 0 or max_epochs < 1 or (target_correct is not None and target_correct > size):
            raise Invalid("bad-training", pool_size=size, max_epochs=max_epochs, target_correct=target_correct)
        if wire_size_bytes(architecture, has_biases=False) > MAX_WIRE_BYTES:
            raise Invalid("bad-architecture", reason="no block could carry it", limit_bytes=MAX_WIRE_BYTES)
        started, epochs = time.monotonic(), 0.0
        best = random_model(architecture, seed.to_bytes(32, "little"))
        best_correct = count_correct(evaluator, best, size)
        request = Request(architecture, samples, seed % SEED_LIMIT, max_epochs, self._threads)
        with TrainingProcess(request) as process:
            for checkpoint in process.checkpoints(POLL_S):
                if checkpoint is not None:
                    correct = count_correct(evaluator, checkpoint.model, size)
                    if correct > best_correct:
                        best, best_correct = checkpoint.model, correct
                    epochs, seconds = checkpoint.step / checkpoint.steps_per_epoch, time.monotonic() - started
                    if on_progress is not None:
                        loss = checkpoint.loss
                        on_progress(FoundProgress(epochs, max_epochs, loss, correct, best_correct, size, seconds))
                    if target_correct is not None and best_correct >= target_correct:
                        break
                if should_stop is not None:
                    # The answer may take its time on purpose: a miner keeps learning to a share of its power.
                    with process.resting():
                        is_stopped = should_stop()
                    if is_stopped:
                        break
        return FoundedModel(best, best_correct, size, epochs, time.monotonic() - started)


def is_installed() -> bool:
    """Answer whether the packages of the extra ``train`` are here; imports none of them."""
    return all(find_spec(package) is not None for package in PACKAGES)


def validate_installed() -> None:
    """Raise :class:`Unavailable`, naming the extra, where its packages are not here."""
    if not is_installed():
        old = "" if sys.version_info < FIRST_UNSUPPORTED_PYTHON else " on Python 3.12 or older; TensorFlow needs it"
        raise Unavailable(f"larq is not installed: pip install 'bnnchain[train]'{old}")
