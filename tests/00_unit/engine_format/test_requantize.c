/* The writer and the requantizer: whole files, read again. */
#include "check.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "engine/format/gguf_write.h"
#include "engine/format/quant.h"
#include "engine/format/requantize.h"
#include "gguf_make.h"

static char folder[] = "/tmp/bud-quantize-XXXXXX";
static char path[64];

static uint32_t files_in_folder(void)
{
    uint32_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

/* ---- a small model in memory ---- */

enum { COLS = 256, ROWS = 24 };

struct model {
    struct gguf_make make;
    struct gguf_make_source source;
    struct gguf *gguf;
};

static void add_floats(struct buf *b, size_t n, struct rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        float v = (float)(rng_unit(rng) + rng_unit(rng) - 1);
        buf_add(b, &v, sizeof(v));
    }
}

/* Four tensors: a matrix, a norm, a matrix of width 100, an output. `poison` goes into weight 300
 * of the matrix. */
static void model_init(struct model *m, float poison)
{
    struct rng rng;
    rng_init(&rng, 3);
    gguf_make_begin(&m->make, 3, 4, 5);
    gguf_make_kv_str(&m->make, "general.architecture", "llama");
    gguf_make_kv_u32(&m->make, "llama.block_count", 16);
    gguf_make_kv_u32(&m->make, "general.file_type", 0);
    gguf_make_key(&m->make, "split.count", GGUF_U16);
    buf_add(&m->make.bytes, &(uint16_t){1}, 2);
    gguf_make_key(&m->make, "words", GGUF_ARRAY);
    gguf_make_u32(&m->make, GGUF_STRING);
    gguf_make_u64(&m->make, 2);
    gguf_make_str(&m->make, "a");
    gguf_make_str(&m->make, "bc");
    uint64_t at = 0;
    gguf_make_tensor(&m->make, "blk.2.attn_q.weight", DTYPE_F32, 2, (uint64_t[]){COLS, ROWS}, at);
    at += COLS * ROWS * 4;
    gguf_make_tensor(&m->make, "blk.2.attn_norm.weight", DTYPE_F32, 1, (uint64_t[]){8}, at);
    at += 32;
    gguf_make_tensor(&m->make, "blk.2.ffn_up.weight", DTYPE_F32, 2, (uint64_t[]){100, 4}, at);
    at += 1600;
    gguf_make_tensor(&m->make, "output.weight", DTYPE_F32, 2, (uint64_t[]){COLS, 8}, at);
    gguf_make_data(&m->make, 0);
    size_t data = m->make.bytes.len;
    add_floats(&m->make.bytes, COLS * ROWS + 8 + 400 + COLS * 8, &rng);
    memcpy(m->make.bytes.ptr + data + 300 * sizeof(float), &poison, sizeof(poison));
    gguf_make_source_init(&m->source, "in.gguf", m->make.bytes.ptr, m->make.bytes.len);
    struct weight_source *list[] = {&m->source.source};
    struct err err = {0};
    if (gguf_open(&m->gguf, list, 1, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
}

static void model_deinit(struct model *m)
{
    gguf_close(m->gguf);
    gguf_make_end(&m->make);
}

static struct gguf *open_output(struct weight_source **s)
{
    struct err err = {0};
    struct gguf *g = NULL;
    if (weight_source_open_file(s, path, &err) != RC_OK || gguf_open(&g, s, 1, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return g;
}

/* Largest error of a tensor against the model's, relative to weights below 1. */
static double worst_error(const struct model *m, const struct gguf *g, const char *name)
{
    const struct gguf_tensor *a = gguf_find_tensor(m->gguf, name);
    const struct gguf_tensor *b = gguf_find_tensor(g, name);
    size_t n = (size_t)(a->n_bytes / 4);
    float *x = test_malloc(n * sizeof(*x));
    quant_dequantize(b->type, gguf_source(g, 0)->map + b->offset, x, n);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, m->source.bytes + a->offset + 4 * i, sizeof(want));
        worst = fmax(worst, fabs((double)x[i] - (double)want));
    }
    test_free(x);
    return worst;
}

/* ---- requantize ---- */

static uint64_t last_done, last_total;

static void note_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done > last_done);
    last_done = done;
    last_total = total;
}

