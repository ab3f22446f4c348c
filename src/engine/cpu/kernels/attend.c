/* attend.c: attention of query rows over pages; contract and arithmetic in engine/cpu/attend.h.
 *
 * A page is taken in three steps, each for all rows: raw scores, exponentials, values. With many
 * rows F16 and BF16 pages are made floats first, once for all of them. */
#include "engine/cpu/attend.h"

#include "base/assert.h"
#include "engine/cpu/kernels/attend_panel.h"

/* From so many rows on a page is worth converting. */
enum { CONVERT_ROWS_MIN = 13 };

static const float log2_e = 1.44269504088896341f;

KERN_INLINE enum panel_kind kind_of(enum dtype type)
{
    return type == DTYPE_F32    ? PANEL_F32
           : type == DTYPE_F16  ? PANEL_F16
           : type == DTYPE_BF16 ? PANEL_BF16
                                : PANEL_Q8;
}

/* ---- narrow numbers ---- */

/* n (a multiple of 16) numbers to 16-bit integers; returns what one of them is worth. */
KERN_INLINE float narrow_int(const float *in, int16_t *out, uint32_t n, float largest)
{
    wide max = wide_all(0.0f);
    for (uint32_t i = 0; i < n; i += WIDE) {
        max = wide_max(wide_abs(wide_load(in + i)), max);
    }
    wide group[WIDE_VECS];
    for (int v = 0; v < WIDE_VECS; v++) {
        group[v] = max;
    }
    float top = wide_group_max(group);
    float up = top > 0x1p-100f ? largest / top : 0.0f;
    for (uint32_t i = 0; i < n; i += WIDE) {
        wide x = wide_load(in + i) * wide_all(up);
        x = wide_min(wide_max(x, wide_all(-largest)), wide_all(largest)); /* NaN: the least */
        wide_store_i16(out + i, x);
    }
    return top / largest;
}

/* ---- begin ---- */

static void reset_row(const struct attend_layout *l, struct attend_rows *r, uint32_t i)
{
    r->max[i] = -INFINITY;
    memset(r->sums + (size_t)i * ATTEND_PANEL, 0, ATTEND_PANEL * sizeof(float));
    memset(r->acc + (size_t)i * l->d_pad, 0, l->d_pad * sizeof(float));
}

static void clear(const struct attend_layout *l, float *total)
{
    memset(total, 0, attend_total_floats(l) * sizeof(float));
    total[0] = -INFINITY;
}

/* Σ |q k| must fit 31 bits with |k| ≤ 127. */
static float q_largest(uint32_t d_pad)
{
    return d_pad <= 512 ? 32767.0f : 16383.0f;
}

static void begin(const struct attend_layout *l, struct attend_rows *r, float scale, float softcap)
{
    enum panel_kind kind = kind_of(l->type);
    float by = (softcap > 0 ? scale * 2.0f / softcap : scale) * log2_e;
    for (uint32_t i = 0; i < r->n; i++) {
        float *q = r->q + (size_t)i * l->d_pad;
        for (uint32_t c = 0; c < l->d_head; c++) {
            q[c] *= by;
        }
        for (uint32_t c = l->d_head; c < l->d_pad; c++) {
            q[c] = 0;
        }
        int16_t *narrow = r->narrow_q + (size_t)i * l->d_pad;
        if (kind == PANEL_Q8) {
            r->q_scale[i] = narrow_int(q, narrow, l->d_pad, q_largest(l->d_pad));
        }
        reset_row(l, r, i);
        clear(l, r->total + i * attend_total_floats(l));
    }
}

/* ---- softmax ---- */

/* s = cap * tanh(x), where e is 2 x in units of log2; the result too is in those units. */
KERN_INLINE wide soft_cap(wide e, float cap)
{
    wide y = wide_exp2(wide_min(e, wide_all(126.0f)));
    return wide_all(cap * log2_e) - wide_all(2.0f * cap * log2_e) / (y + wide_all(1.0f));
}

static void rescale(const struct attend_layout *l, struct attend_rows *r, uint32_t i, float max)
{
    float shrink = wide_exp2_of(r->max[i] - max);
    float *acc = r->acc + (size_t)i * l->d_pad;
    float *sums = r->sums + (size_t)i * ATTEND_PANEL;
    for (uint32_t c = 0; c < l->d_pad; c += WIDE) {
        wide_store(acc + c, wide_load(acc + c) * wide_all(shrink));
    }
    for (int c = 0; c < ATTEND_PANEL; c += WIDE) {
        wide_store(sums + c, wide_load(sums + c) * wide_all(shrink));
    }
    r->max[i] = max;
}

