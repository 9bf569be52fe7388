/* Replays cases written by write_replay.py on every instruction set of this machine that the file was sliced for.
 *
 *     replay FILE ISA
 *
 * The answers come from the reference on the host, so this shows under qemu that an ARM build gives the same.  It fails
 * where ISA, the one that must be tried, is not in this library or not in this machine.  Nothing is read from outside
 * but the test's own file, so a short read simply ends the test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/native/bnn_kernel.h"

static FILE *file;

static void end_early(void) {
    fprintf(stderr, "the replay file ends early, or there is no memory\n");
    exit(2);
}

static void *read_array(int64_t *bytes) {
    int64_t size;
    if (fread(&size, sizeof size, 1, file) != 1) end_early();
    char *data = aligned_alloc(64, (size_t)((size + 127) / 64 * 64));
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) end_early();
    if (bytes) *bytes = size;
    return data;
}

typedef struct {
    int64_t lanes, images, layer_count, classes, code_count, init_count, work_words, logit_base, input_vectors;
} sizes;

enum { MAX_LAYERS = 16 };

static int64_t run_case(int isa, const sizes *s, const int64_t *layers, const int64_t *parts, uint64_t *const rows[],
                        const int64_t row_words[], int64_t *const starts[], const uint64_t *images,
                        const uint64_t *labels, const int32_t *counts, const int32_t *logits) {
    uint16_t *codes = calloc((size_t)s->code_count, sizeof *codes);
    uint64_t *inits = calloc((size_t)s->init_count, sizeof *inits);
    uint64_t *work = aligned_alloc(64, (size_t)(s->work_words * 8 + 64) / 64 * 64);
    const int64_t blocks = (s->images + 511) / 512;
    int32_t *got_counts = calloc((size_t)blocks, sizeof *got_counts);
    int32_t *got_logits = calloc((size_t)(s->images * s->classes), sizeof *got_logits);
    for (int64_t i = 0; i < s->layer_count; i++) {
        bnn_write_codes(layers + i * PLAN_COLUMNS, (int)s->lanes, rows[i], row_words[i], codes);
        bnn_write_starts(layers + i * PLAN_COLUMNS, starts[i], inits);
    }
    const bnn_network network = {layers, s->layer_count, parts,  codes, inits, s->logit_base,
                                 images, s->input_vectors, labels};
    bnn_count_blocks(isa, &network, work, 0, blocks, got_counts);
    bnn_write_logits(isa, &network, work, 0, s->images, got_logits);
    int64_t differences = 0;
    for (int64_t i = 0; i < blocks; i++) differences += got_counts[i] != counts[i];
    for (int64_t i = 0; i < s->images * s->classes; i++) differences += got_logits[i] != logits[i];
    free(codes), free(inits), free(work), free(got_counts), free(got_logits);
    return differences;
}

int main(int argc, char **argv) {
    if (argc != 3 || !(file = fopen(argv[1], "rb"))) return fprintf(stderr, "usage: replay FILE ISA\n"), 2;
    int64_t cases[16] = {0}, differences[16] = {0}, *total = read_array(NULL);
    for (int64_t n = 0; n < *total; n++) {
        sizes *s = read_array(NULL);
        int64_t *layers = read_array(NULL), *parts = read_array(NULL), *starts[MAX_LAYERS], row_words[MAX_LAYERS];
        uint64_t *rows[MAX_LAYERS];
        for (int64_t i = 0; i < s->layer_count; i++) {
            int64_t bytes;
            rows[i] = read_array(&bytes), starts[i] = read_array(NULL);
            row_words[i] = bytes / 8 / layers[i * PLAN_COLUMNS + NEURONS];
        }
        uint64_t *images = read_array(NULL), *labels = read_array(NULL);
        int32_t *counts = read_array(NULL), *logits = read_array(NULL);
        for (int isa = 0; isa < bnn_isa_count(); isa++) {
            if (bnn_isa_lanes(isa) != s->lanes || !bnn_isa_runs_here(isa)) continue;
            cases[isa]++;
            differences[isa] += run_case(isa, s, layers, parts, rows, row_words, starts, images, labels, counts, logits);
        }
        for (int64_t i = 0; i < s->layer_count; i++) free(rows[i]), free(starts[i]);
        free(s), free(layers), free(parts), free(images), free(labels), free(counts), free(logits);
    }
    int failed = 1;
    for (int isa = 0; isa < bnn_isa_count(); isa++) {
        if (!bnn_isa_runs_here(isa)) continue;
        printf("%s: %lld cases, %lld differences\n", bnn_isa_name(isa), (long long)cases[isa],
               (long long)differences[isa]);
        if (differences[isa]) return 1;
        if (!strcmp(bnn_isa_name(isa), argv[2]) && cases[isa]) failed = 0;
    }
    if (failed) fprintf(stderr, "instruction set %s did not run\n", argv[2]);
    return failed;
}