static void requantize_writes_a_whole_model(void **state)
{
    (void)state;
    static const char *const mixes[] = {"Q8_0", "Q4_0", "Q4_K_M", "Q2_K", "IQ4_XS", "F16", "BF16"};
    struct model m;
    model_init(&m, 0.25F);
    for (size_t i = 0; i < ARRAY_LEN(mixes); i++) {
        struct requantize_conf conf = {.mix = mixes[i], .n_threads = 3, .progress = note_progress};
        struct requantize_result result;
        struct err err = {0};
        last_done = 0;
        if (requantize_model(m.gguf, path, &conf, &result, &err) != RC_OK) {
            fail_msg("%s", err.msg);
        }
        assert_true(last_done == last_total && last_total == result.bytes_before);
        struct weight_source *s;
        struct gguf *g = open_output(&s);
        assert_int_equal(gguf_n_tensors(g), 4);
        assert_int_equal(gguf_find_tensor(g, "blk.2.attn_norm.weight")->type, DTYPE_F32);
        assert_true(worst_error(&m, g, "blk.2.attn_norm.weight") == 0);
        double q = worst_error(&m, g, "blk.2.attn_q.weight");
        assert_true(q > 0 && q < (i == 3 ? 0.4 : 0.2));
        assert_true(worst_error(&m, g, "blk.2.ffn_up.weight") < 0.005);
        uint32_t version, type;
        assert_int_equal(gguf_need_u32(g, "general.quantization_version", &version, &err), RC_OK);
        assert_int_equal(version, 2);
        assert_int_equal(gguf_need_u32(g, "general.file_type", &type, &err), RC_OK);
        assert_true(type > 0);
        assert_null(gguf_find(g, "split.count"));
        assert_true(str_is(gguf_kv_str(gguf_find(g, "words"), 1), "bc"));
        assert_int_equal(result.n_quantized, 3);
        assert_int_equal(result.n_kept, 1);
        assert_int_equal(result.n_fallback, i < 5 ? 1 : 0);
        gguf_close(g);
        weight_source_close(s);
        assert_int_equal(files_in_folder(), 1);
        unlink(path);
    }
    model_deinit(&m);
}

static void requantize_gives_the_same_bytes_on_any_number_of_threads(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 0.25F);
    unsigned char *first = NULL;
    for (uint32_t n = 1; n <= 5; n += 2) {
        struct requantize_conf conf = {.mix = "Q4_K_S", .n_threads = n};
        m.source.source.map = n == 3 ? NULL : m.source.bytes; /* read, not mapped */
        assert_int_equal(requantize_model(m.gguf, path, &conf, NULL, NULL), RC_OK);
        struct weight_source *s;
        assert_int_equal(weight_source_open_file(&s, path, NULL), RC_OK);
        if (first == NULL) {
            first = test_malloc((size_t)s->size_bytes);
            memcpy(first, s->map, (size_t)s->size_bytes);
        }
        assert_memory_equal(first, s->map, (size_t)s->size_bytes);
        weight_source_close(s);
    }
    test_free(first);
    unlink(path);
    model_deinit(&m);
}

/* Runs and expects a failure that says `text` and leaves no file. */
static void expect_failure(const struct gguf *g, const char *mix, enum rc want, const char *text)
{
    struct requantize_conf conf = {.mix = mix, .n_threads = 2};
    struct err err = {0};
    assert_int_equal(requantize_model(g, path, &conf, NULL, &err), want);
    if (strstr(err.msg, text) == NULL) {
        fail_msg("'%s' does not say '%s'", err.msg, text);
    }
    assert_int_equal(files_in_folder(), 0);
}

static void requantize_says_what_it_refuses(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, NAN);
    expect_failure(m.gguf, "Q9", RC_INVALID, "unknown type 'Q9'; known are F32, F16");
    expect_failure(m.gguf, "Q4_K_M", RC_INVALID,
                   "tensor 'blk.2.attn_q.weight': row 1: weight 44 is nan");
    model_deinit(&m);
}

static void requantize_does_not_degrade_twice_unasked(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 0.25F);
    struct requantize_conf conf = {.mix = "Q8_0"};
    assert_int_equal(requantize_model(m.gguf, path, &conf, NULL, NULL), RC_OK);
    struct weight_source *s;
    struct gguf *g = open_output(&s);
    unlink(path);
    expect_failure(g, "Q4_0", RC_INVALID, "is quantised already (Q8_0)");
    conf = (struct requantize_conf){.mix = "Q4_0", .allow_requantize = true};
    assert_int_equal(requantize_model(g, path, &conf, NULL, NULL), RC_OK);
    unlink(path);
    gguf_close(g);
    weight_source_close(s);
    model_deinit(&m);
}

