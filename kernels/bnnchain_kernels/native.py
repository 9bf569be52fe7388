"""The bit-sliced evaluator in C (``kernels/native``), loaded through cffi; equals ``reference.py`` bit for bit.

One library holds the kernel once per instruction set; the fastest that this machine has is taken, or the one that the
environment variable ``BNNCHAIN_ISA`` names.  Calls release the GIL.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Final

import cffi

from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.sliced_evaluator import PreparedModel, SlicedEvaluator

if TYPE_CHECKING:
    import numpy as np

    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Int32Array, UInt64Array
    from bnnchain_kernels.slicing import Int64Array, UInt16Array

LIBRARY_FILE: Final = "libbnn_kernel.so"
ISA_VARIABLE: Final = "BNNCHAIN_ISA"

# The declarations of kernels/native/bnn_kernel.h.
DECLARATIONS: Final = """
typedef struct {
    const int64_t *layers;
    int64_t layer_count;
    const int64_t *parts;
    const uint16_t *codes;
    const uint64_t *inits;
    int64_t logit_base;
    const uint64_t *images;
    int64_t input_vectors;
    const uint64_t *labels;
} bnn_network;
typedef struct {
    uint64_t *activations;
    const int64_t *offsets;
    int64_t activation_words;
    uint64_t *right;
    int32_t *counts;
    const int32_t *thresholds;
} bnn_base;
typedef struct {
    const int64_t *flip_starts, *flips;
    const int64_t *step_starts, *steps;
} bnn_mutants;
typedef struct {
    int64_t images, blocks, floor;
    double sigmas, prior_variance, prior_images;
    const int64_t *first_blocks;
    int32_t *counts;
    int64_t *seen;
} bnn_race;
typedef struct {
    uint64_t *work;
    uint16_t *codes;
    uint64_t *inits;
    int32_t *thresholds;
    int32_t *dirty;
    uint8_t *is_dirty;
} bnn_scratch;
int bnn_isa_count(void);
const char *bnn_isa_name(int isa);
int bnn_isa_lanes(int isa);
int bnn_isa_runs_here(int isa);
void bnn_write_codes(const int64_t *layer, int lanes, const uint64_t *rows, int64_t row_words,
                                uint16_t *codes);
void bnn_write_starts(const int64_t *layer, const int64_t *starts, uint64_t *inits);
void bnn_count_blocks(int isa, const bnn_network *network, uint64_t *work, int64_t first_block,
                                 int64_t blocks, int32_t *counts);
void bnn_write_logits(int isa, const bnn_network *network, uint64_t *work, int64_t start, int64_t images,
                                 int32_t *logits);
void bnn_fill_base(int isa, const bnn_network *network, bnn_base *base, uint64_t *work, int64_t first_block,
                              int64_t blocks);
void bnn_race_mutants(int isa, const bnn_network *network, const bnn_base *base, const bnn_mutants *mutants,
                                 const bnn_race *race, bnn_scratch *scratch, int64_t first, int64_t last);
void bnn_write_mutant_logits(int isa, const bnn_network *network, const bnn_base *base,
                                        const bnn_mutants *mutants, bnn_scratch *scratch, int64_t first, int64_t last,
                                        int64_t images, int32_t *logits);
