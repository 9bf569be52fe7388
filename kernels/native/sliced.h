/* The bit-sliced evaluator, included once per instruction set; sliced_layers.py is its twin in Numba.
 *
 * The including file defines:
 *   V              the vector type; LANES 64-bit words
 *   load, store    of a vector at any 8-byte aligned address; splat a word; zeros
 *   xor2 and2 or2 invert xor3 majority select_bits
 *   ISA_RUNS_HERE  an expression: does this machine have the instructions?
 *   ISA            the name of the bnn_isa to define, ISA_NAME its name for people
 *
 * The threshold costs nothing: a counter of m bits starts at 2^m - threshold, so its carry-out (at most one) is the
 * activation.  Pooling is OR.
 */

enum { LOW_TO_HIGH = LANES }; /* words from the low to the high bit of a table entry */

typedef struct {
    V active, b0, b1, b2, b3, b4, b5, b6, b7;
} counter;

/* Adds two bits to *sum and returns the carry. */
BNN_INLINE V full_add(V *sum, V one, V two) {
    V before = *sum;
    *sum = xor3(before, one, two);
    return majority(before, one, two);
}

BNN_INLINE V half_add(V *sum, V one) {
    V before = *sum;
    *sum = xor2(before, one);
    return and2(before, one);
}

#define LOW(index) load(table + codes[index])
#define HIGH(index) load(table + codes[index] + LOW_TO_HIGH)

/* Each adds so many triples to the counter's low five bits and returns the carry out of them. */
BNN_INLINE V add_one(counter *c, const uint64_t *table, const uint16_t *codes) {
    V ones = half_add(&c->b0, LOW(0));
    V twos = full_add(&c->b1, HIGH(0), ones);
    V fours = half_add(&c->b2, twos);
    V eights = half_add(&c->b3, fours);
    return half_add(&c->b4, eights);
}

BNN_INLINE V add_four(counter *c, const uint64_t *table, const uint16_t *codes) {
    V ones0 = full_add(&c->b0, LOW(0), LOW(1));
    V ones1 = full_add(&c->b0, LOW(2), LOW(3));
    V twos0 = full_add(&c->b1, HIGH(0), HIGH(1));
    V twos1 = full_add(&c->b1, HIGH(2), HIGH(3));
    V twos2 = full_add(&c->b1, ones0, ones1);
    V fours0 = full_add(&c->b2, twos0, twos1);
    V fours1 = half_add(&c->b2, twos2);
    V eights = full_add(&c->b3, fours0, fours1);
    return half_add(&c->b4, eights);
}

BNN_INLINE V add_eight(counter *c, const uint64_t *table, const uint16_t *codes) {
    V ones0 = full_add(&c->b0, LOW(0), LOW(1));
    V ones1 = full_add(&c->b0, LOW(2), LOW(3));
    V twos0 = full_add(&c->b1, HIGH(0), HIGH(1));
    V twos1 = full_add(&c->b1, HIGH(2), HIGH(3));
    V twos2 = full_add(&c->b1, ones0, ones1);
    V ones2 = full_add(&c->b0, LOW(4), LOW(5));
    V ones3 = full_add(&c->b0, LOW(6), LOW(7));
    V twos3 = full_add(&c->b1, HIGH(4), HIGH(5));
    V twos4 = full_add(&c->b1, HIGH(6), HIGH(7));
    V twos5 = full_add(&c->b1, ones2, ones3);
    V fours0 = full_add(&c->b2, twos0, twos1);
    V fours1 = full_add(&c->b2, twos3, twos4);
    V fours2 = full_add(&c->b2, twos2, twos5);
    V eights0 = full_add(&c->b3, fours0, fours1);
    V eights1 = half_add(&c->b3, fours2);
    return full_add(&c->b4, eights0, eights1);
}

