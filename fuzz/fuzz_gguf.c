/* Whatever gguf_open accepts can be walked to its last byte: every value, every string, every
 * tensor's bytes as floats. What it refuses is refused in one line that names the file. The same
 * bytes are opened as a mapped source and as one that is only read, with the same outcome. */
#include <stdlib.h>

#include "../tests/gguf_make.h"
#include "base/assert.h"
#include "engine/format/quant.h"

enum { FLOATS_MAX = 4096 };

static double fuzz_walk_kv(const struct gguf *g, const struct gguf_kv *kv)
{
    double sum = (double)kv->key.len;
    ASSERT(kv->key.len > 0 && kv->key.ptr[kv->key.len] == '\0');
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->item_type == GGUF_STRING) {
            struct str s = gguf_kv_str(kv, i);
            ASSERT(s.ptr[s.len] == '\0');
            sum += s.len > 0 ? s.ptr[0] + s.ptr[s.len - 1] : 0;
        } else {
            sum += (double)gguf_kv_i64(kv, i) + gguf_kv_f64(kv, i);
        }
    }
    uint32_t u;
    float f;
    bool b;
    struct str s;
    struct err err = {0};
    bool any = gguf_get_u32(g, kv->key.ptr, 0, &u, &err) == RC_OK;
    any = gguf_get_f32(g, kv->key.ptr, 0, &f, &err) == RC_OK || any;
    any = gguf_get_bool(g, kv->key.ptr, false, &b, &err) == RC_OK || any;
    any = gguf_get_str(g, kv->key.ptr, STR_NULL, &s, &err) == RC_OK || any;
    ASSERT(any || err.msg[0] != '\0');
    ASSERT(gguf_find(g, kv->key.ptr) == kv);
    return sum;
}

static void fuzz_walk_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
    static _Alignas(32) unsigned char blocks[FLOATS_MAX * 4];
    static float out[FLOATS_MAX];
    struct weight_source *s = gguf_source(g, t->source_idx);
    ASSERT(t->offset <= s->size_bytes && t->n_bytes <= s->size_bytes - t->offset);
    ASSERT(gguf_find_tensor(g, t->name.ptr) == t);
    uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    if (n <= FLOATS_MAX && s->read_at(s, t->offset, blocks, (size_t)t->n_bytes, NULL) == RC_OK) {
        quant_dequantize(t->type, blocks, out, (size_t)n);
    }
}

static enum rc fuzz_open(struct gguf_make_source *src, struct err *err)
{
    struct weight_source *list[] = {&src->source};
    struct gguf *g = NULL;
    enum rc rc = gguf_open(&g, list, 1, err);
    ASSERT((rc == RC_OK) == (g != NULL));
    if (g == NULL) {
        ASSERT(str_starts(str_from(err->msg), STR_LIT("fuzz.gguf: ")));
        ASSERT(strchr(err->msg, '\n') == NULL);
        return rc;
    }
    double sum = 0;
    for (uint32_t i = 0; i < gguf_n_kv(g); i++) {
        sum += fuzz_walk_kv(g, gguf_kv_at(g, i));
    }
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        fuzz_walk_tensor(g, gguf_tensor_at(g, i));
    }
    gguf_close(g);
    volatile double sink = sum; /* or the reads would be optimised away */
    (void)sink;
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_make_source src;
    struct err mapped = {0};
    struct err read = {0};
    gguf_make_source_init(&src, "fuzz.gguf", data, size);
    enum rc rc = fuzz_open(&src, &mapped);
    src.source.map = NULL;
    ASSERT(fuzz_open(&src, &read) == rc);
    ASSERT(strcmp(mapped.msg, read.msg) == 0);
    return 0;
}
