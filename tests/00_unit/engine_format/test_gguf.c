#include "check.h"

#include <glob.h>
#include <math.h>

#include "gguf_make.h"

/* ---- right files ---- */

static struct gguf *open_bytes(struct gguf_make *m, struct gguf_make_source *src)
{
    gguf_make_source_init(src, "test.gguf", m->bytes.ptr, m->bytes.len);
    struct weight_source *list[] = {&src->source};
    struct gguf *g = NULL;
    struct err err = {0};
    if (gguf_open(&g, list, 1, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return g;
}

static void make_small(struct gguf_make *m)
{
    gguf_make_begin(m, 3, 2, 8);
    gguf_make_kv_str(m, "general.architecture", "llama");
    gguf_make_kv_u32(m, "llama.block_count", 5);
    gguf_make_key(m, "big", GGUF_U64);
    gguf_make_u64(m, (uint64_t)1 << 40);
    gguf_make_key(m, "minus", GGUF_I8);
    buf_add_byte(&m->bytes, (char)-3);
    gguf_make_key(m, "eps", GGUF_F32);
    float eps = 1e-5F;
    buf_add(&m->bytes, &eps, 4);
    gguf_make_key(m, "flag", GGUF_BOOL);
    buf_add_byte(&m->bytes, 1);
    gguf_make_key(m, "list", GGUF_ARRAY);
    gguf_make_u32(m, GGUF_I32);
    gguf_make_u64(m, 3);
    gguf_make_u32(m, 7);
    gguf_make_u32(m, (uint32_t)-8);
    gguf_make_u32(m, 9);
    gguf_make_key(m, "words", GGUF_ARRAY);
    gguf_make_u32(m, GGUF_STRING);
    gguf_make_u64(m, 2);
    gguf_make_str(m, "ab");
    gguf_make_str(m, "");
    gguf_make_tensor(m, "w", DTYPE_Q4_0, 2, (uint64_t[]){64, 2}, 0);
    gguf_make_tensor(m, "b", DTYPE_F32, 1, (uint64_t[]){4}, 96);
    gguf_make_data(m, 112);
}

static void check_small(struct gguf *g)
{
    assert_int_equal(gguf_n_kv(g), 8);
    assert_int_equal(gguf_n_tensors(g), 2);
    assert_int_equal(gguf_version(g), 3);
    assert_string_equal(gguf_name(g), "test.gguf");
    const struct gguf_kv *list = gguf_find(g, "list");
    assert_int_equal(list->n, 3);
    assert_int_equal(gguf_kv_i64(list, 1), -8);
    assert_true(gguf_kv_f64(list, 2) == 9.0);
    const struct gguf_kv *words = gguf_find(g, "words");
    assert_true(str_is(gguf_kv_str(words, 0), "ab"));
    assert_int_equal(gguf_kv_str(words, 1).len, 0);
    assert_null(gguf_find(g, "lis"));
    assert_null(gguf_find(g, "list2"));
    assert_true(str_is(gguf_kv_at(g, 0)->key, "general.architecture"));
    assert_int_equal(gguf_kv_at(g, 0)->offset, 24);
    const struct gguf_tensor *w = gguf_find_tensor(g, "w");
    assert_int_equal(w->type, DTYPE_Q4_0);
    assert_int_equal(w->n_bytes, 72);
    assert_int_equal(w->dims[0], 64);
    assert_int_equal(w->dims[1], 2);
    assert_int_equal(w->dims[3], 1);
    const struct gguf_tensor *b = gguf_find_tensor(g, "b");
    assert_int_equal(b->offset - w->offset, 96);
    assert_int_equal(w->offset % 32, 0);
    assert_int_equal(b->offset + b->n_bytes, gguf_source(g, 0)->size_bytes);
    assert_ptr_equal(gguf_tensor_at(g, 0), w);
    assert_null(gguf_find_tensor(g, "nope"));
}

static void gguf_reads_every_kind_of_value(void **state)
{
    (void)state;
    struct gguf_make m;
    make_small(&m);
    struct gguf_make_source src;
    struct gguf *g = open_bytes(&m, &src);
    check_small(g);
    uint32_t u;
    float f;
    bool flag;
    struct str s;
    struct err err;
    assert_int_equal(gguf_get_u32(g, "llama.block_count", 0, &u, &err), RC_OK);
    assert_int_equal(u, 5);
    assert_int_equal(gguf_get_u32(g, "absent", 42, &u, &err), RC_OK);
    assert_int_equal(u, 42);
    assert_int_equal(gguf_get_f32(g, "eps", 0, &f, &err), RC_OK);
    assert_true(f == 1e-5F);
    assert_int_equal(gguf_get_f32(g, "minus", 0, &f, &err), RC_OK);
    assert_true(f == -3.0F);
    assert_int_equal(gguf_get_bool(g, "flag", false, &flag, &err), RC_OK);
    assert_true(flag);
    assert_int_equal(gguf_get_bool(g, "absent", true, &flag, &err), RC_OK);
    assert_true(flag);
    assert_int_equal(gguf_need_str(g, "general.architecture", &s, &err), RC_OK);
    assert_true(str_is(s, "llama"));
    assert_int_equal(gguf_get_str(g, "absent", STR_LIT("x"), &s, &err), RC_OK);
    assert_true(str_is(s, "x"));
    gguf_close(g);
    gguf_make_end(&m);
}

static void gguf_refuses_values_of_the_wrong_kind(void **state)
{
    (void)state;
    struct gguf_make m;
    make_small(&m);
    struct gguf_make_source src;
    struct gguf *g = open_bytes(&m, &src);
    uint32_t u;
    float f;
    bool flag;
    struct str s;
    struct err err;
    assert_int_equal(gguf_get_u32(g, "general.architecture", 0, &u, &err), RC_CORRUPT);
    assert_string_equal(err.msg, "test.gguf: at byte 24: key 'general.architecture' is of type "
                                 "string, expected a whole number");
    assert_int_equal(gguf_get_u32(g, "big", 0, &u, &err), RC_CORRUPT);
    assert_int_equal(gguf_get_u32(g, "minus", 0, &u, &err), RC_CORRUPT);
    assert_non_null(strstr(err.msg, "is -3"));
    assert_int_equal(gguf_get_u32(g, "eps", 0, &u, &err), RC_CORRUPT);
    assert_int_equal(gguf_get_u32(g, "list", 0, &u, &err), RC_CORRUPT);
    assert_int_equal(gguf_get_f32(g, "words", 0, &f, &err), RC_CORRUPT);
    assert_int_equal(gguf_get_bool(g, "eps", false, &flag, &err), RC_CORRUPT);
    assert_int_equal(gguf_get_str(g, "eps", STR_NULL, &s, &err), RC_CORRUPT);
    assert_int_equal(gguf_need_u32(g, "absent", &u, &err), RC_CORRUPT);
    assert_non_null(strstr(err.msg, "'absent' is missing"));
    assert_int_equal(gguf_need_str(g, "absent", &s, NULL), RC_CORRUPT);
    gguf_close(g);
    gguf_make_end(&m);
}

static void gguf_reads_a_source_that_is_not_mapped(void **state)
{
    (void)state;
    struct gguf_make m;
    make_small(&m);
    struct gguf_make_source src;
    gguf_make_source_init(&src, "test.gguf", m.bytes.ptr, m.bytes.len);
    src.source.map = NULL;
    struct weight_source *list[] = {&src.source};
    struct gguf *g;
    assert_int_equal(gguf_open(&g, list, 1, NULL), RC_OK);
    check_small(g);
    gguf_close(g);
    gguf_make_end(&m);
}

/* ---- split files ---- */

static void make_part(struct gguf_make *m, uint32_t no, uint32_t count, const char *tensor)
{
    gguf_make_begin(m, 3, 1, 3);
    gguf_make_key(m, "split.no", GGUF_U16);
    buf_add(&m->bytes, &(uint16_t){(uint16_t)no}, 2);
    gguf_make_key(m, "split.count", GGUF_U16);
    buf_add(&m->bytes, &(uint16_t){(uint16_t)count}, 2);
    gguf_make_key(m, "split.tensors.count", GGUF_I32);
    gguf_make_u32(m, 2);
    gguf_make_tensor(m, tensor, DTYPE_F32, 1, (uint64_t[]){8}, 0);
    gguf_make_data(m, 32);
}

/* Opens two parts with the given split.no and names; expects rc, and `text` in the message. */
static void open_parts(const uint32_t no[2], uint32_t count, const char *second, enum rc want,
                       const char *text)
{
    struct gguf_make m[2];
    make_part(&m[0], no[0], count, "a");
    make_part(&m[1], no[1], count, second);
    struct gguf_make_source src[2];
    struct weight_source *list[2];
    for (int i = 0; i < 2; i++) {
        gguf_make_source_init(&src[i], i == 0 ? "p1" : "p2", m[i].bytes.ptr, m[i].bytes.len);
        list[i] = &src[i].source;
    }
    struct gguf *g;
    struct err err = {0};
    assert_int_equal(gguf_open(&g, list, 2, &err), want);
    if (want == RC_OK) {
        assert_int_equal(gguf_n_tensors(g), 2);
        assert_int_equal(gguf_find_tensor(g, "b")->source_idx, 1);
    } else if (strstr(err.msg, text) == NULL) {
        fail_msg("'%s' does not say '%s'", err.msg, text);
    }
    gguf_close(g);
    gguf_make_end(&m[0]);
    gguf_make_end(&m[1]);
}

static void gguf_joins_the_parts_of_a_split_model(void **state)
{
    (void)state;
    open_parts((uint32_t[2]){0, 1}, 2, "b", RC_OK, "");
    open_parts((uint32_t[2]){0, 0}, 2, "b", RC_CORRUPT,
               "p2: at byte 24: split.no is 0, expected 1");
    open_parts((uint32_t[2]){0, 1}, 3, "b", RC_CORRUPT, "split.count is 3, but 2 parts");
    open_parts((uint32_t[2]){0, 1}, 2, "a", RC_CORRUPT, "tensor 'a' appears twice");
}

static void gguf_refuses_one_part_alone(void **state)
{
    (void)state;
    struct gguf_make m;
    make_part(&m, 0, 2, "a");
    struct gguf_make_source src;
    gguf_make_source_init(&src, "p1", m.bytes.ptr, m.bytes.len);
    struct weight_source *list[] = {&src.source};
    struct gguf *g;
    struct err err;
    assert_int_equal(gguf_open(&g, list, 1, &err), RC_CORRUPT);
    assert_non_null(strstr(err.msg, "split.count is 2, but 1 part was opened"));
    gguf_make_end(&m);
}

/* ---- real files ---- */

static void gguf_reads_the_stories_model(void **state)
{
    (void)state;
    const char *path = "../shared/models/stories260K.gguf";
    check_need_file(path);
    struct weight_source *list[WEIGHT_SOURCES_MAX];
    uint32_t n;
    struct err err;
    assert_int_equal(weight_source_open_model(list, &n, path, &err), RC_OK);
    struct gguf *g;
    assert_int_equal(gguf_open(&g, list, n, &err), RC_OK);
    struct str arch;
    uint32_t layers;
    assert_int_equal(gguf_need_str(g, "general.architecture", &arch, &err), RC_OK);
    assert_true(str_is(arch, "llama"));
    assert_int_equal(gguf_need_u32(g, "llama.block_count", &layers, &err), RC_OK);
    assert_int_equal(layers, 5);
    assert_non_null(gguf_find_tensor(g, "token_embd.weight"));
    assert_int_equal(gguf_find_tensor(g, "blk.4.ffn_down.weight")->dims[1], 64);
    gguf_close(g);
    weight_source_close(list[0]);
}

static void gguf_reads_every_shared_vocabulary(void **state)
{
    (void)state;
    glob_t found;
    if (glob("../shared/vocabs/*.gguf", 0, NULL, &found) != 0) {
        check_skip_absent("../shared/vocabs");
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct weight_source *s;
        struct err err;
        assert_int_equal(weight_source_open_file(&s, found.gl_pathv[i], &err), RC_OK);
        struct gguf *g;
        if (gguf_open(&g, &s, 1, &err) != RC_OK) {
            fail_msg("%s", err.msg);
        }
        const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
        assert_non_null(tokens);
        assert_true(tokens->n > 10000);
        assert_non_null(tokens->strings);
        gguf_close(g);
        weight_source_close(s);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reads_every_kind_of_value),
        cmocka_unit_test(gguf_refuses_values_of_the_wrong_kind),
        cmocka_unit_test(gguf_reads_a_source_that_is_not_mapped),
        cmocka_unit_test(gguf_joins_the_parts_of_a_split_model),
        cmocka_unit_test(gguf_refuses_one_part_alone),
        cmocka_unit_test(gguf_reads_the_stories_model),
        cmocka_unit_test(gguf_reads_every_shared_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