/* Adds a carry to the bits beyond the registers, which are in memory, and returns the carry out of them. */
BNN_INLINE V carry_in_memory(uint64_t *memory, ptrdiff_t bits, V carry) {
    for (ptrdiff_t bit = REGISTER_BITS; bit < bits; bit++) {
        uint64_t *word = memory + (bit + 1) * LANES;
        V value = load(word);
        carry = half_add(&value, carry);
        store(word, value);
    }
    return carry;
}

BNN_INLINE void carry_on(counter *c, uint64_t *memory, ptrdiff_t bits, V carry) {
    carry = half_add(&c->b5, carry);
    carry = half_add(&c->b6, carry);
    carry = half_add(&c->b7, carry);
    if (bits > REGISTER_BITS) carry = carry_in_memory(memory, bits, carry);
    c->active = or2(c->active, carry);
}

BNN_INLINE void add_triples(counter *c, uint64_t *memory, ptrdiff_t bits, const uint64_t *table, const uint16_t *codes,
                            ptrdiff_t triples) {
    const uint16_t *end = codes + triples;
    for (; codes + 32 <= end; codes += 32) {
        V carry0 = add_eight(c, table, codes), carry1 = add_eight(c, table, codes + 8);
        V carry4 = full_add(&c->b5, carry0, carry1);
        V carry2 = add_eight(c, table, codes + 16), carry3 = add_eight(c, table, codes + 24);
        V carry5 = full_add(&c->b5, carry2, carry3);
        V carry = full_add(&c->b6, carry4, carry5);
        carry = half_add(&c->b7, carry);
        if (bits > REGISTER_BITS) carry = carry_in_memory(memory, bits, carry);
        c->active = or2(c->active, carry);
    }
    for (; codes + 8 <= end; codes += 8) carry_on(c, memory, bits, add_eight(c, table, codes));
    if (codes + 4 <= end) {
        carry_on(c, memory, bits, add_four(c, table, codes));
        codes += 4;
    }
    for (; codes < end; codes++) carry_on(c, memory, bits, add_one(c, table, codes));
}

/* Where a neuron's counter comes from and goes to; in memory: carry-out (or a logit's lowest bit), bit 0, bit 1 ... */
BNN_INLINE void start_counter(counter *c, uint64_t *memory, ptrdiff_t bits, const uint64_t *init) {
    c->active = splat(init[0]);
    c->b0 = splat(init[1]), c->b1 = splat(init[2]), c->b2 = splat(init[3]), c->b3 = splat(init[4]);
    c->b4 = splat(init[5]), c->b5 = splat(init[6]), c->b6 = splat(init[7]), c->b7 = splat(init[8]);
    for (ptrdiff_t word = REGISTER_BITS + 1; word <= bits; word++) store(memory + word * LANES, splat(init[word]));
}

BNN_INLINE void load_counter(counter *c, const uint64_t *memory) {
    c->active = load(memory);
    c->b0 = load(memory + 1 * LANES), c->b1 = load(memory + 2 * LANES), c->b2 = load(memory + 3 * LANES);
    c->b3 = load(memory + 4 * LANES), c->b4 = load(memory + 5 * LANES), c->b5 = load(memory + 6 * LANES);
    c->b6 = load(memory + 7 * LANES), c->b7 = load(memory + 8 * LANES);
}

BNN_INLINE void store_counter(const counter *c, uint64_t *memory) {
    store(memory, c->active);
    store(memory + 1 * LANES, c->b0), store(memory + 2 * LANES, c->b1), store(memory + 3 * LANES, c->b2);
    store(memory + 4 * LANES, c->b3), store(memory + 5 * LANES, c->b4), store(memory + 6 * LANES, c->b5);
    store(memory + 7 * LANES, c->b6), store(memory + 8 * LANES, c->b7);
}

/* A neuron's activation after one pass over its codes; begins and stays are constants where it matters. */
BNN_INLINE V count_matches(uint64_t *memory, ptrdiff_t bits, const uint64_t *table, const uint16_t *codes,
                           ptrdiff_t triples, const uint64_t *init, int begins, int stays) {
    counter c;
    if (begins)
        start_counter(&c, memory, bits, init);
    else
        load_counter(&c, memory);
    add_triples(&c, memory, bits, table, codes, triples);
    if (stays) store_counter(&c, memory);
    return c.active;
}