int bnn_roof_count(void);
const char *bnn_roof_name(int index);
int bnn_roof_runs_here(int index);
int64_t bnn_roof_macs(int index);
uint64_t bnn_roof_run(int index);
void bnn_roof_fill(uint64_t seed);
"""

ffi: Any = cffi.FFI()
"""Typed loosely: what cffi returns has the types of the declarations above, which its stubs cannot know."""
ffi.cdef(DECLARATIONS)


@lru_cache(maxsize=1)
def load_library() -> Any:  # noqa: ANN401  (cffi libraries have no static type)
    """Return the loaded C library; raises :class:`Unavailable` where it was not built or does not load."""
    resource = files("bnnchain_kernels").joinpath(LIBRARY_FILE)
    if not resource.is_file():
        raise Unavailable("kernel backend c is not built (no C compiler was there at installation)")
    try:
        with as_file(resource) as path:
            return ffi.dlopen(str(path))
    except OSError as error:
        raise Unavailable(f"kernel backend c does not load: {error}") from error


def instruction_sets() -> dict[str, int]:
    """Return the instruction sets this machine can run, fastest first: name to the library's number."""
    library = load_library()
    return {
        ffi.string(library.bnn_isa_name(isa)).decode("ascii"): isa
        for isa in range(library.bnn_isa_count())
        if library.bnn_isa_runs_here(isa)
    }


def choose_isa(name: str | None = None) -> str:
    """Return the instruction set to use: ``name``, else what ``BNNCHAIN_ISA`` names, else the fastest.

    Raises :class:`Unavailable` where the named one is not in the library or not in this machine.
    """
    available = instruction_sets()
    wanted = name or os.environ.get(ISA_VARIABLE)
    if not wanted:
        return next(iter(available))
    if wanted not in available:
        raise Unavailable(f"kernel backend c has no instruction set {wanted!r} here; it has {', '.join(available)}")
    return wanted


class NativeEvaluator(SlicedEvaluator):
    """Evaluates through the C library; ``isa`` is the name of the instruction set in use."""

    backend = "c"

    def __init__(self, samples: Samples, threads: int | None = None, isa: str | None = None) -> None:
        self.isa = choose_isa(isa)
        self.isa_number = instruction_sets()[self.isa]
        self.library = load_library()
        super().__init__(samples, self.library.bnn_isa_lanes(self.isa_number), threads)

    def _write_codes(self, layer: Int64Array, rows: UInt64Array, codes: UInt16Array) -> None:
        self.library.bnn_write_codes(
            pointer_to("int64_t[]", layer),
            self.lanes,
            pointer_to("uint64_t[]", rows),
            rows.shape[1],
            pointer_to("uint16_t[]", codes),
        )

    def _write_starts(self, layer: Int64Array, starts: Int64Array, inits: UInt64Array) -> None:
        self.library.bnn_write_starts(
            pointer_to("int64_t[]", layer), pointer_to("int64_t[]", starts), pointer_to("uint64_t[]", inits)
        )

    def _bind(self, prepared: PreparedModel) -> PreparedModel:
        network = ffi.new("bnn_network *")
        network.layers = pointer_to("int64_t[]", prepared.layers)
        network.layer_count = len(prepared.layers)
        network.parts = pointer_to("int64_t[]", prepared.parts)
        network.codes = pointer_to("uint16_t[]", prepared.codes)
        network.inits = pointer_to("uint64_t[]", prepared.inits)
        network.logit_base = prepared.base
        network.images = pointer_to("uint64_t[]", self._images)
        network.input_vectors = self._input_vectors
        network.labels = pointer_to("uint64_t[]", self._labels)
        return replace(prepared, handle=network)

    def _count(self, prepared: PreparedModel, work: UInt64Array, first_block: int, counts: Int32Array) -> None:
        self.library.bnn_count_blocks(
            self.isa_number,
            prepared.handle,
            pointer_to("uint64_t[]", work),
            first_block,
            len(counts),
            pointer_to("int32_t[]", counts),
        )

    def _write_logits(self, prepared: PreparedModel, work: UInt64Array, start: int, logits: Int32Array) -> None:
        self.library.bnn_write_logits(
            self.isa_number,
            prepared.handle,
            pointer_to("uint64_t[]", work),
            start,
            len(logits),
            pointer_to("int32_t[]", logits),
        )


def pointer_to(kind: str, array: np.ndarray[Any, Any]) -> Any:  # noqa: ANN401
    """Return a C pointer to a contiguous array's data; the caller keeps the array alive."""
    return ffi.from_buffer(kind, array)