enum { PAGE_VECS = KV_PAGE_TOKENS / WIDE };

/* Scores of row i in log2 units, those outside [from, to) at minus infinity; returns the largest.
 * `scales` are those of the keys, NULL without Q8. */
KERN_INLINE float load_scores(const struct attend_rows *r, uint32_t i, uint32_t from, uint32_t to,
                              float softcap, const float *scales, wide s[PAGE_VECS])
{
    const float *in = r->scores + (size_t)i * KV_PAGE_TOKENS;
    wide max[WIDE_VECS];
    for (int v = 0; v < PAGE_VECS; v++) {
        s[v] = wide_load(in + WIDE * v);
        if (scales != NULL) {
            wide by = wide_load(scales + WIDE * v) * wide_all(r->q_scale[i]);
            s[v] = wide_from_int((wide_int)s[v]) * by;
        }
        if (softcap > 0) {
            s[v] = soft_cap(s[v], softcap);
        }
        if (from > 0 || to < KV_PAGE_TOKENS) {
            s[v] = wide_inside(s[v], wide_all(-INFINITY), WIDE * v, (int32_t)from, (int32_t)to);
        }
        max[v % WIDE_VECS] =
            wide_max(s[v], v < WIDE_VECS ? wide_all(-INFINITY) : max[v % WIDE_VECS]);
    }
    return wide_group_max(max);
}

/* What row i sees of the page that begins at position `base`; nothing: false and p = 0. */
KERN_INLINE bool row_view(const struct attend_rows *r, uint32_t i, uint32_t base, uint32_t *from,
                          uint32_t *to)
{
    const struct attend_row *row = &r->row[i];
    *from = row->first > base ? MIN(row->first - base, (uint32_t)KV_PAGE_TOKENS) : 0;
    *to = row->last >= base ? MIN(row->last - base + 1, (uint32_t)KV_PAGE_TOKENS) : 0;
    return *from < *to;
}

KERN_INLINE void soften(const struct attend_layout *l, struct attend_rows *r, uint32_t i,
                        uint32_t base, float softcap, const float *k_scales, const float *v_scales)
{
    enum panel_kind kind = kind_of(l->type);
    uint32_t from;
    uint32_t to;
    float *p = r->scores + (size_t)i * KV_PAGE_TOKENS;
    int16_t *narrow = r->narrow_p + (size_t)i * KV_PAGE_TOKENS;
    if (!row_view(r, i, base, &from, &to)) {
        memset(p, 0, KV_PAGE_TOKENS * sizeof(float));
        memset(narrow, 0, KV_PAGE_TOKENS * sizeof(int16_t));
        r->p_scale[i] = 0;
        return;
    }
    wide s[PAGE_VECS];
    float max = load_scores(r, i, from, to, softcap, k_scales, s);
    if (max > r->max[i]) {
        rescale(l, r, i, max);
    }
    wide top = wide_all(r->max[i]);
    float *sums = r->sums + (size_t)i * ATTEND_PANEL;
    for (int v = 0; v < PAGE_VECS; v++) {
        wide e = wide_exp2(s[v] - top);
        float *sum = sums + v % WIDE_VECS * WIDE;
        wide_store(sum, wide_load(sum) + e);
        wide_store(p + WIDE * v, v_scales != NULL ? e * wide_load(v_scales + WIDE * v) : e);
    }
    if (kind == PANEL_Q8) {
        r->p_scale[i] = narrow_int(p, narrow, KV_PAGE_TOKENS, 32767.0f);
    }
}

/* ---- a page ---- */

/* Panels of `kind` as floats, k-major as PANEL_F32 has them. */
KERN_INLINE void to_floats(enum panel_kind kind, const unsigned char *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 2 * WIDE_GROUP) {
        for (int v = 0; v < WIDE_VECS; v++) {
            wide_store(out + i + WIDE * v, panel_load(kind, in + 2 * i, v, 0));
            wide_store(out + i + WIDE_GROUP + WIDE * v, panel_load(kind, in + 2 * i, v, 1));
        }
    }
}

/* One page for all rows. */
struct page_call {
    const struct attend_layout *l;
    struct attend_rows *r;
    uint32_t from, to; /* rows */
    const unsigned char *block;
    ptrdiff_t ahead;
    uint32_t base;   /* position of the page's first key */
    uint32_t k0, k1; /* keys that some row sees, rounded outwards to pairs */
    float softcap;
};

