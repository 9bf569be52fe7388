/* The roofline: how fast one core can xor, count and add, with everything in registers and L1 and nothing else to do.
 *
 * A multiply-accumulate (MAC) is one xnor and one count of one bit; xor does for xnor.  These are the classic
 * channel-packed kernels at their best, so that the bit-sliced evaluator's speed is a share of what others could reach.
 */
#include "isa.h"

enum { WORDS = 2048, REPEATS_PER_CALL = 64 };
static uint64_t left[WORDS] __attribute__((aligned(64))), right[WORDS] __attribute__((aligned(64)));

typedef struct {
    const char *name;
    int (*runs_here)(void);
    uint64_t (*run)(void);
    int64_t macs_per_run;
} roof;

/* A compiler must not see that every call computes the same. */
#define KEEP_FROM_COMPILER() __asm__ volatile("" ::: "memory")

#ifdef BNN_X86
#include <immintrin.h>

BNN_TARGET("avx512f,avx512vpopcntdq")
enum { ZMM_STEPS = 128 };

/* 8 broadcast words against 2 vectors: 16 accumulators, one load for 8 counts. */
static uint64_t run_zmm(void) {
    __m512i sums[8][2];
    for (int row = 0; row < 8; row++) sums[row][0] = sums[row][1] = _mm512_setzero_si512();
    for (int step = 0; step < ZMM_STEPS; step++) {
        const __m512i one = _mm512_load_si512(right + 16 * step), two = _mm512_load_si512(right + 16 * step + 8);
#pragma GCC unroll 8
        for (int row = 0; row < 8; row++) {
            const __m512i word = _mm512_set1_epi64((long long)left[8 * step + row]);
            sums[row][0] = _mm512_add_epi64(sums[row][0], _mm512_popcnt_epi64(_mm512_xor_si512(word, one)));
            sums[row][1] = _mm512_add_epi64(sums[row][1], _mm512_popcnt_epi64(_mm512_xor_si512(word, two)));
        }
    }
    __m512i total = _mm512_setzero_si512();
    for (int row = 0; row < 8; row++) total = _mm512_add_epi64(total, _mm512_add_epi64(sums[row][0], sums[row][1]));
    return (uint64_t)_mm512_reduce_add_epi64(total);
}
BNN_TARGET_END

static int has_zmm(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq");
}

BNN_TARGET("avx2")
enum { YMM_STEPS = 256 };

BNN_INLINE __m256i ymm_carry(__m256i *sum, __m256i one, __m256i two) {
    const __m256i before = *sum, odd = _mm256_xor_si256(before, one);
    *sum = _mm256_xor_si256(odd, two);
    return _mm256_or_si256(_mm256_and_si256(before, one), _mm256_and_si256(odd, two));
}

BNN_INLINE __m256i ymm_count(__m256i words) { /* of every 64-bit lane, by nibbles */
    const __m256i nibbles = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1,
                                             2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i counts = _mm256_add_epi8(
        _mm256_shuffle_epi8(nibbles, _mm256_and_si256(words, low)),
        _mm256_shuffle_epi8(nibbles, _mm256_and_si256(_mm256_srli_epi16(words, 4), low)));
    return _mm256_sad_epu8(counts, _mm256_setzero_si256());
}

BNN_INLINE __m256i ymm_product(int step, int row) {
    return _mm256_xor_si256(_mm256_set1_epi64x((long long)left[4 * step + row]),
                            _mm256_load_si256((const __m256i *)(const void *)(right + 4 * step)));
}

/* Harley-Seal: eight products go through carry-save adders before one is counted. */
static uint64_t run_ymm(void) {
    __m256i total = _mm256_setzero_si256();
    for (int row = 0; row < 4; row++) {
        __m256i ones = _mm256_setzero_si256(), twos = ones, fours = ones, eights = ones;
        for (int step = 0; step < YMM_STEPS; step += 8) {
            const __m256i twos0 = ymm_carry(&ones, ymm_product(step, row), ymm_product(step + 1, row));
            const __m256i twos1 = ymm_carry(&ones, ymm_product(step + 2, row), ymm_product(step + 3, row));
            const __m256i fours0 = ymm_carry(&twos, twos0, twos1);
            const __m256i twos2 = ymm_carry(&ones, ymm_product(step + 4, row), ymm_product(step + 5, row));
            const __m256i twos3 = ymm_carry(&ones, ymm_product(step + 6, row), ymm_product(step + 7, row));
            const __m256i fours1 = ymm_carry(&twos, twos2, twos3);
            eights = _mm256_add_epi64(eights, ymm_count(ymm_carry(&fours, fours0, fours1)));
        }
        total = _mm256_add_epi64(total, _mm256_slli_epi64(eights, 3));
        total = _mm256_add_epi64(total, _mm256_slli_epi64(ymm_count(fours), 2));
        total = _mm256_add_epi64(total, _mm256_slli_epi64(ymm_count(twos), 1));
        total = _mm256_add_epi64(total, ymm_count(ones));
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)(void *)lanes, total);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
BNN_TARGET_END