/* One input channel makes three triples, counted in four bits. */
BNN_INLINE V count_single(const uint64_t *table, const uint16_t *codes, const uint64_t *init) {
    V b0 = splat(init[1]), b1 = splat(init[2]), b2 = splat(init[3]), b3 = splat(init[4]);
    V ones0 = full_add(&b0, LOW(0), LOW(1));
    V ones1 = and2(b0, LOW(2));
    V twos0 = full_add(&b1, HIGH(0), HIGH(1));
    V twos1 = full_add(&b1, HIGH(2), ones0);
    V twos2 = and2(b1, ones1);
    V fours0 = full_add(&b2, twos0, twos1);
    return or2(splat(init[0]), majority(b3, fours0, and2(b2, twos2)));
}

/* For weight pattern p (bit set: that input is inverted) the two bits of the triple's count. */
BNN_INLINE void build_triple(uint64_t *table, V one, V two, V three) {
    for (int pattern = 0; pattern < 4; pattern++) {
        V first = pattern & 1 ? invert(one) : one, second = pattern & 2 ? invert(two) : two;
        V low = xor3(first, second, three), high = majority(first, second, three);
        uint64_t *entry = table + pattern * 2 * LANES, *opposite = table + (7 - pattern) * 2 * LANES;
        store(entry, low), store(entry + LOW_TO_HIGH, high);
        store(opposite, invert(low)), store(opposite + LOW_TO_HIGH, invert(high)); /* 3 - count */
    }
}

/* The table of three neighbouring pixels' first width channels. */
BNN_INLINE void build_row(uint64_t *table, const uint64_t *pixel, ptrdiff_t channels, ptrdiff_t width) {
    for (ptrdiff_t channel = 0; channel < width; channel++) {
        const uint64_t *word = pixel + channel * LANES;
        build_triple(table + channel * TRIPLE_VECTORS * LANES, load(word), load(word + channels * LANES),
                     load(word + 2 * channels * LANES));
    }
}

/* What the neurons of one position have in common; subset lists those wanted, or is NULL for all. */
typedef struct {
    const uint64_t *table, *inits;
    const uint16_t *codes;
    uint64_t *memory, *target;
    ptrdiff_t neurons, bits, stride, triples;
    const bnn_subset *subset;
} position;

/* Kinds of pass over the neurons of a position. */
enum { SINGLE_CHANNEL, WHOLE, FIRST_CHUNK, MIDDLE_CHUNK, LAST_CHUNK };

BNN_INLINE void run_neurons(const position *p, int kind, int is_first) {
    const uint16_t *codes = p->codes;
    const uint64_t *init = p->inits;
    uint64_t *memory = p->memory, *target = p->target;
    for (ptrdiff_t neuron = 0; neuron < p->neurons; neuron++) {
        V active;
        if (kind == SINGLE_CHANNEL)
            active = count_single(p->table, codes, init);
        else
            active = count_matches(memory, p->bits, p->table, codes, p->triples, init,
                                   kind == WHOLE || kind == FIRST_CHUNK, kind == FIRST_CHUNK || kind == MIDDLE_CHUNK);
        if (kind != FIRST_CHUNK && kind != MIDDLE_CHUNK) {
            if (!is_first) active = or2(active, load(target));
            store(target, active);
        }
        codes += p->triples, init += p->stride, target += LANES;
        if (kind != SINGLE_CHANNEL && kind != WHOLE) memory += p->stride * LANES;
    }
}

