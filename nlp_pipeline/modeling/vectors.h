/* Vectors of 16 floats, bfloat16, and random bits: what the kernels share.
 *
 * Vectors are GCC's (also Clang's) portable ones; the compiler maps 16 floats to whatever registers there are.
 */
#ifndef NLP_PIPELINE_VECTORS
#define NLP_PIPELINE_VECTORS
#include <stdint.h>

#define W 16 /* floats in a vector */

typedef float vec __attribute__((vector_size(4 * W), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * W), aligned(4)));
typedef uint32_t uvec __attribute__((vector_size(4 * W), aligned(4)));
typedef uint16_t hvec __attribute__((vector_size(2 * W), aligned(2)));

/* 16 numbers of a tensor from its element i on, float32 or bfloat16. */
static inline vec load(const void *base, int64_t i, int is_bf16) {
    if (!is_bf16) return *(const vec *)((const float *)base + i);
    return (vec)(__builtin_convertvector(*(const hvec *)((const uint16_t *)base + i), uvec) << 16);
}

/* In bfloat16 rounded to the nearest, of two equally near the even one; what is no number stays none. */
static inline void store(void *base, int64_t i, int is_bf16, vec value) {
    if (!is_bf16) { *(vec *)((float *)base + i) = value; return; }
    const uvec u = (uvec)value, nan = (uvec)((u & 0x7fffffff) > 0x7f800000);
    const uvec rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    *(hvec *)((uint16_t *)base + i) = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0), hvec);
}

static inline vec splat(float x) { return x - (vec){0}; }

/* The sum of 16 numbers, and the largest: by halves, each addition waits for one before rather than for fifteen. */
typedef float vec8 __attribute__((vector_size(32), aligned(4)));
typedef float vec4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t ivec8 __attribute__((vector_size(32), aligned(4)));
typedef int32_t ivec4 __attribute__((vector_size(16), aligned(4)));

static inline float sum16(vec x) {
    const union { vec whole; vec8 half[2]; } a = {x};
    const union { vec8 whole; vec4 half[2]; } b = {a.half[0] + a.half[1]};
    const vec4 c = b.half[0] + b.half[1];
    return (c[0] + c[1]) + (c[2] + c[3]);
}

static inline float max16(vec x) {
    const union { vec whole; vec8 half[2]; } a = {x};
    const ivec8 first = a.half[0] > a.half[1];
    const union { vec8 whole; vec4 half[2]; } b = {(vec8)(((ivec8)a.half[0] & first) | ((ivec8)a.half[1] & ~first))};
    const ivec4 lower = b.half[0] > b.half[1];
    const vec4 c = (vec4)(((ivec4)b.half[0] & lower) | ((ivec4)b.half[1] & ~lower));
    const float d = c[0] > c[1] ? c[0] : c[1], e = c[2] > c[3] ? c[2] : c[3];
    return d > e ? d : e;
}

/* exp of numbers <= 0, to 2 units in the last place (Cephes); below -87 it is 0. */
static inline vec exp16(vec x) {
    ivec under = x < -87.0f;
    vec n = x * 1.44269504088896341f;
    ivec k = __builtin_convertvector(n - 0.5f, ivec); /* rounds towards 0: x is not positive */
    n = __builtin_convertvector(k, vec);
    x = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec y = splat(1.9875691500E-4f);
    y = y * x + 1.3981999507E-3f;
    y = y * x + 8.3334519073E-3f;
    y = y * x + 4.1665795894E-2f;
    y = y * x + 1.6666665459E-1f;
    y = y * x + 5.0000001201E-1f;
    y = y * x * x + x + 1.0f;
    ivec bits = (ivec)y + (k << 23);
    return (vec)(bits & ~under);
}

/* 32 random bits for each of 16 counters (the finalizer of MurmurHash3, twice keyed). */
static inline uvec random16(uint32_t key0, uint32_t key1, uint32_t counter) {
    uvec x = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    x = (x + counter) * 0x9E3779B1u + key0;
    x ^= x >> 16; x *= 0x85EBCA6Bu;
    x ^= x >> 13; x += key1; x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return x;
}

static inline uint64_t mix64(uint64_t x) {
    x ^= x >> 30; x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27; x *= 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

#endif