static int has_ymm(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}
#endif

#ifdef BNN_ARM
#if defined(__arm__)
#include <sys/auxv.h>
BNN_TARGET("fpu=neon")
#endif
#include <arm_neon.h>

enum { NEON_STEPS = 256, NEON_FLUSH = 16 };

/* vcnt counts bytes; sums of 16 steps (at most 128) fit a byte before they are widened. */
static uint64_t run_neon(void) {
    uint64x2_t total = vdupq_n_u64(0);
    for (int begin = 0; begin < NEON_STEPS; begin += NEON_FLUSH) {
        uint8x16_t sums[4][2];
        for (int row = 0; row < 4; row++) sums[row][0] = sums[row][1] = vdupq_n_u8(0);
        for (int step = begin; step < begin + NEON_FLUSH; step++) {
            const uint8x16_t one = vld1q_u8((const uint8_t *)(right + 4 * step));
            const uint8x16_t two = vld1q_u8((const uint8_t *)(right + 4 * step + 2));
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++) {
                const uint8x16_t word = vreinterpretq_u8_u64(vdupq_n_u64(left[4 * step + row]));
                sums[row][0] = vaddq_u8(sums[row][0], vcntq_u8(veorq_u8(word, one)));
                sums[row][1] = vaddq_u8(sums[row][1], vcntq_u8(veorq_u8(word, two)));
            }
        }
        for (int row = 0; row < 4; row++)
            for (int half = 0; half < 2; half++)
                total = vaddq_u64(total, vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(sums[row][half]))));
    }
    return vgetq_lane_u64(total, 0) + vgetq_lane_u64(total, 1);
}
#if defined(__arm__)
BNN_TARGET_END
static int has_neon(void) { return (getauxval(AT_HWCAP) & (1ul << 12)) != 0; }
#else
static int has_neon(void) { return 1; }
#endif
#endif

enum { WORD_STEPS = 1024 };

BNN_INLINE uint64_t count_words(void) {
    uint64_t sums[4] = {0, 0, 0, 0};
    for (int step = 0; step < WORD_STEPS; step++)
        for (int pair = 0; pair < 4; pair++)
            sums[pair] += (uint64_t)__builtin_popcountll(left[2 * step + pair % 2] ^ right[2 * step + pair / 2]);
    return sums[0] + sums[1] + sums[2] + sums[3];
}

static uint64_t run_words(void) { return count_words(); }

#ifdef BNN_X86
BNN_TARGET("popcnt")
static uint64_t run_popcnt(void) { return count_words(); }
BNN_TARGET_END

static int has_popcnt(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("popcnt") != 0;
}
#endif

static int has_words(void) { return 1; }

static const roof ROOFS[] = {
#ifdef BNN_X86
    {"zmm vpopcntq tile 8x2", has_zmm, run_zmm, (int64_t)ZMM_STEPS * 8 * 2 * 512},
    {"ymm Harley-Seal", has_ymm, run_ymm, (int64_t)YMM_STEPS * 4 * 256},
    {"popcnt tile 2x2", has_popcnt, run_popcnt, (int64_t)WORD_STEPS * 4 * 64},
#endif
#ifdef BNN_ARM
    {"neon vcnt tile 4x2", has_neon, run_neon, (int64_t)NEON_STEPS * 4 * 2 * 128},
#endif
    {"64-bit words", has_words, run_words, (int64_t)WORD_STEPS * 4 * 64},
};

int bnn_roof_count(void) { return (int)(sizeof ROOFS / sizeof *ROOFS); }
const char *bnn_roof_name(int index) { return ROOFS[index].name; }
int bnn_roof_runs_here(int index) { return ROOFS[index].runs_here(); }
int64_t bnn_roof_macs(int index) { return ROOFS[index].macs_per_run * REPEATS_PER_CALL; }

uint64_t bnn_roof_run(int index) {
    uint64_t total = 0;
    for (int repeat = 0; repeat < REPEATS_PER_CALL; repeat++) {
        KEEP_FROM_COMPILER();
        total += ROOFS[index].run();
    }
    return total;
}

void bnn_roof_fill(uint64_t seed) { /* splitmix64 */
    for (int word = 0; word < 2 * WORDS; word++) {
        uint64_t mixed = seed += 0x9E3779B97F4A7C15u;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
        (word < WORDS ? left : right)[word % WORDS] = mixed ^ mixed >> 31;
    }
}
