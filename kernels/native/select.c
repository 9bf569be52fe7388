/* The one table of instruction sets, and the preparation of models, which needs none. */
#include "isa.h"

static const bnn_isa *const INSTRUCTION_SETS[] = {
#ifdef BNN_X86
    &bnn_avx512, &bnn_avx2, &bnn_sse2,
#endif
#ifdef BNN_ARM
    &bnn_neon,
#endif
    &bnn_portable,
};

int bnn_isa_count(void) { return (int)(sizeof INSTRUCTION_SETS / sizeof *INSTRUCTION_SETS); }
const char *bnn_isa_name(int isa) { return INSTRUCTION_SETS[isa]->name; }
int bnn_isa_lanes(int isa) { return INSTRUCTION_SETS[isa]->lanes; }
int bnn_isa_runs_here(int isa) { return INSTRUCTION_SETS[isa]->runs_here(); }

void bnn_count_blocks(int isa, const bnn_network *network, uint64_t *work, int64_t first_block, int64_t blocks,
                      int32_t *counts) {
    INSTRUCTION_SETS[isa]->count_blocks(network, work, first_block, blocks, counts);
}

void bnn_write_logits(int isa, const bnn_network *network, uint64_t *work, int64_t start, int64_t images,
                      int32_t *logits) {
    INSTRUCTION_SETS[isa]->write_logits(network, work, start, images, logits);
}

void bnn_fill_base(int isa, const bnn_network *network, bnn_base *base, uint64_t *work, int64_t first_block,
                   int64_t blocks) {
    INSTRUCTION_SETS[isa]->fill_base(network, base, work, first_block, blocks);
}

void bnn_race_mutants(int isa, const bnn_network *network, const bnn_base *base, const bnn_mutants *mutants,
                      const bnn_race *race, bnn_scratch *scratch, int64_t first, int64_t last) {
    INSTRUCTION_SETS[isa]->race_mutants(network, base, mutants, race, scratch, first, last);
}

void bnn_write_mutant_logits(int isa, const bnn_network *network, const bnn_base *base, const bnn_mutants *mutants,
                             bnn_scratch *scratch, int64_t first, int64_t last, int64_t images, int32_t *logits) {
    INSTRUCTION_SETS[isa]->write_mutant_logits(network, base, mutants, scratch, first, last, images, logits);
}

/* 1 where a weight bit is 0: its input is inverted. */
static inline unsigned zero_weight(const uint64_t *row, int64_t weight) {
    return (unsigned)(~(row[weight >> 6] >> (weight & 63)) & 1);
}

static void write_dense_codes(const int64_t *layer, int lanes, const uint64_t *rows, int64_t row_words,
                              uint16_t *codes) {
    const int64_t triples = bnn_triples(layer[FAN_IN]), chunk = layer[CHUNK];
    for (int64_t start = 0; start < triples; start += chunk) {
        const int64_t width = triples - start < chunk ? triples - start : chunk;
        for (int64_t neuron = 0; neuron < layer[NEURONS]; neuron++)
            for (int64_t triple = 0; triple < width; triple++) {
                unsigned pattern = 0;
                for (int tap = 0; tap < TRIPLE; tap++) {
                    const int64_t weight = (start + triple) * TRIPLE + tap;
                    if (weight < layer[FAN_IN]) pattern |= zero_weight(rows + neuron * row_words, weight) << tap;
                }
                *codes++ = (uint16_t)((triple * 8 + pattern) * 2 * lanes);
            }
    }
}

static void write_conv_codes(const int64_t *layer, int lanes, const uint64_t *rows, int64_t row_words,
                             uint16_t *codes) {
    const int64_t channels = layer[IN_CHANNELS], chunk = layer[CHUNK], neurons = layer[NEURONS];
    for (int64_t start = 0; start < channels; start += chunk) {
        const int64_t width = channels - start < chunk ? channels - start : chunk;
        for (int64_t neuron = 0; neuron < neurons; neuron++)
            for (int64_t kernel_row = 0; kernel_row < 3; kernel_row++)
                for (int64_t channel = 0; channel < width; channel++) {
                    const uint64_t *row = rows + neuron * row_words;
                    const int64_t weight = kernel_row * 3 * channels + start + channel;
                    const unsigned pattern = zero_weight(row, weight) | zero_weight(row, weight + channels) << 1 |
                                             zero_weight(row, weight + 2 * channels) << 2;
                    uint16_t *to = codes + neuron * 3 * width + kernel_row * width + channel;
                    for (int64_t turn = 0; turn < 3; turn++) {
                        const int64_t slot = (kernel_row + turn) % 3 * width + channel;
                        to[turn * neurons * 3 * width] = (uint16_t)((slot * 8 + pattern) * 2 * lanes);
                    }
                }
        codes += 9 * width * neurons;
    }
}

void bnn_write_codes(const int64_t *layer, int lanes, const uint64_t *rows, int64_t row_words, uint16_t *codes) {
    if (layer[DENSE])
        write_dense_codes(layer, lanes, rows, row_words, codes + layer[CODE_START]);
    else
        write_conv_codes(layer, lanes, rows, row_words, codes + layer[CODE_START]);
}

void bnn_write_starts(const int64_t *layer, const int64_t *starts, uint64_t *inits) {
    const int64_t bits = layer[COUNTER_BITS], stride = bnn_stride(bits);
    for (int64_t neuron = 0; neuron < layer[NEURONS]; neuron++) {
        uint64_t *to = inits + layer[INIT_START] + neuron * stride;
        const uint64_t start = (uint64_t)starts[neuron];
        for (int64_t bit = 0; bit < bits; bit++) to[1 + bit] = 0 - (start >> bit & 1);
        to[0] = 0 - (start >> bits & 1);
    }
}