static void run_subset(const position *p, int kind, int is_first) {
    position one = *p;
    one.neurons = 1, one.subset = NULL;
    for (ptrdiff_t index = 0; index < p->subset->count; index++) {
        const ptrdiff_t neuron = p->subset->neurons[index];
        one.codes = p->codes + neuron * p->triples, one.inits = p->inits + neuron * p->stride;
        one.target = p->target + neuron * LANES;
        one.memory = p->memory + (kind == SINGLE_CHANNEL || kind == WHOLE ? 0 : neuron * p->stride * LANES);
        run_neurons(&one, kind, is_first);
    }
}

static void run_position(const position *p, int kind, int is_first) {
    if (p->subset) {
        run_subset(p, kind, is_first);
        return;
    }
    switch (kind) {
    case SINGLE_CHANNEL: run_neurons(p, SINGLE_CHANNEL, is_first); break;
    case WHOLE: run_neurons(p, WHOLE, is_first); break;
    case FIRST_CHUNK: run_neurons(p, FIRST_CHUNK, is_first); break;
    case MIDDLE_CHUNK: run_neurons(p, MIDDLE_CHUNK, is_first); break;
    default: run_neurons(p, LAST_CHUNK, is_first); break;
    }
}

BNN_INLINE int chunk_kind(ptrdiff_t start, ptrdiff_t width, ptrdiff_t whole) {
    if (start == 0) return width == whole ? WHOLE : FIRST_CHUNK;
    return start + width == whole ? LAST_CHUNK : MIDDLE_CHUNK;
}

/* Writes a convolution's activations, pooled if it pools, of one slice; of a subset of its neurons if there is one. */
static void convolve(const bnn_network *net, const int64_t *layer, const uint64_t *source, uint64_t *target,
                     uint64_t *work, const bnn_subset *subset) {
    uint64_t *table = work + net->parts[1], *counters = work + net->parts[2];
    const ptrdiff_t in_width = layer[IN_WIDTH], channels = layer[IN_CHANNELS], neurons = layer[NEURONS];
    const ptrdiff_t rows = layer[ROWS], columns = layer[COLUMNS], out_width = layer[OUT_WIDTH], chunk = layer[CHUNK];
    const int pool = (int)layer[POOL];
    position p = {.table = table, .inits = net->inits + layer[INIT_START], .neurons = neurons, .subset = subset};
    p.bits = layer[COUNTER_BITS], p.stride = bnn_stride(p.bits);
    for (ptrdiff_t x = 0; x < columns; x++)
        for (ptrdiff_t start = 0; start < channels; start += chunk) {
            const ptrdiff_t width = channels - start < chunk ? channels - start : chunk;
            const int kind = channels == 1 ? SINGLE_CHANNEL : chunk_kind(start, width, channels);
            for (ptrdiff_t row = 0; row < rows + 2; row++) {
                build_row(table + row % 3 * width * TRIPLE_VECTORS * LANES,
                          source + ((row * in_width + x) * channels + start) * LANES, channels, width);
                const ptrdiff_t y = row - 2;
                if (y < 0) continue;
                p.triples = 3 * width;
                p.codes = net->codes + layer[CODE_START] + (9 * start + y % 3 * 3 * width) * neurons;
                p.memory = counters + (width == channels ? 0 : y * neurons * p.stride * LANES);
                p.target = target + ((y >> pool) * out_width + (x >> pool)) * neurons * LANES;
                run_position(&p, kind, !pool || !((y | x) & 1));
            }
        }
}

