#include "isa.h"

#ifdef BNN_X86
#include <immintrin.h>

BNN_TARGET("avx512f")
typedef __m512i V;
#define LANES 8
BNN_INLINE V load(const uint64_t *p) { return _mm512_loadu_si512((const void *)p); }
BNN_INLINE void store(uint64_t *p, V v) { _mm512_storeu_si512((void *)p, v); }
BNN_INLINE V splat(uint64_t word) { return _mm512_set1_epi64((long long)word); }
BNN_INLINE V zeros(void) { return _mm512_setzero_si512(); }
BNN_INLINE V xor2(V a, V b) { return _mm512_xor_si512(a, b); }
BNN_INLINE V and2(V a, V b) { return _mm512_and_si512(a, b); }
BNN_INLINE V or2(V a, V b) { return _mm512_or_si512(a, b); }
BNN_INLINE V invert(V a) { return _mm512_ternarylogic_epi64(a, a, a, 0x55); }
BNN_INLINE V xor3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
BNN_INLINE V majority(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0xE8); }
BNN_INLINE V select_bits(V condition, V a, V b) { return _mm512_ternarylogic_epi64(condition, a, b, 0xCA); }
#define ISA bnn_avx512
#define ISA_NAME "avx512f"
#define ISA_RUNS_HERE (__builtin_cpu_init(), __builtin_cpu_supports("avx512f") != 0)
#include "sliced.h"
BNN_TARGET_END
#endif
typedef int isa_avx512_is_not_empty;
