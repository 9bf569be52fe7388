"""The bit-sliced evaluator compiled by Numba for this machine's vectors; equals ``reference.py`` bit for bit.

Import it only through ``select.py``: Numba takes a second to load and aborts the process on 32-bit ARM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels import sliced_codes, sliced_layers
from bnnchain_kernels.sliced_evaluator import PreparedModel, SlicedEvaluator
from bnnchain_kernels.vector import LANES

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Int32Array, UInt64Array
    from bnnchain_kernels.slicing import Int64Array, UInt16Array


class NumbaEvaluator(SlicedEvaluator):
    """Evaluates through ``sliced_layers.py``; the first call in a process loads or compiles it."""

    backend = "numba"

    def __init__(self, samples: Samples, threads: int | None = None) -> None:
        super().__init__(samples, LANES, threads)

    def _write_codes(self, layer: Int64Array, rows: UInt64Array, codes: UInt16Array) -> None:
        sliced_codes.write_codes(layer, rows.view(np.int64), codes)

    def _write_starts(self, layer: Int64Array, starts: Int64Array, inits: UInt64Array) -> None:
        sliced_codes.write_starts(layer, starts, inits)

    def _count(self, prepared: PreparedModel, work: UInt64Array, first_block: int, counts: Int32Array) -> None:
        sliced_layers.count_blocks(
            prepared.layers,
            self._images,
            self._input_vectors,
            self._labels,
            work,
            prepared.parts,
            prepared.codes,
            prepared.inits,
            first_block,
            counts,
        )

    def _write_logits(self, prepared: PreparedModel, work: UInt64Array, start: int, logits: Int32Array) -> None:
        sliced_layers.write_logits(
            prepared.layers,
            self._images,
            self._input_vectors,
            work,
            prepared.parts,
            prepared.codes,
            prepared.inits,
            prepared.base,
            start,
            logits,
        )