KERN_INLINE void page_scores(enum panel_kind kind, const struct page_call *p)
{
    const struct attend_rows *r = p->r;
    const uint32_t d = p->l->d_pad;
    bool narrow = panel_narrow(kind);
    struct panel_call c = {
        .a = narrow ? (const void *)(r->narrow_q + (size_t)p->from * d)
                    : (const void *)(r->q + (size_t)p->from * d),
        .a_stride = d,
        .b = p->block,
        .panel_bytes = ATTEND_PANEL * d * p->l->item_bytes,
        .n_panels = KV_PAGE_TOKENS / ATTEND_PANEL,
        .ahead = p->ahead,
        .k1 = d,
        .c = r->scores + (size_t)p->from * KV_PAGE_TOKENS,
        .c_stride = KV_PAGE_TOKENS,
    };
    if (!narrow && kind != PANEL_F32 && p->to - p->from >= CONVERT_ROWS_MIN) {
        to_floats(kind, c.b, r->page, (size_t)KV_PAGE_TOKENS * d);
        c.b = r->page;
        c.panel_bytes = ATTEND_PANEL * d * sizeof(float);
        panel_all(PANEL_F32, PANEL_SCORES, p->to - p->from, c);
        return;
    }
    panel_all(kind, PANEL_SCORES, p->to - p->from, c);
}

KERN_INLINE void page_values(enum panel_kind kind, const struct page_call *p)
{
    const struct attend_rows *r = p->r;
    const uint32_t d = p->l->d_pad;
    bool narrow = panel_narrow(kind);
    size_t row = (size_t)p->from * KV_PAGE_TOKENS;
    struct panel_call c = {
        .a = narrow ? (const void *)(r->narrow_p + row) : (const void *)(r->scores + row),
        .a_stride = KV_PAGE_TOKENS,
        .b = p->block + p->l->v_at,
        .panel_bytes = ATTEND_PANEL * KV_PAGE_TOKENS * p->l->item_bytes,
        .n_panels = d / ATTEND_PANEL,
        .ahead = p->ahead,
        .k0 = p->k0,
        .k1 = p->k1,
        .c = r->acc + (size_t)p->from * d,
        .c_stride = d,
        .scale = r->p_scale + p->from,
    };
    if (!narrow && kind != PANEL_F32 && p->to - p->from >= CONVERT_ROWS_MIN) {
        to_floats(kind, c.b, r->page, (size_t)KV_PAGE_TOKENS * d);
        c.b = r->page;
        c.panel_bytes = ATTEND_PANEL * KV_PAGE_TOKENS * sizeof(float);
        panel_all(PANEL_F32, PANEL_VALUES, p->to - p->from, c);
        return;
    }
    panel_all(kind, PANEL_VALUES, p->to - p->from, c);
}

KERN_INLINE void page_all(enum panel_kind kind, const struct page_call *p)
{
    const float *k_scales = NULL;
    const float *v_scales = NULL;
    if (kind == PANEL_Q8) {
        k_scales = (const float *)(const void *)(p->block + p->l->k_scales_at);
        v_scales = (const float *)(const void *)(p->block + p->l->v_scales_at);
    }
    page_scores(kind, p);
    for (uint32_t i = p->from; i < p->to; i++) {
        if (p->softcap > 0) {
            soften(p->l, p->r, i, p->base, p->softcap, k_scales, v_scales);
        } else {
            soften(p->l, p->r, i, p->base, 0, k_scales, v_scales);
        }
    }
    page_values(kind, p);
}

static __attribute__((noinline)) void page_f32(const struct page_call *p)
{
    page_all(PANEL_F32, p);
}

static __attribute__((noinline)) void page_f16(const struct page_call *p)
{
    page_all(PANEL_F16, p);
}

static __attribute__((noinline)) void page_bf16(const struct page_call *p)
{
    page_all(PANEL_BF16, p);
}

static __attribute__((noinline)) void page_q8(const struct page_call *p)
{
    page_all(PANEL_Q8, p);
}

/* Cuts [from, to) down to the rows from the first to the last that see the page, and finds which
 * keys they see; false when none does. */
static bool page_view(struct page_call *p)
{
    uint32_t low = KV_PAGE_TOKENS;
    uint32_t high = 0;
    uint32_t begin_row = p->to;
    uint32_t end_row = p->from;
    for (uint32_t i = p->from; i < p->to; i++) {
        uint32_t from;
        uint32_t to;
        if (row_view(p->r, i, p->base, &from, &to)) {
            low = MIN(low, from);
            high = MAX(high, to);
            begin_row = MIN(begin_row, i);
            end_row = i + 1;
        }
    }
    p->from = begin_row;
    p->to = end_row;
    p->k0 = low & ~1u;
    p->k1 = (high + 1) & ~1u;
    return low < high;
}

