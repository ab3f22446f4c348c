/* cmd_show.c: `bud show`: what is in a GGUF file, and what it will cost in memory. */
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "engine/engine.h"
#include "engine/model/modelconf.h"

enum { SHOW_ARRAY_ITEMS = 4, SHOW_TEXT_CHARS = 60 };

static const struct args_row cmd_show_options[] = {
    {"--json", 0, NULL, "print JSON"},
    {"--tensors", 0, NULL, "list every tensor"},
    {"--ctx", 'c', "N", "context for the memory bill (default: the model's, at most 8192)"},
    {0},
};

struct show {
    const struct gguf *g;
    uint32_t context_asked;
    uint32_t n_sources;
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
};

/* ---- the memory bill ---- */

struct show_bill {
    uint64_t n_params, weight_bytes, kv_bytes_per_token, kv_bytes, workspace_bytes;
    uint32_t context;
    uint32_t pooling; /* of models that embed or rank; they keep no KV cache */
};

/* "llama.block_count" for "block_count". */
static void show_key(const struct gguf *g, const char *name, char out[96])
{
    struct str arch;
    if (gguf_get_str(g, "general.architecture", STR_LIT("?"), &arch, NULL) != RC_OK) {
        arch = STR_LIT("?"); /* not a string: then no key of the architecture is found either */
    }
    snprintf(out, 96, "%.*s.%s", (int)MIN(arch.len, (size_t)40), arch.ptr, name);
}

static uint32_t show_u32(const struct gguf *g, const char *name, uint32_t fallback)
{
    char key[96];
    show_key(g, name, key);
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv == NULL || kv->n == 0 || kv->strings != NULL) {
        return fallback;
    }
    int64_t value = gguf_kv_i64(kv, 0);
    return value < 0 || value > UINT32_MAX ? fallback : (uint32_t)value;
}

static void show_bill(const struct show *s, struct show_bill *b)
{
    const struct gguf *g = s->g;
    *b = (struct show_bill){0};
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        uint64_t n = 1;
        for (uint32_t d = 0; d < t->n_dims; d++) {
            n *= t->dims[d]; /* gguf_open has checked the product */
        }
        b->n_params += n;
        b->weight_bytes += t->n_bytes;
    }
    struct modelconf c;
    if (modelconf_init(&c, g, NULL) == RC_OK) {
        b->pooling = c.embeds ? c.pooling : b->pooling;
        b->workspace_bytes = modelconf_row_floats(&c) * sizeof(float) * ENGINE_BATCH_DEFAULT;
    }
    modelconf_deinit(&c);
    uint32_t n_heads = show_u32(g, "attention.head_count", 0);
    uint32_t n_embd = show_u32(g, "embedding_length", 0);
    uint32_t d_head = show_u32(g, "attention.key_length", n_heads != 0 ? n_embd / n_heads : 0);
    uint32_t n_kv = show_u32(g, "attention.head_count_kv", n_heads);
    b->kv_bytes_per_token =
        (uint64_t)show_u32(g, "block_count", 0) * n_kv * d_head * 2 /* k, v */ * 2 /* f16 */;
    uint32_t trained = show_u32(g, "context_length", 0);
    b->context = s->context_asked != 0 ? s->context_asked : MIN(trained, 8192u);
    if (b->pooling != 0) {
        b->kv_bytes_per_token = 0;
    }
    b->kv_bytes = b->kv_bytes_per_token * b->context;
}

/* ---- text ---- */

static void show_scalar(const struct gguf_kv *kv, uint64_t idx, struct buf *out)
{
    enum gguf_type type = kv->type == GGUF_ARRAY ? kv->item_type : kv->type;
    if (type == GGUF_STRING) {
        struct str s = gguf_kv_str(kv, idx);
        buf_add_cstr(out, "\"");
        print_escaped(out, s, SHOW_TEXT_CHARS);
        buf_add_cstr(out, "\"");
    } else if (type == GGUF_F32 || type == GGUF_F64) {
        buf_add_printf(out, "%g", gguf_kv_f64(kv, idx));
    } else if (type == GGUF_BOOL) {
        buf_add_cstr(out, gguf_kv_i64(kv, idx) != 0 ? "true" : "false");
    } else {
        buf_add_printf(out, "%lld", (long long)gguf_kv_i64(kv, idx));
    }
}

