/* Attention within packed rows, forward and backward, with dropout, on a CPU.
 *
 * One task is one (row, key head); of rows of some hundred tokens everything it needs stays in the nearer caches. Keys
 * that none of the queries at hand sees are not looked at. Softmax and sums are in float32 whatever the inputs are in.
 * Nothing of the size rows x length x length is ever stored: the backward pass computes the weights again, and their
 * dropout from the same counters.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

#define R 4 /* queries worked on together */

typedef struct {
    const void *query, *key, *value, *gradient;
    void *out, *d_query, *d_key, *d_value;
    const int64_t *starts, *lengths;
    int64_t rows, heads, key_heads, features;
    int64_t window; /* largest distance seen; negative: any */
    int32_t causal, is_bf16, backward;
    float scale, keep_scale;
    uint32_t threshold; /* a weight is dropped when its number is below; 0: never */
    uint64_t seed;
} Job;

/* The keys that some of R queries sees: from `low` to before `high`. */
typedef struct { int64_t low, high; } Span;

/* The vectors that cover a span, which begin and end at multiples of W. */
static inline Span widened(Span s) { return (Span){s.low / W * W, (s.high + W - 1) / W * W}; }

static inline Span seen(const Job *job, int64_t first, int64_t last, int64_t length) {
    Span s = {0, length};
    if (job->causal) s.high = last + 1;
    if (job->window >= 0) {
        if (first - job->window > s.low) s.low = first - job->window;
        if (last + job->window + 1 < s.high) s.high = last + job->window + 1;
    }
    if (s.high > length) s.high = length;
    return s;
}

/* scores[R][N*W from j on] = a[R][f] . bt[f][the same]: R * N sums at once, which don't wait for one another */
static inline __attribute__((always_inline)) void some_products(
    const float *a, const float *bt, float *scores, int64_t padded, int64_t features, const int N) {
    vec sum[R][2];
    for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) sum[r][n] = (vec){0};
    for (int64_t f = 0; f < features; f++)
        for (int n = 0; n < N; n++) {
            const vec b = *(const vec *)(bt + f * padded + n * W);
            for (int r = 0; r < R; r++) sum[r][n] += a[r * features + f] * b;
        }
    for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) *(vec *)(scores + r * padded + n * W) = sum[r][n];
}

/* scores[R][padded] = a[R][f] . bt[f][padded] within a span, b transposed and zero beyond its length */
static inline __attribute__((always_inline)) void products(
    const float *a, const float *bt, float *scores, Span s, int64_t padded, int64_t features) {
    int64_t j = s.low;
    for (; j + 2 * W <= s.high; j += 2 * W) some_products(a, bt + j, scores + j, padded, features, 2);
    if (j < s.high) some_products(a, bt + j, scores + j, padded, features, 1);
}

/* out[R][NV*W] = weights[R][span] . b[span][NV*W] */
static inline __attribute__((always_inline)) void combine(
    const float *weights, const float *b, float *out, Span s, int64_t padded, const int NV) {
    vec sum[R][8];
    for (int r = 0; r < R; r++) for (int v = 0; v < NV; v++) sum[r][v] = (vec){0};
    for (int64_t j = s.low; j < s.high; j++)
        for (int v = 0; v < NV; v++) {
            vec x = *(const vec *)(b + (j * NV + v) * W);
            for (int r = 0; r < R; r++) sum[r][v] += weights[r * padded + j] * x;
        }
    for (int r = 0; r < R; r++) for (int v = 0; v < NV; v++) *(vec *)(out + (r * NV + v) * W) = sum[r][v];
}

/* d[j] += sum over R of weights[r][j] * a[r] */
static inline __attribute__((always_inline)) void spread(
    const float *weights, const float *a, float *d, Span s, int64_t padded, const int NV) {
    for (int64_t j = s.low; j < s.high; j++)
        for (int v = 0; v < NV; v++) {
            vec sum = *(vec *)(d + (j * NV + v) * W);
            for (int r = 0; r < R; r++) sum += weights[r * padded + j] * *(const vec *)(a + (r * NV + v) * W);
            *(vec *)(d + (j * NV + v) * W) = sum;
        }
}