static void pages(const struct attend_layout *l, struct attend_rows *r, uint32_t from, uint32_t to,
                  const struct attend_pages *p, float softcap)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const unsigned char *block = p->base + p->ids[i] * p->stride;
        const unsigned char *next = p->base + p->ids[i + 1 < p->n ? i + 1 : i] * p->stride;
        struct page_call call = {
            .l = l,
            .r = r,
            .from = from,
            .to = to,
            .block = block,
            .ahead = next - block,
            .base = p->position + i * KV_PAGE_TOKENS,
            .softcap = softcap,
        };
        if (!page_view(&call)) {
            continue;
        }
        switch (kind_of(l->type)) {
        case PANEL_F32:
            page_f32(&call);
            break;
        case PANEL_F16:
            page_f16(&call);
            break;
        case PANEL_BF16:
            page_bf16(&call);
            break;
        case PANEL_Q8:
            page_q8(&call);
            break;
        }
    }
}

/* ---- totals ---- */

/* into (max, sum, acc) takes up another softmax over other keys; one that saw none changes
 * nothing. */
KERN_INLINE void take_up(const struct attend_layout *l, float *into, float max, float sum,
                         const float *acc)
{
    if (max == -INFINITY) {
        return;
    }
    float top = into[0] > max ? into[0] : max;
    float mine = wide_exp2_of(into[0] - top);
    float theirs = wide_exp2_of(max - top);
    into[0] = top;
    into[1] = into[1] * mine + sum * theirs;
    float *to = into + ATTEND_PANEL;
    for (uint32_t c = 0; c < l->d_pad; c += WIDE) {
        wide old = wide_load(to + c) * wide_all(mine);
        wide_store(to + c, wide_fma(wide_load(acc + c), wide_all(theirs), old));
    }
}

static void fold(const struct attend_layout *l, struct attend_rows *r, uint32_t i, float *into)
{
    const float *sums = r->sums + (size_t)i * ATTEND_PANEL;
    take_up(l, into, r->max[i], wide_group_sum(sums), r->acc + (size_t)i * l->d_pad);
    reset_row(l, r, i);
}

static void merge(const struct attend_layout *l, float *into, const float *from)
{
    take_up(l, into, from[0], from[1], from + ATTEND_PANEL);
}

/* Adding zero makes -0, which depends on the keys that were skipped, +0. */
static void finish(const struct attend_layout *l, const float *total, const float *sink, float *out)
{
    float scale = 1.0f;
    float sum = total[1];
    if (sink != NULL) {
        float top = total[0] > *sink * log2_e ? total[0] : *sink * log2_e;
        scale = wide_exp2_of(total[0] - top);
        sum = sum * scale + wide_exp2_of(*sink * log2_e - top);
    }
    scale = sum > 0 ? scale / sum : 0.0f;
    for (uint32_t c = 0; c < l->d_head; c++) {
        out[c] = total[ATTEND_PANEL + c] * scale + 0.0f;
    }
}

/* ---- store ---- */

/* Sixteen channels of a position as a page keeps them. */
union items {
    float f32[ATTEND_PANEL];
    uint16_t half[ATTEND_PANEL];
    int8_t code[ATTEND_PANEL];
};

/* x times `up` (Q8 alone). NaN becomes the least: the second operand of a maximum wins. */
KERN_INLINE void make_items(enum panel_kind kind, const float *x, float up, union items *out)
{
    const wide most = wide_all(kind == PANEL_Q8 ? 127.0f : kind == PANEL_F16 ? HALF_MAX : 0x1p127f);
    for (int i = 0; i < ATTEND_PANEL; i += WIDE) {
        wide v = wide_load(x + i);
        v = kind == PANEL_Q8 ? v * wide_all(up) : v;
        v = wide_min(wide_max(v, -most), most);
        if (kind == PANEL_F32) {
            wide_store(out->f32 + i, v);
        } else if (kind == PANEL_F16) {
            wide_store_f16(out->half + i, v);
        } else if (kind == PANEL_BF16) {
            wide_store_bf16(out->half + i, v);
        } else {
            int16_t whole[WIDE];
            wide_store_i16(whole, v);
            for (int j = 0; j < WIDE; j++) {
                out->code[i + j] = (int8_t)whole[j];
            }
        }
    }
}

