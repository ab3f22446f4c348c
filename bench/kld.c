/* kld.c: how far one model's next-token distributions are from another's.
 *
 *     build/bench/kld BASE OTHER
 *
 * BASE is a file that llama-perplexity --kl-divergence-base has written: tokens, and for the second
 * half of every window the log-probabilities of all tokens in 16 bits. OTHER is a second such file
 * of the same tokens, or a GGUF model, which our engine runs over them. Prints JSON:
 * mean_kld  KL(BASE || OTHER) in nats, as llama-perplexity computes it;
 * same_top  the part of positions whose likeliest token is the same;
 * tie_gap   where it is not: how far apart the two tokens are at most, in the log-probabilities of
 *           that side which sees them closer together; a tie is near 0.
 *
 * File: "_logits_", i32 window, i32 vocabulary, i32 windows, i32 tokens[windows][window]; then for
 * each position of a second half f32 scale, f32 lowest, u16 steps[vocabulary rounded up to even].
 */
#include <math.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { KLD_WINDOW_MAX = 4096, KLD_VOCAB_MAX = 1 << 20, KLD_WINDOWS_MAX = 100000 };

/* A file of log-probabilities, or an engine that makes them. */
struct kld_file {
    struct buf bytes;
    uint32_t window, vocab, n_windows;
    const int32_t *tokens;
    const uint16_t *rows;
};

struct kld_sums {
    double kld, tie_gap;
    uint64_t n, n_same;
};

static uint32_t kld_row_words(const struct kld_file *f)
{
    return 2 * ((f->vocab + 1) / 2) + 4;
}

static enum rc kld_open(struct kld_file *f, const char *path, struct err *err)
{
    int32_t head[3];
    buf_init(&f->bytes, (size_t)8 << 30);
    enum rc rc = file_read(path, &f->bytes, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct str all = buf_str(&f->bytes);
    if (!str_starts(all, STR_LIT("_logits_")) || all.len < 8 + sizeof(head)) {
        return err_set(err, RC_CORRUPT, "%s: no file of log-probabilities", path);
    }
    memcpy(head, all.ptr + 8, sizeof(head));
    if (head[0] < 4 || head[0] > KLD_WINDOW_MAX || head[1] < 2 || head[1] > KLD_VOCAB_MAX ||
        head[2] < 1 || head[2] > KLD_WINDOWS_MAX) {
        return err_set(err, RC_CORRUPT, "%s: a window of %d, %d tokens, %d windows", path, head[0],
                       head[1], head[2]);
    }
    f->window = (uint32_t)head[0];
    f->vocab = (uint32_t)head[1];
    f->n_windows = (uint32_t)head[2];
    size_t tokens = (size_t)f->window * f->n_windows;
    size_t rows = (size_t)(f->window - 1 - f->window / 2) * f->n_windows * kld_row_words(f);
    if (all.len != 8 + sizeof(head) + 4 * tokens + 2 * rows) {
        return err_set(err, RC_CORRUPT, "%s: %zu bytes, its head promises others", path, all.len);
    }
    f->tokens = (const void *)(all.ptr + 8 + sizeof(head));
    f->rows = (const void *)(f->tokens + tokens);
    return RC_OK;
}

/* Log-probabilities of scored position `row`, counted through all windows. */
static void kld_file_row(const struct kld_file *f, size_t row, float *out)
{
    const uint16_t *words = f->rows + row * kld_row_words(f);
    float scale[2];
    memcpy(scale, words, sizeof(scale));
    for (uint32_t i = 0; i < f->vocab; i++) {
        out[i] = scale[0] * (float)words[4 + i] + scale[1];
    }
}

static uint32_t kld_top(const float *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++) {
        top = x[i] > x[top] ? i : top;
    }
    return top;
}

static void kld_normalise(float *x, uint32_t n)
{
    double sum = 0;
    float most = x[kld_top(x, n)];
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)x[i] - (double)most);
    }
    float shift = (float)((double)most + log(sum));
    for (uint32_t i = 0; i < n; i++) {
        x[i] -= shift;
    }
}

static void kld_add(struct kld_sums *s, const float *base, const float *other, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (base[i] > -16.0f) {
            sum += exp((double)base[i]) * ((double)base[i] - (double)other[i]);
        }
    }
    uint32_t a = kld_top(base, n);
    uint32_t b = kld_top(other, n);
    s->kld += sum;
    s->n++;
    s->n_same += a == b;
    double gap_base = (double)base[a] - (double)base[b];
    double gap_other = (double)other[b] - (double)other[a];
    s->tie_gap = fmax(s->tie_gap, fmin(gap_base, gap_other));
}

/* ---- the two kinds of OTHER ---- */

