/* Files whose keys or tensors do not fit together: every one is a one-line error naming what. */
#include "check.h"

#include "base/mem.h"
#include "engine/cpu/ref.h"
#include "engine/model/decoder.h"
#include "tiny.h"

/* Opens a decoder on the model; its error message in err. */
static enum rc try_open(struct tiny *t, bool mapped, struct err *err)
{
    struct gguf *g = tiny_open(t);
    if (!mapped) {
        t->source.source.map = NULL;
    }
    struct decoder_conf conf = {
        .backend = backend_find("ref"),
        .backend_conf = {.tokens_max = 4},
        .context_tokens = 64,
        .kv_pages = 2,
        .kv_type = DTYPE_F32,
    };
    struct decoder *d = NULL;
    enum rc rc = decoder_open(&d, g, &conf, err);
    if (rc == RC_OK) {
        const int32_t token[] = {TINY_VOCAB - 1};
        const uint32_t zero[] = {0};
        const struct kv_table table = {zero, 1};
        float logits[TINY_VOCAB];
        struct decoder_step s = {
            .tokens = token,
            .batch = {1, 1, zero, zero, &table},
            .n_logit_rows = 1,
            .logit_rows = zero,
            .logits = logits,
        };
        assert_int_equal(decoder_forward(d, &s, NULL, NULL), RC_OK);
    }
    decoder_close(d);
    tiny_end(t);
    return rc;
}

static void expect(struct tiny *t, enum rc want, const char *message)
{
    struct err err = {0};
    assert_int_equal(try_open(t, true, &err), want);
    assert_memory_equal(err.msg, "tiny.gguf: ", 11);
    if (strstr(err.msg, message) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", err.msg, message);
    }
}

static void a_whole_model_opens_mapped_or_read(void **state)
{
    (void)state;
    struct tiny t;
    struct err err = {0};
    tiny_begin(&t);
    assert_int_equal(try_open(&t, true, &err), RC_OK);
    tiny_begin(&t);
    assert_int_equal(try_open(&t, false, &err), RC_OK);
}

/* A backend that packs every matrix into one byte. */
static enum rc packing_prepare(struct backend *b, struct weight *w, struct err *err)
{
    w->packed = mem_zalloc(1);
    w->packed_bytes = 1;
    return ref_backend_ops.weight_prepare(b, w, err);
}

static void packing_release(struct backend *b, struct weight *w)
{
    mem_free(w->packed);
    w->packed = NULL;
    ref_backend_ops.weight_release(b, w);
}

static struct backend_ops packing_ops;

static enum rc packing_open(struct backend **out, const struct backend_conf *conf, struct err *err)
{
    enum rc rc = ref_backend_ops.open(out, conf, err);
    (*out)->ops = &packing_ops;
    return rc;
}

static uint64_t dropped_bytes;

static void count_drop(struct weight_source *s, uint64_t offset, uint64_t n)
{
    assert_true(offset <= s->size_bytes && n <= s->size_bytes - offset);
    dropped_bytes += n;
}

static void packed_weights_are_billed_and_dropped(void **state)
{
    (void)state;
    struct tiny t;
    tiny_begin(&t);
    struct gguf *g = tiny_open(&t);
    t.source.source.drop = count_drop;
    packing_ops = ref_backend_ops;
    packing_ops.open = packing_open;
    packing_ops.weight_prepare = packing_prepare;
    packing_ops.weight_release = packing_release;
    struct decoder_conf conf = {
        .backend = &packing_ops,
        .backend_conf = {.tokens_max = 4},
        .context_tokens = 64,
        .kv_pages = 2,
    };
    struct decoder *d = NULL;
    assert_int_equal(decoder_open(&d, g, &conf, NULL), RC_OK);
    uint64_t matrices =
        4 * (TINY_EMBD * TINY_VOCAB + 4 * TINY_EMBD * TINY_EMBD + 3 * TINY_EMBD * TINY_FF);
    uint64_t vectors = 4 * 3 * TINY_EMBD;
    assert_int_equal(dropped_bytes, matrices);
    assert_int_equal(decoder_memory(d).weight_bytes, vectors + 8);
    assert_int_equal(decoder_weights(d)->n_bytes, matrices + vectors);
    decoder_close(d);
    tiny_end(&t);
}

static void missing_tensors_are_named(void **state)
{
    (void)state;
    static const char *const names[] = {"token_embd.weight",      "output_norm.weight",
                                        "blk.0.attn_norm.weight", "blk.0.attn_v.weight",
                                        "blk.0.ffn_down.weight",  "blk.0.ffn_gate.weight"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tiny t;
        tiny_begin(&t);
        tiny_drop(&t, names[i]);
        char message[128];
        (void)snprintf(message, sizeof(message), "tensor '%s' is missing", names[i]);
        expect(&t, RC_CORRUPT, message);
    }
}