static void show_kv(const struct gguf_kv *kv, struct buf *out)
{
    buf_add_cstr(out, "  ");
    print_escaped(out, kv->key, 80);
    buf_add_cstr(out, " = ");
    if (kv->type != GGUF_ARRAY) {
        show_scalar(kv, 0, out);
    } else {
        buf_add_printf(out, "[%llu × %s]", (unsigned long long)kv->n,
                       gguf_type_name(kv->item_type));
        for (uint64_t i = 0; i < MIN(kv->n, (uint64_t)SHOW_ARRAY_ITEMS); i++) {
            buf_add_cstr(out, i == 0 ? " " : ", ");
            show_scalar(kv, i, out);
        }
        buf_add_cstr(out, kv->n > SHOW_ARRAY_ITEMS ? ", …" : "");
    }
    buf_add_cstr(out, "\n");
}

static void show_dims(const struct gguf_tensor *t, struct buf *out)
{
    for (uint32_t d = 0; d < t->n_dims; d++) {
        buf_add_printf(out, "%s%llu", d == 0 ? "" : " × ", (unsigned long long)t->dims[d]);
    }
}

static void show_tensors(const struct gguf *g, struct buf *out)
{
    buf_add_cstr(out, "\ntensors\n");
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        buf_add_cstr(out, "  ");
        print_escaped(out, t->name, 80);
        buf_add_printf(out, "  %s  ", dtype_row(t->type)->name);
        show_dims(t, out);
        buf_add_cstr(out, "\n");
    }
}

static void show_text(const struct show *s, bool tensors, struct buf *out)
{
    const struct gguf *g = s->g;
    struct show_bill b;
    char weight[32], workspace[32];
    char kv[32];
    show_bill(s, &b);
    buf_add_printf(out, "%s: GGUF v%u, %u metadata keys, %u tensors\n\nmetadata\n", gguf_name(g),
                   gguf_version(g), gguf_n_kv(g), gguf_n_tensors(g));
    for (uint32_t i = 0; i < gguf_n_kv(g); i++) {
        show_kv(gguf_kv_at(g, i), out);
    }
    if (tensors) {
        show_tensors(g, out);
    }
    print_bytes(weight, b.weight_bytes);
    print_bytes(kv, b.kv_bytes);
    print_bytes(workspace, b.workspace_bytes);
    buf_add_printf(out, "\nmemory\n  weights       %s (%.2f billion parameters)\n", weight,
                   (double)b.n_params * 1e-9);
    if (b.pooling != 0) {
        buf_add_printf(out, "  KV cache      none: it %s\n",
                       b.pooling == POOLING_RANK ? "ranks documents" : "makes embeddings");
    } else {
        buf_add_printf(out, "  KV cache      %s for %u tokens (%llu bytes a token, f16)\n", kv,
                       b.context, (unsigned long long)b.kv_bytes_per_token);
    }
    if (b.workspace_bytes != 0) {
        buf_add_printf(out, "  workspace     %s for a step of %d rows, and some MiB a thread\n",
                       workspace, ENGINE_BATCH_DEFAULT);
    }
}

/* ---- JSON ---- */

