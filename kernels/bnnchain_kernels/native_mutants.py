"""Mutants of one base model in the C kernel (``kernels/native/mutants.h``): no Python and no model per mutant."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain_kernels.evaluator import BLOCK_IMAGES
from bnnchain_kernels.mutants import Mutants, RaceRules, Races, validate_mutants
from bnnchain_kernels.native import ffi, pointer_to
from bnnchain_kernels.slicing import BLOCK_WORDS, aligned_words, padded
from bnnchain_kernels.threads import run_shares

if TYPE_CHECKING:
    from bnnchain_kernels.model import Int32Array, Model
    from bnnchain_kernels.mutants import Int64Array
    from bnnchain_kernels.native import NativeEvaluator
    from bnnchain_kernels.sliced_evaluator import PreparedModel


@dataclass(frozen=True, slots=True, eq=False)
class _Scratch:
    """One thread's copy of the base, which a mutant's changes are made in and undone."""

    network: Any
    fields: Any
    arrays: tuple[np.ndarray[Any, Any], ...]
    """What ``network`` and ``fields`` point to."""


class NativeMutants:
    """Evaluates mutants of ``base`` on an evaluator's first ``images`` samples; see ``mutants.MutantEvaluator``.

    Remembers the base's activations: about 70 KB for each 512 images with 4 K weights, 1 MB with a million.
    """

    def __init__(self, evaluator: NativeEvaluator, base: Model, images: int) -> None:
        if not 0 < images <= evaluator.image_count:
            raise ValueError(f"{images} images of {evaluator.image_count}")
        self._evaluator = evaluator
        self._base = base
        self._images = images
        self._blocks = -(-images // BLOCK_IMAGES)
        self._prepared = evaluator.prepare(base)
        self._local = threading.local()
        self.base_counts: Int32Array = np.zeros(self._blocks, np.int32)
        self._memory = self._remember(self._prepared)

    def race(self, mutants: Mutants, first_blocks: Int64Array, rules: RaceRules) -> Races:
        """Race every mutant; see :class:`~bnnchain_kernels.mutants.MutantEvaluator`."""
        validate_mutants(mutants, self._base.architecture)
        if first_blocks.dtype != np.int64 or first_blocks.shape != (len(mutants),):
            raise ValueError("mutants: first blocks")
        if len(mutants) and not 0 <= int(first_blocks.min()) <= int(first_blocks.max()) < self._blocks:
            raise ValueError("mutants: first block outside the images")
        first_blocks = np.ascontiguousarray(first_blocks)
        races = Races(np.zeros(len(mutants), np.int64), np.zeros((len(mutants), self._blocks), np.int32))
        batch, race = _batch(mutants), ffi.new("bnn_race *")
        race.images, race.blocks, race.floor = self._images, self._blocks, rules.floor
        race.sigmas, race.prior_variance, race.prior_images = rules.sigmas, rules.prior_variance, rules.prior_images
        race.first_blocks = pointer_to("int64_t[]", first_blocks)
        race.counts = pointer_to("int32_t[]", races.counts)
        race.seen = pointer_to("int64_t[]", races.seen)

        def race_share(first: int, last: int) -> None:
            scratch = self._scratch()
            self._evaluator.library.bnn_race_mutants(
                self._evaluator.isa_number,
                scratch.network,
                self._memory.fields,
                batch,
                race,
                scratch.fields,
                first,
                last,
            )

        run_shares(len(mutants), self._evaluator.threads, race_share)
        return races

    def logits(self, mutants: Mutants) -> Int32Array:
        """Return every mutant's logits; see :class:`~bnnchain_kernels.mutants.MutantEvaluator`."""
        validate_mutants(mutants, self._base.architecture)
        logits: Int32Array = np.zeros((len(mutants), self._images, self._base.architecture.classes), np.int32)
        batch = _batch(mutants)

        def write_share(first: int, last: int) -> None:
            scratch = self._scratch()
            self._evaluator.library.bnn_write_mutant_logits(
                self._evaluator.isa_number,
                scratch.network,
                self._memory.fields,
                batch,
                scratch.fields,
                first,
                last,
                self._images,
                pointer_to("int32_t[]", logits[first:last]),
            )

        run_shares(len(mutants), self._evaluator.threads, write_share)
        return logits

    def _remember(self, prepared: PreparedModel) -> _Scratch:
        """Return the base's remembered activations, filled; they are only read afterwards."""
        lanes = self._evaluator.lanes
        slices = self._blocks * (BLOCK_WORDS // lanes)
        geometry = self._base.architecture.geometry
        sizes = [padded(place.out_height * place.out_width * place.out_channels) * lanes for place in geometry[:-1]]
        offsets = np.cumsum([0, *sizes], dtype=np.int64)
        activations = aligned_words(slices * int(offsets[-1]))
        right = aligned_words(slices * lanes)
        thresholds = _flat_thresholds(self._base)
        memory = ffi.new("bnn_base *")
        memory.activations = pointer_to("uint64_t[]", activations)
        memory.offsets = pointer_to("int64_t[]", offsets)
        memory.activation_words = int(offsets[-1])
        memory.right = pointer_to("uint64_t[]", right)
        memory.counts = pointer_to("int32_t[]", self.base_counts)
        memory.thresholds = pointer_to("int32_t[]", thresholds)

        def fill_share(first: int, last: int) -> None:
            self._evaluator.library.bnn_fill_base(
                self._evaluator.isa_number,
                prepared.handle,
                memory,
                pointer_to("uint64_t[]", self._evaluator.workspace(prepared)),
                first,
                last - first,
            )

        run_shares(self._blocks, self._evaluator.threads, fill_share)
        return _Scratch(prepared.handle, memory, (activations, offsets, right, thresholds))

    def _scratch(self) -> _Scratch:
        scratch: _Scratch | None = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = self._copy_base()
        # The workspace is the thread's, shared with its other evaluations, and may have grown meanwhile.
        scratch.fields.work = pointer_to("uint64_t[]", self._evaluator.workspace(self._prepared))
        return scratch

    def _copy_base(self) -> _Scratch:
        neurons = sum(place.out_channels for place in self._base.architecture.geometry)
        codes, inits = self._prepared.codes.copy(), self._prepared.inits.copy()
        thresholds = _flat_thresholds(self._base)
        dirty, is_dirty = np.zeros(neurons, np.int32), np.zeros(neurons, np.uint8)
        fields = ffi.new("bnn_scratch *")
        fields.codes = pointer_to("uint16_t[]", codes)
        fields.inits = pointer_to("uint64_t[]", inits)
        fields.thresholds = pointer_to("int32_t[]", thresholds)
        fields.dirty = pointer_to("int32_t[]", dirty)
        fields.is_dirty = pointer_to("uint8_t[]", is_dirty)
        network = ffi.new("bnn_network *", self._prepared.handle[0])  # type: ignore[index]
        network.codes, network.inits = fields.codes, fields.inits
        return _Scratch(network, fields, (codes, inits, thresholds, dirty, is_dirty))


def _flat_thresholds(model: Model) -> Int32Array:
    return np.concatenate([np.zeros(0, np.int32), *model.thresholds])


def _batch(mutants: Mutants) -> Any:  # noqa: ANN401  (a cffi struct)
    """Return the C view of a batch; the caller keeps the batch alive."""
    batch = ffi.new("bnn_mutants *")
    batch.flip_starts = pointer_to("int64_t[]", mutants.flip_starts)
    batch.flips = pointer_to("int64_t[]", mutants.flips)
    batch.step_starts = pointer_to("int64_t[]", mutants.step_starts)
    batch.steps = pointer_to("int64_t[]", mutants.steps)
    return batch
