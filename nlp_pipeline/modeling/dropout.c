/* Dropout, element by element, on a CPU: PyTorch draws its numbers one after the other. */
#include <string.h>

#include "vectors.h"

#define BLOCK 16384         /* elements that a thread takes at a time */
#define WORTH_SHARING 32768 /* elements from which threads repay */

/* 2 W elements: 32 random bits serve two of them, the lower half the first vector, the upper the second. */
static inline __attribute__((always_inline)) void drop(const char *from, char *to, uvec bits, uint32_t threshold,
                                                       float scale, const int is_bf16) {
    const uvec halves[2] = {bits & 0xffff, bits >> 16};
    for (int h = 0; h < 2; h++) {
        const ivec kept = (ivec)(halves[h] >= threshold);
        const vec x = load(from, h * W, is_bf16) * scale;
        store(to, h * W, is_bf16, (vec)((ivec)x & kept));
    }
}

static inline __attribute__((always_inline)) void drop_all(const char *x, char *out, int64_t count, uint32_t threshold,
                                                           float scale, uint64_t seed, const int is_bf16) {
    const uint64_t key = mix64(seed + 0x9E3779B97F4A7C15ull);
    const int size = is_bf16 ? 2 : 4;
#pragma omp parallel for schedule(static) if (count >= WORTH_SHARING)
    for (int64_t block = 0; block < count; block += BLOCK) {
        const int64_t end = block + BLOCK < count ? block + BLOCK : count;
        for (int64_t i = block; i < end; i += 2 * W) {
            const uvec bits = random16((uint32_t)key, (uint32_t)(key >> 32), (uint32_t)(i / 2));
            if (i + 2 * W <= end) {
                drop(x + i * size, out + i * size, bits, threshold, scale, is_bf16);
                continue;
            }
            char rest[2 * W * 4] __attribute__((aligned(64))) = {0};
            memcpy(rest, x + i * size, (end - i) * size);
            drop(rest, rest, bits, threshold, scale, is_bf16);
            memcpy(out + i * size, rest, (end - i) * size);
        }
    }
}

/* out = x * scale, 0 where dropped: the same elements for the same seed, whatever the type and the number of threads.
 *
 * threshold: an element is dropped when its 16 random bits are below.
 */
void dropout(const void *x, void *out, int64_t count, int32_t is_bf16, uint32_t threshold, float scale, uint64_t seed) {
    if (is_bf16) drop_all(x, out, count, threshold, scale, seed, 1);
    else drop_all(x, out, count, threshold, scale, seed, 0);
}
