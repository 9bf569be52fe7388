#include "isa.h"

#ifdef BNN_X86
#include <emmintrin.h>

BNN_TARGET("sse2")
typedef __m128i V;
#define LANES 2
BNN_INLINE V load(const uint64_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
BNN_INLINE void store(uint64_t *p, V v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
BNN_INLINE V splat(uint64_t word) { return _mm_set1_epi64x((long long)word); }
BNN_INLINE V zeros(void) { return _mm_setzero_si128(); }
BNN_INLINE V xor2(V a, V b) { return _mm_xor_si128(a, b); }
BNN_INLINE V and2(V a, V b) { return _mm_and_si128(a, b); }
BNN_INLINE V or2(V a, V b) { return _mm_or_si128(a, b); }
BNN_INLINE V invert(V a) { return _mm_xor_si128(a, _mm_set1_epi32(-1)); }
BNN_INLINE V xor3(V a, V b, V c) { return xor2(xor2(a, b), c); }
BNN_INLINE V majority(V a, V b, V c) { return or2(and2(xor2(a, b), c), and2(a, b)); } /* shares a ^ b with xor3 */
BNN_INLINE V select_bits(V condition, V a, V b) { return or2(and2(condition, a), _mm_andnot_si128(condition, b)); }
#define ISA bnn_sse2
#define ISA_NAME "sse2"
#define ISA_RUNS_HERE (__builtin_cpu_init(), __builtin_cpu_supports("sse2") != 0)
#include "sliced.h"
BNN_TARGET_END
#endif
typedef int isa_sse2_is_not_empty;