/* Item i to its place n items after `to`. */
KERN_INLINE void put_item(enum panel_kind kind, unsigned char *to, size_t n, const union items *x,
                          uint32_t i)
{
    if (kind == PANEL_F32) {
        memcpy(to + 4 * n, &x->f32[i], sizeof(x->f32[i]));
    } else if (kind == PANEL_Q8) {
        memcpy(to + n, &x->code[i], sizeof(x->code[i]));
    } else {
        memcpy(to + 2 * n, &x->half[i], sizeof(x->half[i]));
    }
}

/* Keys of channels [c, c + n) into column `slot`. */
KERN_INLINE void put_keys(enum panel_kind kind, unsigned char *k, uint32_t d_pad, uint32_t slot,
                          uint32_t c, uint32_t n, const union items *x)
{
    size_t at = (size_t)slot / ATTEND_PANEL * ATTEND_PANEL * d_pad;
    size_t lane = slot % ATTEND_PANEL;
    bool pairs = kind == PANEL_BF16 || kind == PANEL_Q8;
    for (uint32_t i = 0; i < n; i++) {
        size_t row = c + i;
        size_t in =
            pairs ? (row / 2 * ATTEND_PANEL + lane) * 2 + row % 2 : row * ATTEND_PANEL + lane;
        put_item(kind, k, at + in, x, i);
    }
}

/* Values of the 16 channels from c on into row `slot`. */
KERN_INLINE void put_values(enum panel_kind kind, unsigned char *v, uint32_t slot, uint32_t c,
                            const union items *x)
{
    size_t at = (size_t)c * KV_PAGE_TOKENS;
    if (kind == PANEL_F32) {
        memcpy(v + 4 * (at + (size_t)slot * ATTEND_PANEL), x->f32, sizeof(x->f32));
        return;
    }
    if (kind == PANEL_F16) {
        memcpy(v + 2 * (at + (size_t)slot * ATTEND_PANEL), x->half, sizeof(x->half));
        return;
    }
    for (uint32_t i = 0; i < ATTEND_PANEL; i++) {
        put_item(kind, v, at + (slot / 2 * ATTEND_PANEL + i) * 2 + slot % 2, x, i);
    }
}

/* Largest |x|, at most 2^127; NaN counts as nothing. */
static float largest(const float *x, uint32_t n)
{
    float top = 0;
    for (uint32_t c = 0; c < n; c++) {
        float a = fabsf(x[c]);
        top = a > top ? a : top;
    }
    return MIN(top, 0x1p127f);
}

KERN_INLINE void store_kind(enum panel_kind kind, const struct attend_layout *l,
                            unsigned char *block, uint32_t slot, const float *k, const float *v)
{
    const float *rows[2] = {k, v};
    float up[2] = {0, 0};
    for (int i = 0; i < 2 && kind == PANEL_Q8; i++) {
        float top = largest(rows[i], l->d_head);
        float d = top / 127.0f;
        up[i] = top > 0x1p-100f ? 127.0f / top : 0.0f;
        size_t at = (i == 0 ? l->k_scales_at : l->v_scales_at) + slot * sizeof(d);
        memcpy(block + at, &d, sizeof(d));
    }
    for (uint32_t c = 0; c < l->d_head; c += ATTEND_PANEL) {
        uint32_t n = MIN(l->d_head - c, (uint32_t)ATTEND_PANEL);
        for (int i = 0; i < 2; i++) {
            float part[ATTEND_PANEL] = {0};
            union items x;
            memcpy(part, rows[i] + c, n * sizeof(float));
            make_items(kind, n < ATTEND_PANEL ? part : rows[i] + c, up[i], &x);
            if (i == 0) {
                put_keys(kind, block, l->d_pad, slot, c, n, &x);
            } else {
                put_values(kind, block + l->v_at, slot, c, &x);
            }
        }
    }
}

static void store(const struct attend_layout *l, unsigned char *block, uint32_t slot,
                  const float *k, const float *v)
{
    ASSERT(slot < KV_PAGE_TOKENS);
    switch (kind_of(l->type)) {
    case PANEL_F32:
        store_kind(PANEL_F32, l, block, slot, k, v);
        break;
    case PANEL_F16:
        store_kind(PANEL_F16, l, block, slot, k, v);
        break;
    case PANEL_BF16:
        store_kind(PANEL_BF16, l, block, slot, k, v);
        break;
    case PANEL_Q8:
        store_kind(PANEL_Q8, l, block, slot, k, v);
        break;
    }
}

extern const struct kern_attend_table KERN_NAME(kern_attend);
const struct kern_attend_table KERN_NAME(kern_attend) = {
    .begin = begin,
    .pages = pages,
    .clear = clear,
    .fold = fold,
    .merge = merge,
    .finish = finish,
    .store = store,
};
