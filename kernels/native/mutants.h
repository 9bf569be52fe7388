/* Mutants of one base model: a flip changes single codes, and only what the change touches is computed again.
 *
 * Included by sliced.h, once per instruction set.  A mutant's first changed layer reads the base's remembered
 * activations and computes its changed neurons alone; as soon as a layer's map equals the base's again, so does all
 * that follows.  Every mutant is independent of the others, so the order and the number of threads change nothing.
 */
#include <string.h>

enum { MAX_LAYERS = 16 };

typedef struct {
    bnn_subset dirty[MAX_LAYERS];
    int64_t first; /* first layer with a changed neuron; the layer count where nothing changed */
} mutant;

/* Where a flat weight position is: its neuron among all neurons, and its codes. */
static int64_t flip_weight(const bnn_network *net, bnn_scratch *scratch, int64_t position, int64_t *neuron) {
    int64_t index = 0;
    const int64_t *layer = net->layers;
    for (; position >= layer[NEURONS] * layer[FAN_IN]; index++, layer += PLAN_COLUMNS)
        position -= layer[NEURONS] * layer[FAN_IN];
    *neuron = position / layer[FAN_IN];
    const int64_t weight = position % layer[FAN_IN], neurons = layer[NEURONS], chunk = layer[CHUNK];
    uint16_t *codes = scratch->codes + layer[CODE_START];
    if (layer[DENSE]) {
        const int64_t triple = weight / TRIPLE, start = triple / chunk * chunk;
        const int64_t rest = bnn_triples(layer[FAN_IN]) - start, width = rest < chunk ? rest : chunk;
        codes[start * neurons + *neuron * width + triple - start] ^= (uint16_t)((1 << weight % TRIPLE) * 2 * LANES);
        return index;
    }
    const int64_t channels = layer[IN_CHANNELS], tap = weight / channels, channel = weight % channels;
    const int64_t start = channel / chunk * chunk, rest = channels - start, width = rest < chunk ? rest : chunk;
    codes += 9 * start * neurons + *neuron * 3 * width + tap / 3 * width + channel - start;
    for (int turn = 0; turn < 3; turn++)
        codes[turn * neurons * 3 * width] ^= (uint16_t)((1 << tap % 3) * 2 * LANES);
    return index;
}

static void set_threshold(const bnn_network *net, bnn_scratch *scratch, int64_t index, int64_t neuron,
                          int64_t position, int64_t threshold) {
    const int64_t *layer = net->layers + index * PLAN_COLUMNS;
    uint64_t *to = scratch->inits + layer[INIT_START] + neuron * bnn_stride(layer[COUNTER_BITS]);
    scratch->thresholds[position] = (int32_t)threshold;
    const uint64_t begin = ((uint64_t)1 << layer[COUNTER_BITS]) - (uint64_t)threshold;
    for (int64_t bit = 0; bit < layer[COUNTER_BITS]; bit++) to[1 + bit] = 0 - (begin >> bit & 1);
    to[0] = 0 - (begin >> layer[COUNTER_BITS] & 1);
}

/* Layer and neuron of a flat threshold position. */
static int64_t find_threshold(const bnn_network *net, int64_t position, int64_t *neuron) {
    int64_t index = 0;
    for (; position >= net->layers[index * PLAN_COLUMNS + NEURONS]; index++)
        position -= net->layers[index * PLAN_COLUMNS + NEURONS];
    *neuron = position;
    return index;
}

static void mark_dirty(const bnn_network *net, bnn_scratch *scratch, mutant *m, int64_t index, int64_t neuron) {
    int64_t before = 0;
    for (int64_t layer = 0; layer < index; layer++) before += net->layers[layer * PLAN_COLUMNS + NEURONS];
    if (scratch->is_dirty[before + neuron]) return;
    scratch->is_dirty[before + neuron] = 1;
    m->dirty[index].neurons = scratch->dirty + before;
    scratch->dirty[before + m->dirty[index].count++] = (int32_t)neuron;
    if (index < m->first) m->first = index;
}

