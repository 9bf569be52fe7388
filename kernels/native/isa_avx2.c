#include "isa.h"

#ifdef BNN_X86
#include <immintrin.h>

BNN_TARGET("avx2")
typedef __m256i V;
#define LANES 4
BNN_INLINE V load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
BNN_INLINE void store(uint64_t *p, V v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
BNN_INLINE V splat(uint64_t word) { return _mm256_set1_epi64x((long long)word); }
BNN_INLINE V zeros(void) { return _mm256_setzero_si256(); }
BNN_INLINE V xor2(V a, V b) { return _mm256_xor_si256(a, b); }
BNN_INLINE V and2(V a, V b) { return _mm256_and_si256(a, b); }
BNN_INLINE V or2(V a, V b) { return _mm256_or_si256(a, b); }
BNN_INLINE V invert(V a) { return _mm256_xor_si256(a, _mm256_set1_epi32(-1)); }
BNN_INLINE V xor3(V a, V b, V c) { return xor2(xor2(a, b), c); }
BNN_INLINE V majority(V a, V b, V c) { return or2(and2(xor2(a, b), c), and2(a, b)); } /* shares a ^ b with xor3 */
BNN_INLINE V select_bits(V condition, V a, V b) { return or2(and2(condition, a), _mm256_andnot_si256(condition, b)); }
#define ISA bnn_avx2
#define ISA_NAME "avx2"
#define ISA_RUNS_HERE (__builtin_cpu_init(), __builtin_cpu_supports("avx2") != 0)
#include "sliced.h"
BNN_TARGET_END
#endif
typedef int isa_avx2_is_not_empty;
