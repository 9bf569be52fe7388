#include "isa.h"

typedef uint64_t V;
#define LANES 1
BNN_INLINE V load(const uint64_t *p) { return *p; }
BNN_INLINE void store(uint64_t *p, V v) { *p = v; }
BNN_INLINE V splat(uint64_t word) { return word; }
BNN_INLINE V zeros(void) { return 0; }
BNN_INLINE V xor2(V a, V b) { return a ^ b; }
BNN_INLINE V and2(V a, V b) { return a & b; }
BNN_INLINE V or2(V a, V b) { return a | b; }
BNN_INLINE V invert(V a) { return ~a; }
BNN_INLINE V xor3(V a, V b, V c) { return a ^ b ^ c; }
BNN_INLINE V majority(V a, V b, V c) { return ((a ^ b) & c) | (a & b); }
BNN_INLINE V select_bits(V condition, V a, V b) { return (condition & a) | (~condition & b); }
#define ISA bnn_portable
#define ISA_NAME "portable"
#define ISA_RUNS_HERE 1
#include "sliced.h"
