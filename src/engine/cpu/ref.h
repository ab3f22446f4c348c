/* ref.h: what the files of the reference backend share. Not included outside engine/cpu/ref*.c
 * and their tests; the backend itself is reached through engine/tensor/backend.h. */
#ifndef ENGINE_CPU_REF_H
#define ENGINE_CPU_REF_H

#include "engine/tensor/backend.h"

extern const struct backend_ops ref_backend_ops;

/* Scratch grows while a model is loaded (weight_prepare, kv_alloc) and never later. */
struct ref {
    struct backend base; /* first: a struct backend * is a struct ref * */
    uint32_t tokens_max; /* of a call */
    float *row;          /* one weight row as floats */
    float *normed;       /* [tokens_max, widest row]: the input of a step behind its norm */
    float *expert;       /* inner activations of one expert, then its output */
    double *scores;      /* one per visible position, or per expert */
    size_t n_row, n_normed, n_expert, n_scores;
};

/* Pages of one model: [layer][page][K, V][kv head][KV_PAGE_TOKENS][D]. */
struct ref_kv {
    struct kv_shape shape;
    unsigned char *bytes;
    size_t n_bytes;
};

static inline struct ref *ref_of(struct backend *b)
{
    return CONTAINER_OF(b, struct ref, base);
}

/* Row `row` of expert `expert` as floats, valid until the next call. */
const float *ref_weight_row(struct ref *r, const struct weight *w, uint32_t expert, uint32_t row);
/* Sum of a[i] * b[i], accumulated in double. */
double ref_dot(const float *a, const float *b, uint32_t n);
/* One value of an activation; gate is 0 where it takes none. */
float ref_act(enum act_kind kind, float gate, float up);
/* One row through a norm; out == in is allowed. */
void ref_norm_row(const struct norm *norm, float *out, const float *in, uint32_t n);
/* The rows of `in` behind their norm: r->normed, or in->x where there is none. */
struct rows_in ref_normed(struct ref *r, const struct rows_in *in, uint32_t n_cols,
                          uint32_t n_tokens);

/* The entries of ref_backend_ops that live in ref_attn.c and ref_moe.c; contracts in backend.h. */
enum rc ref_kv_alloc(struct backend *b, const struct kv_shape *shape, void **kv, struct err *err);
void ref_kv_free(struct backend *b, void *kv);
void ref_kv_copy(struct backend *b, void *kv, uint32_t from_page, uint32_t to_page);
void ref_attention(struct backend *b, float *out, const struct qkv *qkv, void *kv,
                   const struct attn *a, const struct attn_batch *batch);
void ref_moe(struct backend *b, float *x, const struct rows_in *in, const struct moe *m,
             uint32_t n_tokens);

#endif