/* Writes a dense layer's activations of one slice; the last layer leaves its counters instead. */
static void connect(const bnn_network *net, const int64_t *layer, const uint64_t *source, uint64_t *target,
                    uint64_t *work, const bnn_subset *subset) {
    uint64_t *table = work + net->parts[1], *counters = work + net->parts[2];
    const ptrdiff_t triples = bnn_triples(layer[FAN_IN]), chunk = layer[CHUNK], neurons = layer[NEURONS];
    position p = {.table = table, .inits = net->inits + layer[INIT_START], .neurons = neurons, .subset = subset};
    p.bits = layer[COUNTER_BITS], p.stride = bnn_stride(p.bits), p.memory = counters, p.target = target;
    for (ptrdiff_t start = 0; start < triples; start += chunk) {
        const ptrdiff_t width = triples - start < chunk ? triples - start : chunk;
        for (ptrdiff_t triple = 0; triple < width; triple++) {
            const uint64_t *word = source + (start + triple) * TRIPLE * LANES;
            build_triple(table + triple * TRIPLE_VECTORS * LANES, load(word), load(word + LANES),
                         load(word + 2 * LANES));
        }
        p.triples = width, p.codes = net->codes + layer[CODE_START] + start * neurons;
        int kind = chunk_kind(start, width, triples);
        if (layer[IS_LAST]) kind = start == 0 ? FIRST_CHUNK : MIDDLE_CHUNK;
        run_position(&p, kind, 1);
    }
}

/* Zeros after a map of activations, so that a dense layer reads whole triples. */
BNN_INLINE void complete_triples(uint64_t *map, int64_t count) {
    for (int64_t unit = count; unit < bnn_triples(count) * TRIPLE; unit++) store(map + unit * LANES, zeros());
}

static void run_layer(const bnn_network *net, const int64_t *layer, const uint64_t *source, uint64_t *target,
                      uint64_t *work, const bnn_subset *subset) {
    if (layer[DENSE])
        connect(net, layer, source, target, work, subset);
    else
        convolve(net, layer, source, target, work, subset);
    if (!layer[IS_LAST]) complete_triples(target, bnn_activations(layer));
}

/* Leaves the last layer's counters, the logits' bits, for one slice of images in the workspace. */
static void forward(const bnn_network *net, int64_t slice, uint64_t *work) {
    uint64_t *maps[2] = {work, work + net->parts[0]};
    const uint64_t *source = net->images + slice * net->input_vectors * LANES;
    for (int64_t index = 0; index < net->layer_count; index++) {
        run_layer(net, net->layers + index * PLAN_COLUMNS, source, maps[index & 1], work, NULL);
        source = maps[index & 1];
    }
}

/* Which images of a slice have their label's logit the largest; ties go to the lowest class. */
static V right_images(const bnn_network *net, int64_t slice, uint64_t *work) {
    const int64_t *layer = net->layers + (net->layer_count - 1) * PLAN_COLUMNS;
    const ptrdiff_t planes = layer[COUNTER_BITS] + 1, stride = bnn_stride(layer[COUNTER_BITS]) * LANES;
    const uint64_t *counters = work + net->parts[2], *labels = net->labels + slice * LABEL_PLANES * LANES;
    uint64_t *best = work + net->parts[3];
    V winner[LABEL_BITS];
    for (ptrdiff_t plane = 0; plane < planes; plane++) store(best + plane * LANES, load(counters + plane * LANES));
    for (int bit = 0; bit < LABEL_BITS; bit++) winner[bit] = zeros();
    for (ptrdiff_t neuron = 1; neuron < layer[NEURONS]; neuron++) {
        const uint64_t *counter = counters + neuron * stride;
        V larger = zeros();
        for (ptrdiff_t plane = 0; plane < planes; plane++) { /* from the lowest: the highest difference decides */
            V one = load(counter + plane * LANES), two = load(best + plane * LANES);
            larger = select_bits(xor2(one, two), one, larger);
        }
        for (ptrdiff_t plane = 0; plane < planes; plane++) {
            uint64_t *word = best + plane * LANES;
            store(word, select_bits(larger, load(counter + plane * LANES), load(word)));
        }
        for (int bit = 0; bit < LABEL_BITS; bit++)
            winner[bit] = neuron >> bit & 1 ? or2(winner[bit], larger) : and2(winner[bit], invert(larger));
    }
    V right = load(labels + LABEL_BITS * LANES);
    for (int bit = 0; bit < LABEL_BITS; bit++)
        right = and2(right, invert(xor2(winner[bit], load(labels + bit * LANES))));
    return right;
}