/* Softmax of R score rows in place, within whole vectors; keys out of a query's sight and padding get 0. */
static inline void softmax(const Job *job, float *scores, int64_t first, Span all, int64_t length, int64_t padded) {
    for (int r = 0; r < R; r++) {
        float *s = scores + r * padded;
        int64_t i = first + r;
        if (i >= length) { memset(s + all.low, 0, (all.high - all.low) * sizeof(float)); continue; }
        Span own = seen(job, i, i, length);
        vec top = splat(-INFINITY);
        for (int64_t j = all.low; j < all.high; j += W) {
            /* not by single stores of -INFINITY, which the vectors' loads would have to wait for */
            const ivec at = (ivec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + (int32_t)j;
            const ivec in = (at >= (int32_t)own.low) & (at < (int32_t)own.high);
            vec x = *(vec *)(s + j) * job->scale;
            x = (vec)(((ivec)x & in) | ((ivec)splat(-INFINITY) & ~in));
            *(vec *)(s + j) = x;
            ivec more = x > top;
            top = (vec)(((ivec)x & more) | ((ivec)top & ~more));
        }
        const float most = max16(top);
        vec sums = {0};
        for (int64_t j = all.low; j < all.high; j += W) {
            vec x = exp16(*(vec *)(s + j) - most);
            *(vec *)(s + j) = x;
            sums += x;
        }
        /* a score that is no number must not pass as 0 */
        const float share = most == most ? 1.0f / sum16(sums) : most;
        for (int64_t j = all.low; j < all.high; j += W) *(vec *)(s + j) *= share;
    }
}

/* What each weight is multiplied with: 0 where dropped, keep_scale elsewhere. */
static inline void dropout(const Job *job, const float *weights, float *out, uint64_t stream, int64_t first, Span s,
                           int64_t padded) {
    uint64_t key = mix64(job->seed + stream * 0x9E3779B97F4A7C15ull);
    for (int r = 0; r < R; r++)
        for (int64_t j = s.low; j < s.high; j += W) {
            uvec bits = random16((uint32_t)key, (uint32_t)(key >> 32), (uint32_t)((first + r) * padded + j));
            ivec kept = (ivec)(bits >= job->threshold);
            vec x = *(const vec *)(weights + r * padded + j) * job->keep_scale;
            *(vec *)(out + r * padded + j) = (vec)((ivec)x & kept);
        }
}

static inline void load_rows(const Job *job, const void *from, int64_t start, int64_t head, int64_t heads,
                             int64_t first, int64_t count, int64_t limit, float *to) {
    int64_t features = job->features;
    for (int64_t i = 0; i < count; i++) {
        if (first + i >= limit) { memset(to + i * features, 0, features * sizeof(float)); continue; }
        const int64_t at = ((start + first + i) * heads + head) * features;
        for (int64_t f = 0; f < features; f += W) *(vec *)(to + i * features + f) = load(from, at + f, job->is_bf16);
    }
}

static inline void store_rows(const Job *job, void *to, int64_t start, int64_t head, int64_t heads, int64_t first,
                              int64_t count, int64_t limit, const float *from) {
    int64_t features = job->features;
    for (int64_t i = 0; i < count && first + i < limit; i++) {
        const int64_t at = ((start + first + i) * heads + head) * features;
        for (int64_t f = 0; f < features; f += W) store(to, at + f, job->is_bf16, *(const vec *)(from + i * features + f));
    }
}

/* to[features][padded] from from[padded][features]; by whole vectors, as tails would cost more than they hold */
static inline void transpose(const float *from, float *to, int64_t padded, int64_t features) {
    for (int64_t j = 0; j < padded; j += W)
        for (int64_t f = 0; f < features; f++)
            for (int w = 0; w < W; w++) to[f * padded + j + w] = from[(j + w) * features + f];
}

static inline __attribute__((always_inline)) void task(const Job *job, int64_t row, int64_t kv, float *space,
                                                       const int NV) {
    const int64_t start = job->starts[row], length = job->lengths[row], features = NV * W;
    const int64_t padded = (length + W - 1) / W * W, repeat = job->heads / job->key_heads;
    float *k = space, *kt = k + padded * features, *v = kt + padded * features, *vt = v + padded * features;
    float *dk = vt + padded * features, *dv = dk + padded * features, *q = dv + padded * features;
    float *g = q + R * features, *o = g + R * features, *p = o + R * features;
    float *used = p + R * padded, *dp = used + R * padded;
    load_rows(job, job->key, start, kv, job->key_heads, 0, padded, length, k);
    load_rows(job, job->value, start, kv, job->key_heads, 0, padded, length, v);
    transpose(k, kt, padded, features);
    if (job->backward) {
        transpose(v, vt, padded, features);
        memset(dk, 0, 2 * padded * features * sizeof(float));
    }
    for (int64_t head = kv * repeat; head < (kv + 1) * repeat; head++) {
        const uint64_t stream = (uint64_t)row * job->heads + head;
        for (int64_t i = 0; i < length; i += R) {
            load_rows(job, job->query, start, head, job->heads, i, R, length, q);
            const Span span = seen(job, i, i + R - 1, length), wide = widened(span);
            products(q, kt, p, wide, padded, features);
            softmax(job, p, i, wide, length, padded);
            float *dropped = p;
            if (job->threshold) { dropout(job, p, used, stream, i, wide, padded); dropped = used; }
            if (!job->backward) {
                combine(dropped, v, o, span, padded, NV);
                store_rows(job, job->out, start, head, job->heads, i, R, length, o);
                continue;
            }
            load_rows(job, job->gradient, start, head, job->heads, i, R, length, g);
            spread(dropped, g, dv, span, padded, NV);
            products(g, vt, dp, wide, padded, features);
            /* d softmax: p * (dp - sum(p * dp)); p * dp with dropout in it is dropped * dp */
            for (int r = 0; r < R; r++) {
                vec sums = {0};
                for (int64_t j = wide.low; j < wide.high; j += W)
                    sums += *(vec *)(dropped + r * padded + j) * *(vec *)(dp + r * padded + j);
                const float sum = sum16(sums);
                for (int64_t j = wide.low; j < wide.high; j += W) {
                    vec *d = (vec *)(dp + r * padded + j);
                    *d = (*(vec *)(dropped + r * padded + j) * *d - *(vec *)(p + r * padded + j) * sum) * job->scale;
                }
            }
            combine(dp, k, o, span, padded, NV);
            store_rows(job, job->d_query, start, head, job->heads, i, R, length, o);
            spread(dp, q, dk, span, padded, NV);
        }
    }
    if (job->backward) {
        store_rows(job, job->d_key, start, kv, job->key_heads, 0, length, length, dk);
        store_rows(job, job->d_value, start, kv, job->key_heads, 0, length, length, dv);
    }
}

/* 0, or 1 when there is no memory, or 2 for a number of features that isn't 16 to 128 in steps of 16. */
int packed_attention(const Job *job) {
    const int vectors = (int)(job->features / W);
    if (job->features % W || vectors < 1 || vectors > 8) return 2;
    int64_t longest = 0, failed = 0;
    for (int64_t r = 0; r < job->rows; r++) if (job->lengths[r] > longest) longest = job->lengths[r];
    const int64_t padded = (longest + W - 1) / W * W;
    const int64_t tasks = job->rows * job->key_heads, chunk = tasks < 256 ? 1 : 4; /* few and long: one by one */
    const size_t floats = (6 * padded + 3 * R) * job->features + 3 * R * padded;
#pragma omp parallel reduction(+ : failed)
    {
        float *space = NULL;
        if (posix_memalign((void **)&space, 64, floats * sizeof(float))) { failed = 1; space = NULL; }
#pragma omp for schedule(dynamic, chunk)
        for (int64_t t = 0; t < tasks; t++) {
            if (!space) continue;
            int64_t row = t / job->key_heads, kv = t % job->key_heads;
            switch (vectors) {
            case 1: task(job, row, kv, space, 1); break;
            case 2: task(job, row, kv, space, 2); break;
            case 3: task(job, row, kv, space, 3); break;
            case 4: task(job, row, kv, space, 4); break;
            case 5: task(job, row, kv, space, 5); break;
            case 6: task(job, row, kv, space, 6); break;
            case 7: task(job, row, kv, space, 7); break;
            case 8: task(job, row, kv, space, 8); break;
            }
        }
        free(space);
    }
    return failed ? 1 : 0;
}
