/* attend.h: the attention kernels' interface: query rows over pages of keys and values.
 *
 * A "query row" is one query head of one token. A call takes up to ATTEND_ROWS_MAX of them that
 * read the same key/value head through the same pages: the heads of a group, tokens of one
 * sequence, or sequences that share a prefix.
 *
 * Arithmetic, the same for a row whatever rows it shares a call with (and so the same bits for one
 * token or many, any chunking, batch, grouping and number of threads):
 *     page of 32 keys: s = Σ q k in the order of channels, p = 2^(s - max) by online softmax
 *         (Milakov and Gimelshein 2018), acc = fmaf(p, v, acc) in the order of positions;
 *     span of ATTEND_SPAN_PAGES pages: starts from nothing, is folded into the row's total in
 * order. Scores are in units of log2: q is multiplied by scale * log2(e) once. Keys outside a row's
 * view have p = 0. With Q8 pages, q and the p of a page are rounded to 16 bits and the sums are
 * exact integers; with the other types q, p and all sums are floats.
 *
 * The keys and values of one head in a page ("block"), d = head size rounded up to 16:
 *     K: 2 panels of 16 positions, each [d][16]      V: d / 16 panels of 16 channels, each [32][16]
 * BF16 and Q8 keep pairs of rows together: [d / 2][16][2] and [16][16][2]. Q8 is followed by the
 * scales of K [32] and V [32]: float, max |x| / 127 of the position's head. What is stored is
 * finite (at most 2^127 or the type's largest; NaN becomes the least), so that a value which no row
 * sees (p = 0) adds nothing. */
#ifndef ENGINE_CPU_ATTEND_H
#define ENGINE_CPU_ATTEND_H

#include "engine/tensor/backend.h"

enum {
    ATTEND_ROWS_MAX = 128,
    ATTEND_SPAN_PAGES = 8,
    ATTEND_SPAN_TOKENS = ATTEND_SPAN_PAGES * KV_PAGE_TOKENS,
    ATTEND_PANEL = 16,      /* columns of a panel */
    ATTEND_HEAD_MAX = 1024, /* channels of a head */
    ATTEND_ALIGN = 64,      /* bytes, of scratch and blocks */
};

/* Where things are in a block. */
struct attend_layout {
    enum dtype type; /* DTYPE_F32, F16, BF16, Q8_0 (the "q8" above) */
    uint32_t d_head, d_pad;
    size_t item_bytes;
    size_t v_at, k_scales_at, v_scales_at; /* byte offsets; scales only with Q8 */
    size_t block_bytes;                    /* a multiple of ATTEND_ALIGN */
};

/* False when `type` is none that keys and values are kept in. */
MUST_CHECK bool attend_layout_init(struct attend_layout *l, enum dtype type, uint32_t d_head);

/* One row: positions first … last are seen, both included. */
struct attend_row {
    uint32_t first, last;
};

/* The rows of a call and what was computed of them so far; arrays lie in scratch of
 * attend_scratch_bytes, cut up by attend_rows_init. A row's softmax so far is max (log2 units),
 * sum and acc[d_pad], not yet divided by sum. */
struct attend_rows {
    uint32_t n;
    struct attend_row *row; /* [n] */
    float *q;               /* [n, d_pad], rotated; begin scales it */
    int16_t *narrow_q;      /* [n, d_pad] 16-bit q, where the type wants it */
    float *q_scale;         /* [n] */
    float *scores;          /* [n, 32], then p */
    int16_t *narrow_p;      /* [n, 32] */
    float *p_scale;         /* [n] */
    float *max, *acc;       /* of the span */
    float *sums;            /* [n, 16] lanes of the span's sum */
    float *total;           /* [n, attend_total_floats]: max, sum, acc */
    void *page;             /* a page's K or V as floats */
};

static inline size_t attend_total_floats(const struct attend_layout *l)
{
    return (size_t)l->d_pad + ATTEND_PANEL;
}

size_t attend_scratch_bytes(const struct attend_layout *l, uint32_t n_rows);
void attend_rows_init(struct attend_rows *r, const struct attend_layout *l, uint32_t n_rows,
                      void *scratch);

/* n pages of a sequence, the first at `position`: ids[i] is the block at base + ids[i] * stride. */
struct attend_pages {
    const unsigned char *base;
    size_t stride;
    const uint32_t *ids;
    uint32_t n, position;
};

struct kern_attend_table {
    /* Rows [0, n) with q and row set: nothing seen yet. scale and softcap as in struct attn. */
    void (*begin)(const struct attend_layout *l, struct attend_rows *r, float scale, float softcap);
    /* Rows [from, to) over pages of one span; a page that a row does not see changes nothing. */
    void (*pages)(const struct attend_layout *l, struct attend_rows *r, uint32_t from, uint32_t to,
                  const struct attend_pages *p, float softcap);
    /* An empty total. */
    void (*clear)(const struct attend_layout *l, float *total);
    /* Ends a span: into[n_floats] (a total as above) takes up what row i has, which starts anew. */
    void (*fold)(const struct attend_layout *l, struct attend_rows *r, uint32_t i, float *into);
    /* `into` takes up the total `from`: the same arithmetic as fold. */
    void (*merge)(const struct attend_layout *l, float *into, const float *from);
    /* out[d_head] = total's acc / sum; *sink, when given, is one more logit. */
    void (*finish)(const struct attend_layout *l, const float *total, const float *sink,
                   float *out);
    /* k, v[d_head] into slot [0, 32) of a block. */
    void (*store)(const struct attend_layout *l, unsigned char *block, uint32_t slot,
                  const float *k, const float *v);
};

#endif
