/* How often a forward forks its team: five times a layer, and little beside. The figures in
 * docs/performance.md come from here. */
#include "golden.h"

#include "engine/cpu/cpu.h"
#include "engine/model/decoder.h"

static struct backend *opened;

static enum rc open_and_tell(struct backend **out, const struct backend_conf *conf, struct err *err)
{
    enum rc rc = backend_cpu_ops.open(out, conf, err);
    opened = *out;
    return rc;
}

/* Forks and barriers of one forward of n_tokens rows, one of which wants logits. */
static struct team_counts count_forward(struct decoder *d, uint32_t n_tokens)
{
    int32_t tokens[64];
    uint32_t positions[64], seq_of[64] = {0}, last = n_tokens - 1;
    static const uint32_t ids[] = {0, 1};
    struct kv_table table = {ids, 2};
    for (uint32_t i = 0; i < n_tokens; i++) {
        tokens[i] = (int32_t)i;
        positions[i] = i;
    }
    float *logits = mem_zalloc_array(decoder_modelconf(d)->n_vocab, sizeof(float));
    struct decoder_step step = {
        .tokens = tokens,
        .batch = {n_tokens, 1, positions, seq_of, &table},
        .n_logit_rows = 1,
        .logit_rows = &last,
        .logits = logits,
    };
    struct team_counts before = team_counts(cpu_of(opened)->team);
    assert_int_equal(decoder_forward(d, &step, NULL, NULL), RC_OK);
    struct team_counts after = team_counts(cpu_of(opened)->team);
    mem_free(logits);
    return (struct team_counts){after.n_forks - before.n_forks,
                                after.n_barriers - before.n_barriers};
}

/* Beside the layers: embedding, output, and what reading rows of norms may take. */
enum { AROUND = 3 };

static void check_model(const char *name, uint32_t layer_forks, uint32_t layer_barriers)
{
    char path[128];
    struct err err = {0};
    struct weight_source *source = NULL;
    struct gguf *g = NULL;
    struct decoder *d = NULL;
    struct backend_ops ops = backend_cpu_ops;
    ops.open = open_and_tell;
    struct decoder_conf conf = {
        .backend = &ops,
        .backend_conf = {.n_threads = 2, .tokens_max = 64},
        .context_tokens = 64,
        .kv_pages = 2,
        .kv_type = DTYPE_F16,
    };
    snprintf(path, sizeof(path), "tests/golden/models/%s.gguf", name);
    assert_int_equal(weight_source_open_file(&source, path, &err), RC_OK);
    assert_int_equal(gguf_open(&g, &source, 1, &err), RC_OK);
    assert_int_equal(decoder_open(&d, g, &conf, &err), RC_OK);
    uint32_t n_layers = decoder_modelconf(d)->n_layers;
    struct team_counts one = count_forward(d, 1);
    struct team_counts many = count_forward(d, 64);
    printf("%-8s %u layers: 1 row %llu forks, %llu barriers; 64 rows %llu forks, %llu barriers\n",
           name, n_layers, (unsigned long long)one.n_forks, (unsigned long long)one.n_barriers,
           (unsigned long long)many.n_forks, (unsigned long long)many.n_barriers);
    assert_true(one.n_forks <= (uint64_t)layer_forks * n_layers + AROUND);
    assert_true(one.n_barriers <= (uint64_t)layer_barriers * n_layers + AROUND);
    assert_true(many.n_forks <= (uint64_t)layer_forks * n_layers + AROUND);
    /* Many rows meet once more in every step that quantises, and where keys are stored. */
    assert_true(many.n_barriers <= (uint64_t)(layer_barriers + 5) * n_layers + AROUND);
    decoder_close(d);
    gguf_close(g);
    weight_source_close(source);
}

static void a_layer_is_five_forks(void **state)
{
    (void)state;
    check_model("llama", 6, 0);
    check_model("qwen3", 6, 0);
}

/* One fork for a whole mixture, which meets after routing twice, and before, in and after the
 * experts. */
static void a_mixture_is_one_fork(void **state)
{
    (void)state;
    check_model("mixtral", 5, 6);
    check_model("qwen3moe", 5, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_is_five_forks),
        cmocka_unit_test(a_mixture_is_one_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
