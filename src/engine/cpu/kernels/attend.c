/* attend.c: attention of the query heads of one group over the pages of a sequence.
 *
 * Per page of 32 keys, in order: scores of all 32 (K lies as [D][32], so that a step over the
 * channels adds to 32 sums at once), their maximum, exponentials, then values. The first and last
 * page may be seen in part. Every sum runs in the order of channels or of positions, so that a
 * result depends on the row alone. */
#include "engine/cpu/kernels/vec.h"

#include <math.h>

enum { ATTEND_KEY_VECS = KV_PAGE_TOKENS / 8 };

/* State of the query heads of a call, laid out in the caller's scratch. */
struct attend_state {
    float *acc;   /* [n_group, d_head], not yet divided by sum */
    float *probs; /* [n_group, 32] */
    float *max;   /* [n_group] */
    float *sum;   /* [n_group] */
};

KERN_INLINE f8 load_items(const unsigned char *base, size_t i, bool half)
{
    return half ? f8_load_f16(base + 2 * i) : f8_load((const float *)(const void *)base + i);
}

/* ---- scores ---- */

/* Raw scores of n_heads heads from head h on. */
KERN_INLINE void score_heads(const struct kern_attend *a, const unsigned char *k, float *scores,
                             uint32_t h, uint32_t n_heads, bool half)
{
    f8 s[2][ATTEND_KEY_VECS];
    for (uint32_t i = 0; i < n_heads; i++) {
        for (int v = 0; v < ATTEND_KEY_VECS; v++) {
            s[i][v] = f8_all(0.0f);
        }
    }
    const float *q = a->q + (size_t)h * a->d_head;
    for (uint32_t c = 0; c < a->d_head; c++) {
        for (int v = 0; v < ATTEND_KEY_VECS; v++) {
            f8 keys = load_items(k, (size_t)c * KV_PAGE_TOKENS + 8 * (size_t)v, half);
            for (uint32_t i = 0; i < n_heads; i++) {
                s[i][v] = f8_fma(f8_all(q[i * a->d_head + c]), keys, s[i][v]);
            }
        }
    }
    for (uint32_t i = 0; i < n_heads; i++) {
        for (int v = 0; v < ATTEND_KEY_VECS; v++) {
            f8_store(scores + (h + i) * KV_PAGE_TOKENS + 8 * v, s[i][v]);
        }
    }
}

/* s = cap * tanh(s / cap) = cap - 2 cap / (e^(2 s / cap) + 1) */
KERN_INLINE f8 soft_cap(f8 s, float cap)
{
    f8 e = f8_exp(s * f8_all(2.0f / cap));
    return f8_all(cap) - f8_all(2.0f * cap) / (e + f8_all(1.0f));
}

/* Scores of one head to exponentials, zero outside [from, to); rescales what was summed so far. */
KERN_INLINE void soften(const struct kern_attend *a, struct attend_state *st, uint32_t h,
                        uint32_t from, uint32_t to)
{
    float *p = st->probs + h * KV_PAGE_TOKENS;
    f8 best = f8_all(-INFINITY);
    for (uint32_t i = 0; i < KV_PAGE_TOKENS; i += 8) {
        f8 s = f8_load(p + i) * f8_all(a->scale);
        if (a->softcap > 0) {
            s = soft_cap(s, a->softcap);
        }
        int32_t n = (int32_t)i;
        i8x index = {n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7};
        i8x seen = (index >= (int32_t)from) & (index < (int32_t)to);
        s = f8_select(seen, s, f8_all(-INFINITY));
        f8_store(p + i, s);
        best = f8_max(s, best);
    }
    float max = f8_max_of(best);
    if (max > st->max[h]) {
        f8 shrink = f8_exp(f8_all(st->max[h] - max));
        st->sum[h] *= shrink[0];
        for (uint32_t c = 0; c < a->d_head; c++) {
            st->acc[h * a->d_head + c] *= shrink[0];
        }
        st->max[h] = max;
    }
    f8 sum = f8_all(0.0f);
    for (uint32_t i = 0; i < KV_PAGE_TOKENS; i += 8) {
        f8 e = f8_exp(f8_load(p + i) - f8_all(st->max[h]));
        f8_store(p + i, e);
        sum += e;
    }
    st->sum[h] += f8_sum(sum);
}

/* ---- values ---- */

/* n_heads heads from h on, n_vecs vectors of channels from c on. */
KERN_INLINE void value_tile(const struct kern_attend *a, const struct attend_state *st,
                            const unsigned char *v, uint32_t from, uint32_t to, uint32_t h,
                            uint32_t n_heads, uint32_t c, uint32_t n_vecs, bool half)
{
    f8 acc[2][4];
    for (uint32_t i = 0; i < n_heads; i++) {
        for (uint32_t j = 0; j < n_vecs; j++) {
            acc[i][j] = f8_load(st->acc + (h + i) * a->d_head + c + 8 * j);
        }
    }
    for (uint32_t p = from; p < to; p++) {
        for (uint32_t j = 0; j < n_vecs; j++) {
            f8 values = load_items(v, (size_t)p * a->d_head + c + 8 * j, half);
            for (uint32_t i = 0; i < n_heads; i++) {
                f8 weight = f8_all(st->probs[(h + i) * KV_PAGE_TOKENS + p]);
                acc[i][j] = f8_fma(weight, values, acc[i][j]);
            }
        }
    }
    for (uint32_t i = 0; i < n_heads; i++) {
        for (uint32_t j = 0; j < n_vecs; j++) {
            f8_store(st->acc + (h + i) * a->d_head + c + 8 * j, acc[i][j]);
        }
    }
}