static void show_json_value(struct json_writer *w, const struct gguf_kv *kv, uint64_t idx)
{
    enum gguf_type type = kv->type == GGUF_ARRAY ? kv->item_type : kv->type;
    if (type == GGUF_STRING) {
        json_write_str(w, gguf_kv_str(kv, idx));
    } else if (type == GGUF_F32 || type == GGUF_F64) {
        json_write_f64(w, gguf_kv_f64(kv, idx));
    } else if (type == GGUF_BOOL) {
        json_write_bool(w, gguf_kv_i64(kv, idx) != 0);
    } else {
        json_write_i64(w, gguf_kv_i64(kv, idx));
    }
}

static void show_json_metadata(struct json_writer *w, const struct gguf *g)
{
    json_write_name(w, "metadata");
    json_write_object_begin(w);
    for (uint32_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        char key[256];
        str_copy(key, sizeof(key), kv->key);
        json_write_name(w, key);
        if (kv->type != GGUF_ARRAY) {
            show_json_value(w, kv, 0);
            continue;
        }
        json_write_array_begin(w);
        for (uint64_t k = 0; k < kv->n; k++) {
            show_json_value(w, kv, k);
        }
        json_write_array_end(w);
    }
    json_write_object_end(w);
}

static void show_json_tensors(struct json_writer *w, const struct gguf *g)
{
    json_write_name(w, "tensors");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        json_write_object_begin(w);
        json_write_member_str(w, "name", t->name);
        json_write_member_cstr(w, "type", dtype_row(t->type)->name);
        json_write_name(w, "shape");
        json_write_array_begin(w);
        for (uint32_t d = 0; d < t->n_dims; d++) {
            json_write_u64(w, t->dims[d]);
        }
        json_write_array_end(w);
        json_write_name(w, "bytes");
        json_write_u64(w, t->n_bytes);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

static void show_json(const struct show *s, struct buf *out)
{
    struct json_writer w;
    struct show_bill b;
    show_bill(s, &b);
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "file", gguf_name(s->g));
    json_write_member_i64(&w, "version", gguf_version(s->g));
    show_json_metadata(&w, s->g);
    show_json_tensors(&w, s->g);
    json_write_name(&w, "memory");
    json_write_object_begin(&w);
    json_write_member_i64(&w, "parameters", (int64_t)b.n_params);
    json_write_member_i64(&w, "weight_bytes", (int64_t)b.weight_bytes);
    json_write_member_i64(&w, "kv_bytes_per_token", (int64_t)b.kv_bytes_per_token);
    json_write_member_i64(&w, "context_tokens", b.context);
    json_write_member_i64(&w, "kv_bytes", (int64_t)b.kv_bytes);
    json_write_member_i64(&w, "workspace_bytes", (int64_t)b.workspace_bytes);
    json_write_object_end(&w);
    json_write_object_end(&w);
    buf_add_byte(out, '\n');
}

/* ---- command ---- */

static enum rc cmd_show_main(const struct args *a, struct err *err)
{
    struct show s = {0};
    struct gguf *g = NULL;
    char path[PATH_MAX];
    enum rc rc = args_u32(a, "--ctx", 1, 1 << 24, &s.context_asked, err);
    rc = rc == RC_OK ? model_path_find(args_word(a, 0), path, err) : rc;
    rc = rc == RC_OK ? weight_source_open_model(s.sources, &s.n_sources, path, err) : rc;
    rc = rc == RC_OK ? gguf_open(&g, s.sources, s.n_sources, err) : rc;
    if (rc == RC_OK) {
        s.g = g;
        struct buf out;
        buf_init(&out, (size_t)1 << 30);
        if (args_has(a, "--json")) {
            show_json(&s, &out);
        } else {
            show_text(&s, args_has(a, "--tensors"), &out);
        }
        rc = print_buf(&out, err);
        buf_deinit(&out);
    }
    gguf_close(g);
    for (uint32_t i = 0; i < s.n_sources; i++) {
        weight_source_close(s.sources[i]);
    }
    return rc;
}

const struct command cmd_show = {
    .name = "show",
    .words = "FILE",
    .line = "Show a model file's metadata, tensors and memory bill",
    .options = cmd_show_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_show_main,
};
