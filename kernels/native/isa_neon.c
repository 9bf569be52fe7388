#include "isa.h"

#ifdef BNN_ARM
#if defined(__arm__)
/* Debian's armhf compiler assumes no NEON: it is switched on for this file only, and checked for at run time. */
#include <sys/auxv.h>
BNN_TARGET("fpu=neon")
#endif
#include <arm_neon.h>

typedef uint64x2_t V;
#define LANES 2
/* Loads of bytes: they need no alignment. */
BNN_INLINE V load(const uint64_t *p) { return vreinterpretq_u64_u8(vld1q_u8((const uint8_t *)p)); }
BNN_INLINE void store(uint64_t *p, V v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_u64(v)); }
BNN_INLINE V splat(uint64_t word) { return vdupq_n_u64(word); }
BNN_INLINE V zeros(void) { return vdupq_n_u64(0); }
BNN_INLINE V xor2(V a, V b) { return veorq_u64(a, b); }
BNN_INLINE V and2(V a, V b) { return vandq_u64(a, b); }
BNN_INLINE V or2(V a, V b) { return vorrq_u64(a, b); }
BNN_INLINE V invert(V a) { return vreinterpretq_u64_u8(vmvnq_u8(vreinterpretq_u8_u64(a))); }
BNN_INLINE V select_bits(V condition, V a, V b) { return vbslq_u64(condition, a, b); }
BNN_INLINE V xor3(V a, V b, V c) { return xor2(xor2(a, b), c); }
BNN_INLINE V majority(V a, V b, V c) { return select_bits(xor2(a, b), c, b); } /* shares a ^ b with xor3 */
#define ISA bnn_neon
#if defined(__arm__)
#define ISA_NAME "neon-armv7"
#define ISA_RUNS_HERE ((getauxval(AT_HWCAP) & (1ul << 12)) != 0) /* HWCAP_NEON */
#else
#define ISA_NAME "neon-aarch64"
#define ISA_RUNS_HERE 1
#endif
#include "sliced.h"
#if defined(__arm__)
BNN_TARGET_END
#endif
#endif
typedef int isa_neon_is_not_empty;