static void wrong_shapes_are_named(void **state)
{
    (void)state;
    struct tiny t;
    tiny_begin(&t);
    tiny_shape(&t, "blk.0.attn_k.weight", TINY_EMBD, 4);
    expect(&t, RC_CORRUPT,
           "tensor 'blk.0.attn_k.weight' has shape {8, 4, 1, 1}, expected {8, 8, 1, 1}");
    tiny_begin(&t);
    tiny_shape(&t, "blk.0.ffn_down.weight", TINY_EMBD, TINY_FF);
    expect(&t, RC_CORRUPT,
           "tensor 'blk.0.ffn_down.weight' has shape {8, 16, 1, 1}, expected {16, 8, 1, 1}");
    tiny_begin(&t);
    tiny_shape(&t, "output_norm.weight", TINY_EMBD - 1, 0);
    expect(&t, RC_CORRUPT,
           "tensor 'output_norm.weight' has shape {7, 1, 1, 1}, expected {8, 1, 1, 1}");
    tiny_begin(&t);
    tiny_shape(&t, "output.weight", TINY_EMBD, TINY_VOCAB + 1);
    expect(&t, RC_CORRUPT, "tensor 'output.weight' has shape {8, 6, 1, 1}, expected {8, 5, 1, 1}");
}

static void strange_tensors_are_named(void **state)
{
    (void)state;
    struct tiny t;
    tiny_begin(&t);
    tiny_shape(&t, "blk.0.attn_q_norm.weight", 4, 0);
    expect(&t, RC_UNSUPPORTED, "tensor 'blk.0.attn_q_norm.weight' has no place in a llama model");
    tiny_begin(&t);
    tiny_shape(&t, "blk.1.attn_norm.weight", TINY_EMBD, 0);
    expect(&t, RC_UNSUPPORTED, "tensor 'blk.1.attn_norm.weight' has no place in a llama model");
}

static void keys_out_of_range_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
        const char *message;
        enum rc rc;
    } rows[] = {
        {"llama.block_count", 0, "key 'llama.block_count' is 0, expected 1 to 1024", RC_CORRUPT},
        {"llama.block_count", 4000000000u,
         "key 'llama.block_count' is 4000000000, expected 1 to 1024", RC_CORRUPT},
        {"llama.block_count", 2, "tensor 'blk.1.attn_norm.weight' is missing", RC_CORRUPT},
        {"llama.embedding_length", 0, "key 'llama.embedding_length' is 0, expected 1 to 262144",
         RC_CORRUPT},
        {"llama.attention.head_count", 0,
         "key 'llama.attention.head_count' is 0, expected 1 to 262144", RC_CORRUPT},
        {"llama.attention.head_count_kv", 3,
         "key 'llama.attention.head_count_kv' is 3, expected 1 to 2", RC_CORRUPT},
        {"llama.attention.head_count", 3,
         "tensor 'blk.0.attn_q.weight' has shape {8, 8, 1, 1}, expected {8, 6, 1, 1}", RC_CORRUPT},
        {"llama.attention.key_length", 5000,
         "key 'llama.attention.key_length' is 5000, expected 2 to 1024", RC_CORRUPT},
        {"llama.attention.value_length", 2, "keys of 4 channels and values of 2", RC_UNSUPPORTED},
        {"llama.rope.dimension_count", 3, "key 'llama.rope.dimension_count' is 3, which is odd",
         RC_CORRUPT},
        {"llama.rope.dimension_count", 6, "key 'llama.rope.dimension_count' is 6, expected 2 to 4",
         RC_CORRUPT},
        {"llama.expert_count", 5000, "key 'llama.expert_count' is 5000, expected 0 to 1024",
         RC_CORRUPT},
        {"llama.expert_count", 4, "key 'llama.expert_used_count' is missing", RC_CORRUPT},
        {"llama.context_length", 0, "key 'llama.context_length' is 0, expected 1 to 16777216",
         RC_CORRUPT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tiny t;
        tiny_begin(&t);
        tiny_set(&t, rows[i].key, rows[i].value);
        expect(&t, rows[i].rc, rows[i].message);
    }
}

static void missing_keys_are_named(void **state)
{
    (void)state;
    struct tiny t;
    tiny_begin(&t);
    tiny_drop_key(&t, "llama.attention.head_count");
    expect(&t, RC_CORRUPT, "key 'llama.attention.head_count' is missing");
}

static void unknown_architectures_get_the_list(void **state)
{
    (void)state;
    struct tiny t;
    tiny_begin(&t);
    tiny_set_text(&t, "general.architecture", "mamba");
    expect(&t, RC_UNSUPPORTED,
           "architecture 'mamba' is not known; known are llama, qwen2, qwen3, "
           "qwen3moe, gemma2, gemma3, phi3, gpt-oss");
    tiny_begin(&t);
    tiny_set_text(&t, "llama.rope.scaling.type", "spiral");
    expect(&t, RC_UNSUPPORTED, "rope scaling 'spiral' is not known");
    tiny_begin(&t);
    tiny_set_text(&t, "llama.rope.scaling.type", "yarn");
    expect(&t, RC_CORRUPT, "yarn without rope.scaling.original_context_length");
    tiny_begin(&t);
    tiny_set(&t, "llama.expert_count", 1);
    tiny_set(&t, "llama.expert_used_count", 2);
    expect(&t, RC_CORRUPT, "key 'llama.expert_used_count' is 2, expected 1 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_model_opens_mapped_or_read),
        cmocka_unit_test(packed_weights_are_billed_and_dropped),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(wrong_shapes_are_named),
        cmocka_unit_test(strange_tensors_are_named),
        cmocka_unit_test(keys_out_of_range_are_named),
        cmocka_unit_test(missing_keys_are_named),
        cmocka_unit_test(unknown_architectures_get_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