/* The channels that do not fill a vector, one by one. */
KERN_INLINE void value_rest(const struct kern_attend *a, const struct attend_state *st,
                            const unsigned char *v, uint32_t from, uint32_t to, uint32_t h,
                            uint32_t c, bool half)
{
    float acc = st->acc[h * a->d_head + c];
    for (uint32_t p = from; p < to; p++) {
        size_t at = (size_t)p * a->d_head + c;
        float value;
        if (half) {
            uint16_t bits;
            memcpy(&bits, v + 2 * at, sizeof(bits));
            value = half_to_f32(bits);
        } else {
            memcpy(&value, v + 4 * at, sizeof(value));
        }
        acc += st->probs[h * KV_PAGE_TOKENS + p] * value;
    }
    st->acc[h * a->d_head + c] = acc;
}

KERN_INLINE void value_heads(const struct kern_attend *a, const struct attend_state *st,
                             const unsigned char *v, uint32_t from, uint32_t to, uint32_t h,
                             uint32_t n_heads, bool half)
{
    uint32_t c = 0;
    for (; c + 32 <= a->d_head; c += 32) {
        value_tile(a, st, v, from, to, h, n_heads, c, 4, half);
    }
    for (; c + 8 <= a->d_head; c += 8) {
        value_tile(a, st, v, from, to, h, n_heads, c, 1, half);
    }
    for (; c < a->d_head; c++) {
        for (uint32_t i = 0; i < n_heads; i++) {
            value_rest(a, st, v, from, to, h + i, c, half);
        }
    }
}

/* ---- a call ---- */

KERN_INLINE void attend_page(const struct kern_attend *a, struct attend_state *st, uint32_t page,
                             bool half)
{
    size_t at = a->page_ids[page] * a->page_stride;
    const unsigned char *k = a->k_base + at;
    const unsigned char *v = a->v_base + at;
    uint32_t base = page * KV_PAGE_TOKENS;
    uint32_t from = a->first > base ? a->first - base : 0;
    uint32_t to = MIN(a->last - base + 1, (uint32_t)KV_PAGE_TOKENS);
    uint32_t h = 0;
    for (; h + 2 <= a->n_group; h += 2) {
        score_heads(a, k, st->probs, h, 2, half);
    }
    if (h < a->n_group) {
        score_heads(a, k, st->probs, h, 1, half);
    }
    for (h = 0; h < a->n_group; h++) {
        soften(a, st, h, from, to);
    }
    for (h = 0; h + 2 <= a->n_group; h += 2) {
        value_heads(a, st, v, from, to, h, 2, half);
    }
    if (h < a->n_group) {
        value_heads(a, st, v, from, to, h, 1, half);
    }
}

/* Divides by the sum, to which a sink adds its own exponential. */
KERN_INLINE void finish_head(const struct kern_attend *a, const struct attend_state *st, uint32_t h)
{
    float scale = 1.0f;
    float sum = st->sum[h];
    if (a->sinks != NULL) {
        float max = st->max[h] > a->sinks[h] ? st->max[h] : a->sinks[h];
        f8 e = f8_exp((f8){st->max[h] - max, a->sinks[h] - max});
        scale = e[0];
        sum = sum * e[0] + e[1];
    }
    for (uint32_t c = 0; c < a->d_head; c++) {
        a->out[h * a->d_head + c] = st->acc[h * a->d_head + c] * scale / sum;
    }
}

KERN_INLINE void attend(const struct kern_attend *a, bool half)
{
    size_t n_acc = (size_t)a->n_group * a->d_head;
    struct attend_state st = {.probs = a->scratch, .acc = a->scratch + a->n_group * KV_PAGE_TOKENS};
    st.max = st.acc + n_acc;
    st.sum = st.max + a->n_group;
    memset(st.acc, 0, n_acc * sizeof(float));
    for (uint32_t h = 0; h < a->n_group; h++) {
        st.max[h] = -INFINITY;
        st.sum[h] = 0.0f;
    }
    for (uint32_t page = a->first / KV_PAGE_TOKENS; page <= a->last / KV_PAGE_TOKENS; page++) {
        attend_page(a, &st, page, half);
    }
    for (uint32_t h = 0; h < a->n_group; h++) {
        finish_head(a, &st, h);
    }
}

static void attend_f16(const struct kern_attend *a)
{
    attend(a, true);
}

static void attend_f32(const struct kern_attend *a)
{
    attend(a, false);
}

static void to_f16(const float *in, uint16_t *out, uint32_t n)
{
    uint32_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((void *)(out + i), h);
    }
#endif
    for (; i < n; i++) {
        out[i] = half_from_f32(in[i]);
    }
}

extern const struct kern_attend_table KERN_NAME(kern_attend);
const struct kern_attend_table KERN_NAME(kern_attend) = {attend_f16, attend_f32, to_f16};
