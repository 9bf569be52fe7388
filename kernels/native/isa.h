/* What one instruction set offers to the selector. */
#ifndef BNN_ISA_H
#define BNN_ISA_H

#include <stddef.h>

#include "bnn_kernel.h"

typedef struct {
    const char *name;
    int lanes; /* 64-bit words in a vector */
    int (*runs_here)(void);
    void (*count_blocks)(const bnn_network *, uint64_t *work, int64_t first_block, int64_t blocks, int32_t *counts);
    void (*write_logits)(const bnn_network *, uint64_t *work, int64_t start, int64_t images, int32_t *logits);
    void (*fill_base)(const bnn_network *, bnn_base *, uint64_t *work, int64_t first_block, int64_t blocks);
    void (*race_mutants)(const bnn_network *, const bnn_base *, const bnn_mutants *, const bnn_race *, bnn_scratch *,
                         int64_t first, int64_t last);
    void (*write_mutant_logits)(const bnn_network *, const bnn_base *, const bnn_mutants *, bnn_scratch *,
                                int64_t first, int64_t last, int64_t images, int32_t *logits);
} bnn_isa;

/* Neurons of one layer, without repeats. */
typedef struct {
    const int32_t *neurons;
    ptrdiff_t count;
} bnn_subset;

#if defined(__x86_64__) || defined(__i386__)
#define BNN_X86 1
extern const bnn_isa bnn_avx512, bnn_avx2, bnn_sse2;
#endif
#if defined(__aarch64__) || defined(__arm__)
#define BNN_ARM 1
extern const bnn_isa bnn_neon;
#endif
extern const bnn_isa bnn_portable;

/* Words between the start values of two neurons, vectors between two counters. */
static inline int64_t bnn_stride(int64_t bits) { return (bits > REGISTER_BITS ? bits : REGISTER_BITS) + 1; }
static inline int64_t bnn_activations(const int64_t *layer) {
    if (layer[DENSE]) return layer[NEURONS];
    return (layer[ROWS] >> layer[POOL]) * (layer[COLUMNS] >> layer[POOL]) * layer[NEURONS];
}
static inline int64_t bnn_triples(int64_t inputs) { return (inputs + TRIPLE - 1) / TRIPLE; }

/* "Every function from here on may use these instructions", in gcc's and clang's words. */
#define BNN_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BNN_TARGET(features) BNN_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define BNN_TARGET_END _Pragma("clang attribute pop")
#else
#define BNN_TARGET(features) _Pragma("GCC push_options") BNN_PRAGMA(GCC target(features))
#define BNN_TARGET_END _Pragma("GCC pop_options")
#endif
#define BNN_INLINE static inline __attribute__((always_inline))

#endif