/* Turns the thread's copy of the base into mutant i. */
static void apply_mutant(const bnn_network *net, const bnn_mutants *mutants, bnn_scratch *scratch, int64_t i,
                         mutant *m) {
    int64_t neuron, index;
    for (index = 0; index < MAX_LAYERS; index++) m->dirty[index].count = 0;
    m->first = net->layer_count;
    for (int64_t at = mutants->flip_starts[i]; at < mutants->flip_starts[i + 1]; at++) {
        index = flip_weight(net, scratch, mutants->flips[at], &neuron);
        mark_dirty(net, scratch, m, index, neuron);
    }
    for (int64_t at = mutants->step_starts[i]; at < mutants->step_starts[i + 1]; at++) {
        const int64_t position = mutants->steps[2 * at];
        index = find_threshold(net, position, &neuron);
        int64_t threshold = scratch->thresholds[position] + mutants->steps[2 * at + 1];
        const int64_t highest = net->layers[index * PLAN_COLUMNS + FAN_IN] + 1;
        threshold = threshold < 0 ? 0 : threshold > highest ? highest : threshold;
        set_threshold(net, scratch, index, neuron, position, threshold);
        mark_dirty(net, scratch, m, index, neuron);
    }
}

/* Turns it back. */
static void undo_mutant(const bnn_network *net, const bnn_base *base, const bnn_mutants *mutants,
                        bnn_scratch *scratch, int64_t i, const mutant *m) {
    int64_t neuron, before = 0;
    for (int64_t at = mutants->flip_starts[i]; at < mutants->flip_starts[i + 1]; at++)
        flip_weight(net, scratch, mutants->flips[at], &neuron);
    for (int64_t at = mutants->step_starts[i]; at < mutants->step_starts[i + 1]; at++) {
        const int64_t position = mutants->steps[2 * at], index = find_threshold(net, position, &neuron);
        set_threshold(net, scratch, index, neuron, position, base->thresholds[position]);
    }
    for (int64_t index = 0; index < net->layer_count; index++) {
        for (ptrdiff_t at = 0; at < m->dirty[index].count; at++)
            scratch->is_dirty[before + m->dirty[index].neurons[at]] = 0;
        before += net->layers[index * PLAN_COLUMNS + NEURONS];
    }
}

/* Leaves a mutant's counters of one slice in the workspace and returns 1, or returns 0 where the last layer's input and
 * weights are the base's; *source is then the last layer's input. */
static int forward_mutant(const bnn_network *net, const bnn_base *base, bnn_scratch *scratch, const mutant *m,
                          int64_t slice, const uint64_t **source) {
    uint64_t *maps[2] = {scratch->work, scratch->work + net->parts[0]};
    const uint64_t *remembered = base->activations + slice * base->activation_words;
    const int64_t last = net->layer_count - 1;
    int changed = 0;
    for (int64_t index = m->first; index < last; index++) {
        const int64_t *layer = net->layers + index * PLAN_COLUMNS;
        const bnn_subset *dirty = &m->dirty[index];
        if (!changed && !dirty->count) continue;
        uint64_t *target = maps[index & 1];
        const uint64_t *before = remembered + base->offsets[index];
        const size_t bytes = (size_t)(bnn_activations(layer) * LANES) * sizeof(uint64_t);
        const uint64_t *input = changed      ? maps[(index - 1) & 1]
                                : index == 0 ? net->images + slice * net->input_vectors * LANES
                                             : remembered + base->offsets[index - 1];
        if (changed || dirty->count == layer[NEURONS]) {
            run_layer(net, layer, input, target, scratch->work, NULL);
        } else {
            memcpy(target, before, bytes);
            run_layer(net, layer, input, target, scratch->work, dirty);
        }
        changed = memcmp(target, before, bytes) != 0;
    }
    *source = changed     ? maps[(last - 1) & 1]
              : last == 0 ? net->images + slice * net->input_vectors * LANES
                          : remembered + base->offsets[last - 1];
    if (!changed && !m->dirty[last].count) return 0;
    run_layer(net, net->layers + last * PLAN_COLUMNS, *source, NULL, scratch->work, NULL);
    return 1;
}

