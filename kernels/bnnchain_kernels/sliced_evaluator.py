"""What the compiled bit-sliced evaluators share: checks, prepared models, workspaces, threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import BLOCK_IMAGES, validate_range
from bnnchain_kernels.slicing import (
    COUNTER_BITS,
    aligned_words,
    counter_bits,
    padded,
    plan_architecture,
    slice_images,
    slice_labels,
)
from bnnchain_kernels.threads import default_threads, run_shares

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Int32Array, Model, UInt64Array
    from bnnchain_kernels.slicing import Int64Array, Plan, UInt16Array

PREPARED_MODELS: Final = 8
"""How many prepared models an evaluator remembers, so that racing a candidate block by block prepares it once."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedModel:
    """A model in a kernel's form.

    layers: the plan with the last layer's counter bits settled; parts: first words of the workspace's parts;
    base: added to twice the last layer's count (with its odd bit) to give a logit; handle: the kernel's own view.
    """

    model: Model
    plan: Plan
    layers: Int64Array
    parts: Int64Array
    codes: UInt16Array
    inits: UInt64Array
    base: int
    handle: object = None


class SlicedEvaluator(ABC):
    """Evaluates on images that are bit-sliced once; see :class:`~bnnchain_kernels.evaluator.Evaluator`.

    Subclasses run one compiled kernel; ``lanes`` is the number of 64-bit words in its vectors.
    """

    backend: str

    def __init__(self, samples: Samples, lanes: int, threads: int | None = None) -> None:
        self._samples = samples
        self.lanes = lanes
        self.threads = default_threads() if threads is None else threads
        self._input_vectors = padded(samples.height * samples.width * samples.planes)
        self._images = slice_images(samples, lanes)
        self._labels = slice_labels(samples, lanes)
        self._prepared: OrderedDict[int, PreparedModel] = OrderedDict()
        self._lock = threading.Lock()
        self._local = threading.local()

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return the exact count per 512-image block; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=True)
        prepared = self.prepare(model)
        first_block = start // BLOCK_IMAGES
        counts: Int32Array = np.empty(-(-(stop - start) // BLOCK_IMAGES), np.int32)

        def count_share(first: int, last: int) -> None:
            self._count(prepared, self.workspace(prepared), first_block + first, counts[first:last])

        run_shares(len(counts), self.threads, count_share)
        return counts

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[stop-start, classes]``; see :class:`~bnnchain_kernels.evaluator.Evaluator`."""
        validate_range(self._samples, start, stop, blocks=False)
        prepared = self.prepare(model)
        logits: Int32Array = np.empty((stop - start, self._samples.classes), np.int32)
        first_block = start // BLOCK_IMAGES

        def write_share(first: int, last: int) -> None:
            low = max((first_block + first) * BLOCK_IMAGES, start)
            high = min((first_block + last) * BLOCK_IMAGES, stop)
            self._write_logits(prepared, self.workspace(prepared), low, logits[low - start : high - start])

        if stop > start:
            run_shares(-(-stop // BLOCK_IMAGES) - first_block, self.threads, write_share)
        return logits

    @property
    def image_count(self) -> int:
        return len(self._samples)

    def prepare(self, model: Model) -> PreparedModel:
        """Return the model's prepared form, remembered by identity: models are immutable."""
        with self._lock:
            prepared = self._prepared.get(id(model))
            if prepared is not None:
                self._prepared.move_to_end(id(model))
                return prepared
        prepared = self._prepare_anew(model)
        with self._lock:
            self._prepared[id(model)] = prepared
            if len(self._prepared) > PREPARED_MODELS:
                self._prepared.popitem(last=False)
        return prepared

    def _prepare_anew(self, model: Model) -> PreparedModel:
        self._samples.validate_fits(model.architecture)
        plan = plan_architecture(model.architecture)
        layers = plan.layers.copy()
        lowest = int(model.biases.min())
        offsets = model.biases.astype(np.int64) - lowest
        fan_in = model.architecture.geometry[-1].fan_in
        layers[-1, COUNTER_BITS] = counter_bits(fan_in + int(offsets.max() >> 1))
        codes: UInt16Array = np.empty(plan.code_count, np.uint16)
        inits: UInt64Array = np.zeros(plan.init_count, np.uint64)
        for index, rows in enumerate(model.weights):
            self._write_codes(layers[index], np.ascontiguousarray(rows), codes)
        for index, limits in enumerate(model.thresholds):
            starts = (1 << layers[index, COUNTER_BITS]) - limits.astype(np.int64)
            self._write_starts(layers[index], starts, inits)
        # A logit is 2P - K + bias: the counter starts at half the bias, the odd bit waits beside it.
        self._write_starts(layers[-1], (offsets >> 1) + ((offsets & 1) << layers[-1, COUNTER_BITS]), inits)
        parts = np.array(plan.part_vectors[:-1], np.int64) * self.lanes
        return self._bind(PreparedModel(model, plan, layers, parts, codes, inits, lowest - fan_in))

    def _bind(self, prepared: PreparedModel) -> PreparedModel:
        """Return the prepared model with the kernel's own view of it, where a kernel wants one."""
        return prepared

    def workspace(self, prepared: PreparedModel) -> UInt64Array:
        """Return this thread's scratch memory, large enough for the model; it is kept for the next call."""
        words = prepared.plan.part_vectors[-1] * self.lanes
        work: UInt64Array | None = getattr(self._local, "work", None)
        if work is None or len(work) < words:
            try:
                work = aligned_words(words)
            except MemoryError as error:
                raise Fault(f"no memory for a model's activations ({words * 8} bytes)") from error
            self._local.work = work
        return work

    @abstractmethod
    def _write_codes(self, layer: Int64Array, rows: UInt64Array, codes: UInt16Array) -> None:
        """Fill a layer's table positions from its packed weight rows."""

    @abstractmethod
    def _write_starts(self, layer: Int64Array, starts: Int64Array, inits: UInt64Array) -> None:
        """Fill a layer's start values, spread to whole words, from ``starts``."""

    @abstractmethod
    def _count(self, prepared: PreparedModel, work: UInt64Array, first_block: int, counts: Int32Array) -> None:
        """Fill ``counts`` with the right labels of the blocks from ``first_block`` on."""

    @abstractmethod
    def _write_logits(self, prepared: PreparedModel, work: UInt64Array, start: int, logits: Int32Array) -> None:
        """Fill ``logits`` for the images from ``start`` on."""