static enum rc kld_against_file(struct kld_sums *s, const struct kld_file *base, const char *path,
                                struct err *err)
{
    struct kld_file other = {0};
    enum rc rc = kld_open(&other, path, err);
    if (rc == RC_OK && (other.window != base->window || other.vocab != base->vocab ||
                        other.n_windows != base->n_windows ||
                        memcmp(other.tokens, base->tokens,
                               sizeof(int32_t) * base->window * base->n_windows) != 0)) {
        rc = err_set(err, RC_INVALID, "%s: not of the same tokens", path);
    }
    float *a = mem_zalloc_array(base->vocab, sizeof(float));
    float *b = mem_zalloc_array(base->vocab, sizeof(float));
    size_t n = (size_t)(base->window - 1 - base->window / 2) * base->n_windows;
    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        kld_file_row(base, i, a);
        kld_file_row(&other, i, b);
        kld_add(s, a, b, base->vocab);
    }
    mem_free(a);
    mem_free(b);
    buf_deinit(&other.bytes);
    return rc;
}

static enum rc kld_open_model(struct engine **out, const struct kld_file *base, const char *path,
                              struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources = 0;
    struct engine_conf conf = {
        .kv_type = DTYPE_F16, .context_tokens = base->window, .batch_tokens_max = base->window};
    enum rc rc = weight_source_open_model(sources, &n_sources, path, err);
    rc = rc == RC_OK ? engine_open(out, sources, n_sources, &conf, err) : rc;
    if (rc == RC_OK && engine_info(*out)->n_vocab != base->vocab) {
        rc = err_set(err, RC_INVALID, "%s: another vocabulary", path);
    }
    for (size_t i = 0; rc == RC_OK && i < (size_t)base->window * base->n_windows; i++) {
        if (base->tokens[i] < 0 || (uint32_t)base->tokens[i] >= base->vocab) {
            rc = err_set(err, RC_CORRUPT, "a token that the vocabulary does not have");
        }
    }
    return rc;
}

/* One window in one step; logits of its second half but the last. */
static enum rc kld_window(struct engine *e, const struct kld_file *base, uint32_t window,
                          float *logits, struct err *err)
{
    static uint32_t positions[KLD_WINDOW_MAX], seq_of[KLD_WINDOW_MAX], wanted[KLD_WINDOW_MAX];
    static uint32_t pages[KLD_WINDOW_MAX];
    static int32_t tokens[KLD_WINDOW_MAX];
    uint32_t first = base->window / 2;
    uint32_t n_wanted = base->window - 1 - first;
    for (uint32_t i = 0; i < base->window; i++) {
        positions[i] = pages[i] = i;
        tokens[i] = base->tokens[(size_t)window * base->window + i];
        wanted[i] = first + i;
    }
    const struct vocab_special *special = vocab_special(engine_vocab(e));
    tokens[0] = special->add_bos ? special->bos : tokens[0];
    struct kv_table table = {pages, engine_info(e)->kv_pages};
    struct engine_batch batch = {.n_tokens = base->window,
                                 .tokens = tokens,
                                 .positions = positions,
                                 .seq_of = seq_of,
                                 .n_seqs = 1,
                                 .seqs = &table,
                                 .n_logit_rows = n_wanted,
                                 .logit_rows = wanted,
                                 .logits = logits};
    return engine_forward(e, &batch, NULL, err);
}

static enum rc kld_against_model(struct kld_sums *s, const struct kld_file *base, const char *path,
                                 struct err *err)
{
    struct engine *e = NULL;
    uint32_t n_wanted = base->window - 1 - base->window / 2;
    float *row = mem_zalloc_array(base->vocab, sizeof(float));
    float *logits = mem_zalloc_array((size_t)n_wanted * base->vocab, sizeof(float));
    enum rc rc = kld_open_model(&e, base, path, err);
    for (uint32_t w = 0; w < base->n_windows && rc == RC_OK; w++) {
        rc = kld_window(e, base, w, logits, err);
        for (uint32_t i = 0; i < n_wanted && rc == RC_OK; i++) {
            float *ours = logits + (size_t)i * base->vocab;
            kld_file_row(base, (size_t)w * n_wanted + i, row);
            kld_normalise(ours, base->vocab);
            kld_add(s, row, ours, base->vocab);
        }
    }
    engine_close(e);
    mem_free(row);
    mem_free(logits);
    return rc;
}

static bool kld_is_model(const char *path)
{
    struct str name = str_from(path);
    return str_ends(name, STR_LIT(".gguf"));
}

int main(int argc, char **argv)
{
    struct kld_file base = {0};
    struct kld_sums s = {0};
    struct err err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: kld BASE OTHER\n");
        return 2;
    }
    enum rc rc = kld_open(&base, argv[1], &err);
    if (rc == RC_OK && kld_is_model(argv[2])) {
        rc = kld_against_model(&s, &base, argv[2], &err);
    } else if (rc == RC_OK) {
        rc = kld_against_file(&s, &base, argv[2], &err);
    }
    buf_deinit(&base.bytes);
    if (rc != RC_OK) {
        fprintf(stderr, "kld: %s\n", err.msg);
        return 1;
    }
    printf("{\"n\":%llu,\"mean_kld\":%.9g,\"same_top\":%.6f,\"tie_gap\":%.9g}\n",
           (unsigned long long)s.n, s.kld / (double)s.n, (double)s.n_same / (double)s.n, s.tie_gap);
    return 0;
}