static void fill_base(const bnn_network *net, bnn_base *base, uint64_t *work, int64_t first_block, int64_t blocks) {
    const int64_t slices = BLOCK_WORDS / LANES;
    for (int64_t block = first_block; block < first_block + blocks; block++) {
        base->counts[block] = 0;
        for (int64_t slice = block * slices; slice < (block + 1) * slices; slice++) {
            const uint64_t *source = net->images + slice * net->input_vectors * LANES;
            for (int64_t index = 0; index < net->layer_count; index++) {
                uint64_t *target = base->activations + slice * base->activation_words + base->offsets[index];
                run_layer(net, net->layers + index * PLAN_COLUMNS, source, target, work, NULL);
                source = target;
            }
            const V right = right_images(net, slice, work);
            store(base->right + slice * LANES, right);
            base->counts[block] += (int32_t)count_set(right);
        }
    }
}

/* Is a mutant so far below what it must reach that no further block is worth it?
 *
 * Paired on the same images: gained is its right labels minus the base's, differing how many images are labelled right
 * by one of them only, so one image's difference (-1, 0, 1) has the empirical variance (differing - gained^2 / seen) /
 * seen, with a prior while few are seen.  The pool is finite: the fewer images are left, the less they can change. */
static int is_hopeless(const bnn_race *race, int64_t gained, int64_t differing, int64_t images) {
    const double seen = (double)images, share = seen / (double)race->images;
    const double deficit = (double)race->floor * share - (double)gained;
    if (deficit <= 0) return 0;
    const double scatter = (double)differing - (double)gained * (double)gained / seen;
    const double variance = (race->prior_images * race->prior_variance + scatter) / (race->prior_images + seen);
    return deficit * deficit > race->sigmas * race->sigmas * variance * seen * (1 - share);
}

static void race_one(const bnn_network *net, const bnn_base *base, const bnn_race *race, bnn_scratch *scratch,
                     const mutant *m, int64_t i) {
    const int64_t slices = BLOCK_WORDS / LANES;
    int64_t gained = 0, differing = 0, images = 0, stage = 1;
    for (int64_t seen = 0; seen < race->blocks;) {
        const int64_t block = (race->first_blocks[i] + seen) % race->blocks;
        int64_t total = 0;
        for (int64_t slice = block * slices; slice < (block + 1) * slices; slice++) {
            const uint64_t *source;
            const V before = load(base->right + slice * LANES);
            V right = before;
            if (forward_mutant(net, base, scratch, m, slice, &source)) right = right_images(net, slice, scratch->work);
            total += count_set(right);
            differing += count_set(xor2(right, before));
        }
        race->counts[i * race->blocks + block] = (int32_t)total;
        gained += total - base->counts[block];
        images += block == race->blocks - 1 ? race->images - block * BLOCK_WORDS * 64 : BLOCK_WORDS * 64;
        race->seen[i] = ++seen;
        if (seen != stage || seen == race->blocks) continue;
        if (is_hopeless(race, gained, differing, images)) return;
        stage *= 2;
    }
}

static void race_mutants(const bnn_network *net, const bnn_base *base, const bnn_mutants *mutants,
                         const bnn_race *race, bnn_scratch *scratch, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        mutant m;
        apply_mutant(net, mutants, scratch, i, &m);
        race_one(net, base, race, scratch, &m, i);
        undo_mutant(net, base, mutants, scratch, i, &m);
    }
}

static void write_mutant_logits(const bnn_network *net, const bnn_base *base, const bnn_mutants *mutants,
                                bnn_scratch *scratch, int64_t first, int64_t last, int64_t images, int32_t *logits) {
    const int64_t size = LANES * 64, end = net->layer_count - 1;
    const int64_t *layer = net->layers + end * PLAN_COLUMNS;
    for (int64_t i = first; i < last; i++) {
        mutant m;
        apply_mutant(net, mutants, scratch, i, &m);
        for (int64_t start = 0; start < images; start += size) {
            const uint64_t *source;
            if (!forward_mutant(net, base, scratch, &m, start / size, &source))
                run_layer(net, layer, source, NULL, scratch->work, NULL);
            const int64_t count = images - start < size ? images - start : size;
            read_logits(net, scratch->work, 0, count, logits);
            logits += count * layer[NEURONS];
        }
        undo_mutant(net, base, mutants, scratch, i, &m);
    }
}