BNN_INLINE int64_t count_set(V bits) {
    uint64_t words[LANES];
    store(words, bits);
    int64_t total = 0;
    for (int lane = 0; lane < LANES; lane++) total += __builtin_popcountll(words[lane]);
    return total;
}

static void count_blocks(const bnn_network *net, uint64_t *work, int64_t first_block, int64_t blocks,
                         int32_t *counts) {
    const int64_t slices = BLOCK_WORDS / LANES;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t total = 0;
        for (int64_t part = 0; part < slices; part++) {
            const int64_t slice = (first_block + block) * slices + part;
            forward(net, slice, work);
            total += count_set(right_images(net, slice, work));
        }
        counts[block] = (int32_t)total;
    }
}

/* Bit i of a byte to byte i of a word, as 0 or 1. */
BNN_INLINE uint64_t spread_bits(uint64_t byte) {
    const uint64_t one_each = (byte & 255) * 0x0101010101010101u & 0x8040201008040201u;
    return (one_each + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
}

/* The 64 logits of one word of a neuron's counter, eight images at a time and seven planes to a byte. */
static void read_word(const uint64_t *counter, ptrdiff_t planes, int32_t base, int32_t values[64]) {
    enum { BYTE_PLANES = 7 };
    for (int image = 0; image < 64; image++) values[image] = base;
    for (ptrdiff_t first = 0; first < planes; first += BYTE_PLANES) {
        uint64_t bytes[8] = {0}, any = 0;
        for (ptrdiff_t plane = first; plane < planes && plane < first + BYTE_PLANES; plane++) {
            const uint64_t word = counter[plane * LANES];
            any |= word;
            if (word)
                for (int part = 0; part < 8; part++) bytes[part] += spread_bits(word >> 8 * part) << (plane - first);
        }
        if (any)
            for (int image = 0; image < 64; image++)
                values[image] += (int32_t)(bytes[image / 8] >> image % 8 * 8 & 255) << first;
    }
}

/* Writes the logits of a slice's images low to high from the counters in the workspace. */
static void read_logits(const bnn_network *net, const uint64_t *work, int64_t low, int64_t high, int32_t *logits) {
    const int64_t *layer = net->layers + (net->layer_count - 1) * PLAN_COLUMNS;
    const ptrdiff_t planes = layer[COUNTER_BITS] + 1, stride = bnn_stride(layer[COUNTER_BITS]) * LANES;
    const ptrdiff_t classes = layer[NEURONS];
    for (ptrdiff_t neuron = 0; neuron < classes; neuron++) {
        const uint64_t *counter = work + net->parts[2] + neuron * stride;
        for (int64_t word = low / 64; word * 64 < high; word++) {
            int32_t values[64];
            read_word(counter + word, planes, (int32_t)net->logit_base, values);
            const int64_t begin = word * 64 < low ? low : word * 64, end = word * 64 + 64 < high ? word * 64 + 64 : high;
            for (int64_t image = begin; image < end; image++)
                logits[(image - low) * classes + neuron] = values[image - word * 64];
        }
    }
}

static void write_logits(const bnn_network *net, uint64_t *work, int64_t start, int64_t images, int32_t *logits) {
    const int64_t size = LANES * 64, stop = start + images;
    const int64_t classes = net->layers[(net->layer_count - 1) * PLAN_COLUMNS + NEURONS];
    for (int64_t slice = start / size; slice * size < stop; slice++) {
        forward(net, slice, work);
        const int64_t low = start > slice * size ? start - slice * size : 0;
        const int64_t high = stop < (slice + 1) * size ? stop - slice * size : size;
        read_logits(net, work, low, high, logits + (slice * size + low - start) * classes);
    }
}

#include "mutants.h"

static int runs_here(void) { return ISA_RUNS_HERE; }

const bnn_isa ISA = {
    ISA_NAME, LANES, runs_here, count_blocks, write_logits, fill_base, race_mutants, write_mutant_logits,
};
