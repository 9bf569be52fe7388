/* The C kernel's interface; bnnchain_kernels/native.py reads the same declarations.
 *
 * The layout of all arrays is that of bnnchain_kernels/slicing.py.  Callers check everything: sizes, ranges, that the
 * workspace is large enough.  Nothing here allocates, locks or keeps state, so any number of threads may call.
 */
#ifndef BNN_KERNEL_H
#define BNN_KERNEL_H

#include <stdint.h>

#if defined(_WIN32)
#define BNN_EXPORT __declspec(dllexport)
#else
#define BNN_EXPORT __attribute__((visibility("default")))
#endif

/* Columns of a layer's row in the plan (slicing.py). */
enum {
    DENSE,
    IN_WIDTH,
    IN_CHANNELS,
    ROWS,
    COLUMNS,
    OUT_WIDTH,
    NEURONS,
    POOL,
    COUNTER_BITS,
    CHUNK,
    CODE_START,
    INIT_START,
    IS_LAST,
    FAN_IN,
    PLAN_COLUMNS = 16
};

enum { TRIPLE = 3, TRIPLE_VECTORS = 16, REGISTER_BITS = 8, LABEL_BITS = 8, LABEL_PLANES = 9, BLOCK_WORDS = 8 };

/* One prepared model on one set of sliced images. */
typedef struct {
    const int64_t *layers; /* [layer_count][PLAN_COLUMNS] */
    int64_t layer_count;
    const int64_t *parts; /* first words of the workspace's second map, tables, counters, arg-max state */
    const uint16_t *codes;
    const uint64_t *inits;
    int64_t logit_base;
    const uint64_t *images;
    int64_t input_vectors;
    const uint64_t *labels;
} bnn_network;

/* Instruction sets, fastest first; all that this library was built with, whether this machine has them or not. */
BNN_EXPORT int bnn_isa_count(void);
BNN_EXPORT const char *bnn_isa_name(int isa);
BNN_EXPORT int bnn_isa_lanes(int isa);
BNN_EXPORT int bnn_isa_runs_here(int isa);

/* Fill a layer's table positions from its packed weight rows. */
BNN_EXPORT void bnn_write_codes(const int64_t *layer, int lanes, const uint64_t *rows, int64_t row_words,
                                uint16_t *codes);
/* Fill a layer's start values: word 0 is the carry-out, word 1 + i is bit i, all ones or all zeros. */
BNN_EXPORT void bnn_write_starts(const int64_t *layer, const int64_t *starts, uint64_t *inits);
/* Fill counts with the right labels of 512-image blocks first_block and following. */
BNN_EXPORT void bnn_count_blocks(int isa, const bnn_network *network, uint64_t *work, int64_t first_block,
                                 int64_t blocks, int32_t *counts);
/* Fill int32[images][classes] for the images from start on. */
BNN_EXPORT void bnn_write_logits(int isa, const bnn_network *network, uint64_t *work, int64_t start, int64_t images,
                                 int32_t *logits);

#endif