static void requantize_survives_a_full_disk(void **state)
{
    (void)state;
    struct model m;
    model_init(&m, 0.25F);
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    struct rlimit small = {4096, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct requantize_conf conf = {.mix = "F16"};
    struct err err = {0};
    enum rc rc = requantize_model(m.gguf, path, &conf, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, RC_IO);
    assert_non_null(strstr(err.msg, "File too large"));
    assert_int_equal(files_in_folder(), 0);
    conf.mix = "Q8_0";
    assert_int_equal(requantize_model(m.gguf, "/nowhere/x.gguf", &conf, NULL, &err), RC_IO);
    assert_non_null(strstr(err.msg, "/nowhere/x.gguf"));
    model_deinit(&m);
}

static void requantize_turns_a_real_model(void **state)
{
    (void)state;
    const char *in = "tests/golden/models/llama.gguf"; /* F32, of the repository */
    check_need_file(in);
    struct weight_source *s, *out;
    struct gguf *g;
    struct err err;
    assert_int_equal(weight_source_open_file(&s, in, &err), RC_OK);
    assert_int_equal(gguf_open(&g, &s, 1, &err), RC_OK);
    struct requantize_conf conf = {.mix = "Q4_K_M"};
    struct requantize_result r;
    assert_int_equal(requantize_model(g, path, &conf, &r, &err), RC_OK);
    assert_true(r.n_fallback > 0); /* widths that 256 does not divide */
    struct gguf *h = open_output(&out);
    assert_int_equal(gguf_n_tensors(h), gguf_n_tensors(g));
    assert_int_equal(gguf_find_tensor(h, "blk.1.attn_q.weight")->type, DTYPE_F16);
    gguf_close(h);
    weight_source_close(out);
    gguf_close(g);
    weight_source_close(s);
    unlink(path);
}

/* ---- the writer alone ---- */

static void gguf_writer_makes_what_the_reader_reads(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_create(NULL);
    gguf_writer_set_u32(w, "a.b", 7);
    struct gguf_tensor t = {.name = STR_LIT("t"), .type = DTYPE_Q8_0, .n_dims = 2, .dims = {32, 3}};
    struct gguf_tensor u = {.name = STR_LIT("u"), .type = DTYPE_F32, .n_dims = 1, .dims = {3}};
    struct gguf_tensor odd = {.name = STR_LIT("o"), .type = DTYPE_Q8_0, .n_dims = 1, .dims = {33}};
    struct err err = {0};
    assert_int_equal(gguf_writer_add_tensor(w, &t, &err), RC_OK);
    assert_int_equal(gguf_writer_add_tensor(w, &u, &err), RC_OK);
    assert_int_equal(gguf_writer_add_tensor(w, &odd, &err), RC_INVALID);
    assert_int_equal(gguf_writer_begin(w, path, &err), RC_OK);
    unsigned char bytes[102];
    memset(bytes, 0x5A, sizeof(bytes));
    assert_int_equal(gguf_writer_data(w, bytes, 50, &err), RC_OK);
    assert_int_equal(gguf_writer_data(w, bytes, 52, &err), RC_OK);
    assert_int_equal(gguf_writer_data(w, bytes, 12, &err), RC_OK);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(gguf_writer_end(w, &err), RC_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal((uint64_t)st.st_size, gguf_writer_bytes(w));
    gguf_writer_close(w);
    gguf_writer_close(NULL);
    struct weight_source *s;
    struct gguf *g = open_output(&s);
    uint32_t v;
    assert_int_equal(gguf_need_u32(g, "a.b", &v, &err), RC_OK);
    assert_int_equal(v, 7);
    const struct gguf_tensor *got = gguf_find_tensor(g, "u");
    assert_int_equal(got->n_bytes, 12);
    assert_memory_equal(s->map + got->offset, bytes, 12);
    assert_memory_equal(s->map + gguf_find_tensor(g, "t")->offset, bytes, 102);
    gguf_close(g);
    weight_source_close(s);
    unlink(path);
}

static void gguf_writer_leaves_nothing_when_given_up(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_create(NULL);
    struct gguf_tensor t = {.name = STR_LIT("t"), .type = DTYPE_F32, .n_dims = 1, .dims = {64}};
    assert_int_equal(gguf_writer_add_tensor(w, &t, NULL), RC_OK);
    assert_int_equal(gguf_writer_begin(w, path, NULL), RC_OK);
    assert_int_equal(files_in_folder(), 1);
    gguf_writer_close(w);
    assert_int_equal(files_in_folder(), 0);
}

static int make_folder(void **state)
{
    (void)state;
    bool ok = mkdtemp(folder) != NULL;
    snprintf(path, sizeof(path), "%s/out.gguf", folder);
    return !ok;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_writer_makes_what_the_reader_reads),
        cmocka_unit_test(gguf_writer_leaves_nothing_when_given_up),
        cmocka_unit_test(requantize_writes_a_whole_model),
        cmocka_unit_test(requantize_gives_the_same_bytes_on_any_number_of_threads),
        cmocka_unit_test(requantize_says_what_it_refuses),
        cmocka_unit_test(requantize_does_not_degrade_twice_unasked),
        cmocka_unit_test(requantize_survives_a_full_disk),
        cmocka_unit_test(requantize_turns_a_real_model),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
