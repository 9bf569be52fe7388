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

/* What is remembered of a base model, so that its mutants need only what their changes touch. */
typedef struct {
    uint64_t *activations;  /* [slices][activation_words]: every hidden layer's map, whole triples */
    const int64_t *offsets; /* [layers]: first word of a layer's map among a slice's */
    int64_t activation_words;
    uint64_t *right;          /* [slices][lanes]: which images the base labels right */
    int32_t *counts;          /* [blocks] */
    const int32_t *thresholds; /* of all hidden layers, one after the other */
} bnn_base;

/* Mutants of the base: mutant i flips the weights flips[flip_starts[i]..flip_starts[i+1]), flat canonical positions
 * over all layers, and moves the thresholds steps[step_starts[i]..) (flat position, change; stopping at 0 and K+1). */
typedef struct {
    const int64_t *flip_starts, *flips;
    const int64_t *step_starts, *steps;
} bnn_mutants;

/* A paired sequential test against the base on the same images; see mutants.h. */
typedef struct {
    int64_t images, blocks, floor;
    double sigmas, prior_variance, prior_images;
    const int64_t *first_blocks; /* per mutant */
    int32_t *counts;             /* [mutants][blocks], what was counted */
    int64_t *seen;               /* [mutants], blocks counted; all of them where the test never rejected */
} bnn_race;

/* One thread's memory: the network's codes and inits are this thread's own too, and are changed and changed back. */
typedef struct {
    uint64_t *work;
    uint16_t *codes;
    uint64_t *inits;
    int32_t *thresholds;  /* as in bnn_base */
    int32_t *dirty;       /* [all neurons] */
    uint8_t *is_dirty;    /* [all neurons], zeros */
} bnn_scratch;

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

/* Fill a base's memory for the blocks first_block and following. */
BNN_EXPORT void bnn_fill_base(int isa, const bnn_network *network, bnn_base *base, uint64_t *work, int64_t first_block,
                              int64_t blocks);
/* Race the mutants first to last - 1 against the base. */
BNN_EXPORT void bnn_race_mutants(int isa, const bnn_network *network, const bnn_base *base, const bnn_mutants *mutants,
                                 const bnn_race *race, bnn_scratch *scratch, int64_t first, int64_t last);
/* Fill int32[last - first][images][classes] with mutants' logits of the first images. */
BNN_EXPORT void bnn_write_mutant_logits(int isa, const bnn_network *network, const bnn_base *base,
                                        const bnn_mutants *mutants, bnn_scratch *scratch, int64_t first, int64_t last,
                                        int64_t images, int32_t *logits);
/* The roofline of one core (roof.c): every call of bnn_roof_run does bnn_roof_macs multiply-accumulates. */
BNN_EXPORT int bnn_roof_count(void);
BNN_EXPORT const char *bnn_roof_name(int index);
BNN_EXPORT int bnn_roof_runs_here(int index);
BNN_EXPORT int64_t bnn_roof_macs(int index);
BNN_EXPORT uint64_t bnn_roof_run(int index);
BNN_EXPORT void bnn_roof_fill(uint64_t seed);

#endif
