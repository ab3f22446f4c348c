/* attend.c: layouts and scratch of the attention kernels. */
#include "engine/cpu/attend.h"

#include "base/assert.h"

static size_t align_up(size_t n)
{
    return (n + ATTEND_ALIGN - 1) / ATTEND_ALIGN * ATTEND_ALIGN;
}

bool attend_layout_init(struct attend_layout *l, enum dtype type, uint32_t d_head)
{
    size_t item = type == DTYPE_F32                         ? 4
                  : type == DTYPE_F16 || type == DTYPE_BF16 ? 2
                  : type == DTYPE_Q8_0                      ? 1
                                                            : 0;
    uint32_t d_pad = (d_head + ATTEND_PANEL - 1) / ATTEND_PANEL * ATTEND_PANEL;
    size_t half = (size_t)KV_PAGE_TOKENS * d_pad * item;
    size_t scales = type == DTYPE_Q8_0 ? KV_PAGE_TOKENS * sizeof(float) : 0;
    *l = (struct attend_layout){
        .type = type,
        .d_head = d_head,
        .d_pad = d_pad,
        .item_bytes = item,
        .v_at = half,
        .k_scales_at = 2 * half,
        .v_scales_at = 2 * half + scales,
        .block_bytes = 2 * (half + scales),
    };
    return item != 0;
}

/* The same cuts measure scratch (base NULL) and hand it out. */
static size_t cut(void **out, unsigned char *base, size_t at, size_t bytes)
{
    *out = base != NULL ? base + at : NULL;
    return at + align_up(bytes);
}

static size_t cut_rows(struct attend_rows *r, const struct attend_layout *l, size_t n,
                       unsigned char *base)
{
    const size_t d = l->d_pad;
    const size_t f = sizeof(float);
    size_t at = 0;
    at = cut((void **)&r->row, base, at, n * sizeof(*r->row));
    at = cut((void **)&r->q, base, at, n * d * f);
    at = cut((void **)&r->narrow_q, base, at, n * d * sizeof(int16_t));
    at = cut((void **)&r->q_scale, base, at, n * f);
    at = cut((void **)&r->scores, base, at, n * KV_PAGE_TOKENS * f);
    at = cut((void **)&r->narrow_p, base, at, n * KV_PAGE_TOKENS * sizeof(int16_t));
    at = cut((void **)&r->p_scale, base, at, n * f);
    at = cut((void **)&r->max, base, at, n * f);
    at = cut((void **)&r->acc, base, at, n * d * f);
    at = cut((void **)&r->sums, base, at, n * ATTEND_PANEL * f);
    at = cut((void **)&r->total, base, at, n * attend_total_floats(l) * f);
    return cut(&r->page, base, at, KV_PAGE_TOKENS * d * f);
}

size_t attend_scratch_bytes(const struct attend_layout *l, uint32_t n_rows)
{
    struct attend_rows r;
    return cut_rows(&r, l, n_rows, NULL);
}

void attend_rows_init(struct attend_rows *r, const struct attend_layout *l, uint32_t n_rows,
                      void *scratch)
{
    ASSERT(n_rows <= ATTEND_ROWS_MAX && scratch != NULL);
    *r = (struct attend_rows){.n = n_rows};
    (void)cut_rows(r, l, n_rows, scratch);
}
