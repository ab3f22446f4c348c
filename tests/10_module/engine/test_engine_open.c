/* engine_open from end to end: what is refused is refused with a reason, and gives everything
 * back (the suite's leak checkers see it); what is opened needs its file's metadata no more. */
#include "golden.h"

#include <stdio.h>
#include <unistd.h>

static const char model[] = "tests/golden/models/llama.gguf";

static enum rc try_open(const char *path, const struct engine_conf *conf, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct engine *e = NULL;
    enum rc rc = weight_source_open_model(sources, &n_sources, path, err);
    if (rc == RC_OK) {
        rc = engine_open(&e, sources, n_sources, conf, err);
    }
    if (rc == RC_OK) {
        engine_close(e);
    }
    return rc;
}

static void impossible_settings_are_refused(void **state)
{
    (void)state;
    const struct {
        struct engine_conf conf;
        enum rc rc;
        const char *message;
    } rows[] = {
        {{.backend = "abacus", .kv_type = DTYPE_F16}, RC_UNSUPPORTED, "known are: cpu ref"},
        {{.kv_type = DTYPE_Q4_0}, RC_UNSUPPORTED, "f16, f32, bf16 or q8"},
        {{.kv_type = DTYPE_F16, .context_tokens = 1u << 30}, RC_INVALID, "the model has"},
        {{.kv_type = DTYPE_F16, .batch_tokens_max = 1u << 20}, RC_INVALID, "limits are"},
        {{.kv_type = DTYPE_F16, .kv_pages = UINT32_MAX}, RC_INVALID, "limits are"},
        {{.kv_type = DTYPE_F16, .kv_pages = 1 << 20, .memory_bytes_max = 64 << 20},
         RC_INVALID,
         "do not fit into the 64 MiB"},
        {{.backend = "cpu", .kv_type = DTYPE_F16, .n_threads = BACKEND_THREADS_MAX + 1},
         RC_INVALID,
         "compute threads"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = {0};
        assert_int_equal(try_open(model, &rows[i].conf, &err), rows[i].rc);
        assert_non_null(strstr(err.msg, rows[i].message));
    }
}

/* The model's bytes cut at every sixteenth of its length, into a file of its own. */
static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf whole;
    buf_init(&whole, 1 << 24);
    assert_int_equal(file_read(model, &whole, &err), RC_OK);
    char path[] = "/tmp/bud-test-open-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < 16; i++) {
        struct str part = str_slice(buf_str(&whole), 0, whole.len * i / 16);
        assert_int_equal(file_write_atomic(path, part, 0600, &err), RC_OK);
        struct engine_conf conf = {.kv_type = DTYPE_F16};
        assert_int_equal(try_open(path, &conf, &err), RC_CORRUPT);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, "at byte "));
    }
    assert_int_equal(file_write_atomic(path, buf_str(&whole), 0600, &err), RC_OK);
    struct engine_conf conf = {.kv_type = DTYPE_F16};
    assert_int_equal(try_open(path, &conf, &err), RC_OK);
    unlink(path);
    buf_deinit(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_settings_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
